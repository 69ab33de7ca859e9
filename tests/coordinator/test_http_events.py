"""An event over HTTP is answered with what becomes of it: taken now, kept, or refused by a saga that has ended."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sagabus.contracts.names import SagaId
from sagabus.coordinator.core.saga.concern import Concern, ConcernKind, Concerns, concerns_json
from sagabus.coordinator.core.saga.events import AwaitedEvent, Events, events_json
from sagabus.coordinator.core.saga.history import Kind
from sagabus.coordinator.core.saga.status import CLOSED as CLOSED_STATUSES
from sagabus.coordinator.core.saga.status import SagaStatus
from sagabus.coordinator.http import event_requests
from sagabus.coordinator.shard.early_requests import EARLY_MICROSECONDS
from sagabus.coordinator.store import EarlyRequest, StartedId, Writes
from sagabus.coordinator.store.copy_format import NewHistory
from sagabus.coordinator.store.migrations import migrate
from sagabus.messaging.postgres.database import Database
from sagabus.shop.expense_approval import expense_approval
from tests.coordinator.saga_rows import AT, saga
from tests.coordinator.test_http import CLOSED, REQUEST, SAGAS, SHARD_ROW, Api, api, history, offline
from tests.coordinator.test_http import _api as api_of
from tests.messaging.shards_fixture import Given

__all__ = ["api", "offline"]

NAME = "payment.confirmed"


def events(row: int, *names: str) -> bytes | None:
    return events_json(Events(row, tuple(AwaitedEvent(name, AT) for name in names)))


async def there(api: Api, **fields: Any) -> None:
    """A saga with two rows of history, the second an event with the id `ref-2`."""
    row = saga(**fields)
    rows = history((Kind.STARTED, 0, 0, "o", REQUEST), (Kind.EVENT, 0, 0, NAME, b"{}"))
    await api.write(Writes(new_sagas=[row], history=NewHistory((row.key, rows, 1))))


async def sent(api: Api, name: str = NAME, **more: Any) -> tuple[int, Any]:
    answer = await api.client.post(f"{SAGAS}/ORD-1/events", json={"name": name, **more})
    return answer.status_code, answer.json()


@pytest.mark.parametrize("status", sorted(CLOSED_STATUSES))
async def test_an_event_for_a_saga_that_has_ended_is_refused_and_not_published(api: Api, status: SagaStatus) -> None:
    await there(api, **{**CLOSED, "status": status})
    code, body = await sent(api)
    assert (code, body["error"]["code"]) == (409, "saga.closed")
    assert body["error"]["message"] == f"ORD-1: event refused: saga ORD-1 has ended ({status})"
    assert api.published == []


async def test_one_that_the_saga_has_taken_before_its_end_is_no_refusal(api: Api) -> None:
    """Whoever sends it again has not heard that it was received."""
    await there(api, **CLOSED)
    code, body = await sent(api, event_id="ref-2")
    assert (code, body["words"]) == (202, "saga ORD-1 has received it before: it counts once")
    assert (await sent(api, event_id="ref-1"))[0] == 409


async def test_an_event_for_a_saga_that_retention_has_removed_is_refused(api: Api) -> None:
    row = saga()
    await api.write(Writes(started_ids=[StartedId(SagaId("ORD-1"), row.run, b"", AT, 3)]))
    code, body = await sent(api)
    assert (code, body["error"]["code"], api.published) == (409, "saga.closed", [])
    assert "removed by retention" in body["error"]["message"]


async def test_an_event_for_a_saga_that_is_not_started_is_kept_and_for_how_long(api: Api) -> None:
    code, body = await sent(api)
    minutes = EARLY_MICROSECONDS // 60_000_000
    assert (code, len(api.published), body["waits_for"]) == (202, 1, None)
    assert body["words"] == f"no saga ORD-1 is started yet: it is kept for {minutes} min, until one is"


async def test_an_event_beyond_those_that_are_kept_for_an_id_is_refused(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_requests, "EARLY_LIMIT", 2)
    early = Given("sagabus.requests", 3, 0, key=b"ORD-1")
    for number in (1, 2):
        assert (await sent(api))[0] == 202
        kept = EarlyRequest.of(early, shard=3, saga_id=SagaId("ORD-1"), number=number, at=AT)
        await api.write(Writes(early_added=[kept]))
        if number == 1:
            async with api.database.transaction() as connection:
                await connection.execute(SHARD_ROW)
    code, body = await sent(api)
    assert (code, body["error"]["code"], len(api.published)) == (409, "early.too_many", 2)


async def test_an_event_that_is_waited_for_and_one_with_a_wrong_name_are_told_apart(api: Api) -> None:
    await there(api, events=events(2, "order.signed", NAME))
    assert await sent(api, event_id="mine") == (202, {
        "id": "ORD-1", "message_id": "mine", "name": NAME, "words": "the saga's code waits for it",
        "waits_for": ["order.signed", NAME],
    })  # fmt: skip
    code, body = await sent(api, "payment.confirmd")
    assert (code, body["waits_for"]) == (202, ["order.signed", NAME])
    assert body["words"] == (f"it is kept until the saga's code waits for it; now it waits for order.signed, {NAME}")


@pytest.mark.parametrize(
    ("fields", "words", "waits_for"),
    [
        ({}, "it is kept until the saga's code waits for it; now it waits for no event", []),
        ({"events": events(1, NAME)}, "it is kept until the saga's code waits for it", None),
        ({"events": events(2, NAME), "paused": True}, "it is kept until the saga is resumed: it is paused", None),
        ({"status": SagaStatus.COMPENSATING}, "nothing comes of it: the saga is being undone", []),
        (
            {"concerns": concerns_json(Concerns([(Concern(ConcernKind.DIVERGED), "x")])), "attention": "x"},
            "it is kept until the saga's code can go on", None,
        ),
    ],
)  # fmt: skip
async def test_what_becomes_of_an_event_follows_from_how_its_saga_stands(
    api: Api, fields: dict[str, Any], words: str, waits_for: list[str] | None
) -> None:
    await there(api, **fields)
    code, body = await sent(api)
    assert (code, body["words"], body["waits_for"], len(api.published)) == (202, words, waits_for, 1)


async def test_an_event_is_taken_while_the_database_does_not_answer(offline: Api) -> None:
    code, body = await sent(offline)
    assert (code, len(offline.published), body["waits_for"]) == (202, 1, None)
    assert body["words"].startswith("what becomes of it is not known: ")


async def test_a_name_in_part_is_what_the_saga_waits_for_if_that_is_asked_for(api: Api) -> None:
    """A program is taken at its word."""
    await there(api, events=events(2, "order.signed", NAME))
    near = f"{SAGAS}/ORD-1/events?name=near"
    answer = await api.client.post(near, json={"name": "confirmed"})
    assert (answer.status_code, answer.json()["name"]) == (202, NAME)
    assert (await sent(api, "confirmed"))[1]["name"] == "confirmed"
    names = [json.loads(message.value or b"")["name"] for message in api.published]
    assert names == [NAME, "confirmed"]


async def test_a_name_with_a_slip_is_refused_and_not_published_if_that_is_asked_for(api: Api) -> None:
    await there(api, events=events(2, "order.signed", NAME))
    answer = await api.client.post(f"{SAGAS}/ORD-1/events?name=near", json={"name": "payment.confirmd"})
    assert (answer.status_code, answer.json()["error"]["code"], api.published) == (422, "event.unknown", [])
    assert answer.json()["error"]["message"].endswith(f"did you mean '{NAME}'?")
    assert answer.json()["error"]["parameter"] == "name=exact"
    wrong = await api.client.post(f"{SAGAS}/ORD-1/events?name=maybe", json={"name": NAME})
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (400, "query.name")


async def test_a_name_is_taken_as_it_is_while_the_database_is_away(offline: Api) -> None:
    answer = await offline.client.post(f"{SAGAS}/ORD-1/events?name=near", json={"name": "confirmed"})
    assert (answer.status_code, answer.json()["name"]) == (202, "confirmed")


async def test_data_that_the_sagas_code_cannot_read_is_refused_and_not_published(database: str) -> None:
    pool = Database(database)
    await migrate(database, "sagabus")
    async with api_of(pool, made_of=[expense_approval]) as made:
        await there(made, definition="expense_approval")
        url, asked = f"{SAGAS}/ORD-1/events", {"name": "decided", "data": {"approved": "perhaps", "by": "ann"}}
        answer = await made.client.post(url, params={"name": "near"}, json=asked)
        assert (answer.status_code, answer.json()["error"]["code"], made.published) == (422, "event.unreadable", [])
        assert answer.json()["error"]["message"].startswith("event approvals.decided: data.approved: ")
        asked["data"] = {"approved": True, "by": "ann"}
        assert (await made.client.post(url, params={"name": "near"}, json=asked)).status_code == 202
        code, _ = await sent(made, "approvals.decided", data={"approved": "perhaps", "by": "ann"})
        assert (code, len(made.published)) == (202, 2), "a program is taken at its word"
    await pool.stop()
