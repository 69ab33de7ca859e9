"""The API on the real store: what people see, what they may ask for, and who may ask."""

from __future__ import annotations

import asyncio
import json
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from sagabus.contracts.envelope import MAX_PAYLOAD, Message
from sagabus.contracts.headers import HeaderReader
from sagabus.contracts.names import RunId, SagaId
from sagabus.coordinator.core.saga import recorded
from sagabus.coordinator.core.saga.concern import MOST_STORED, Concern, ConcernKind, Concerns, concerns_json
from sagabus.coordinator.core.saga.history import Kind, Row
from sagabus.coordinator.core.saga.status import SagaStatus
from sagabus.coordinator.definition import SagaDefinition
from sagabus.coordinator.http import (
    CannotListen,
    Closings,
    RequestAnswers,
    application,
    saga_requests,
    serve,
    serving,
)
from sagabus.coordinator.http import query as http_query
from sagabus.coordinator.http.saga_views import ROWS_OF_ONE
from sagabus.coordinator.store import EarlyRequest, SagaRow, Store, TimerRef, Writes, operators, recent
from sagabus.coordinator.store.copy_format import NewHistory
from sagabus.coordinator.store.migrations import migrate
from sagabus.coordinator.store.read import history_row
from sagabus.coordinator.store.rows import head_of
from sagabus.messaging.bus.kafka_connection import KafkaUnreachable
from sagabus.messaging.bus.publish_errors import PublishFailed, PublishRefused, Reason
from sagabus.messaging.postgres.database import Database
from sagabus.messaging.settings import Settings, SettingsError
from tests.coordinator.saga_rows import AT, saga
from tests.messaging.shards_fixture import Given
from tests.support.conditions import until

SAGAS = "/api/v1/sagas"
BASE = "http://127.0.0.1:8080"
NOTE = Message.of("t", None, None, (), "a")


async def _nobody(_: Message) -> None:
    """The owner is dead."""


@dataclass
class Api:
    """The application under test, a client of it, and what it published."""

    app: Starlette
    client: httpx.AsyncClient
    database: Database
    closings: Closings
    answers: RequestAnswers
    published: list[Message] = field(default_factory=list)
    failure: Exception | None = None
    why_not: str = ""
    accepts: bool = True
    owned: bool = False
    owner: Callable[[Message], Awaitable[None]] = field(default=_nobody)
    """Whoever decides upon what is published."""

    async def write(self, writes: Writes) -> None:
        async with self.database.transaction() as connection:
            await Store("sagabus").write(connection, writes)

    async def get(self, path: str, **parameters: Any) -> Any:
        answer = await self.client.get(path, params=parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()


@pytest.fixture
async def api(database: str) -> AsyncIterator[Api]:
    await migrate(database, "sagabus")
    pool = Database(database)
    async with _api(pool) as made:
        yield made
    await pool.stop()


@pytest.fixture
async def offline() -> AsyncIterator[Api]:
    """For what is answered without the database."""
    async with _api(Database("postgresql://postgres@127.0.0.1:1/none")) as made:
        yield made


@asynccontextmanager
async def _api(
    database: Database, *, made_of: Sequence[SagaDefinition[Any, Any]] | None = None, **settings: Any
) -> AsyncIterator[Api]:
    """made_of: the definitions that starts are checked against."""
    closings, answers = Closings(), RequestAnswers()

    async def publish(message: Message) -> None:
        if made.failure is not None:
            raise made.failure
        made.published.append(message)
        await made.owner(message)

    async def why_not() -> str:
        return made.why_not

    app = application(
        database=database, settings=Settings(**settings), publish=publish, closings=closings, answers=answers,
        definitions=made_of, why_not=why_not, owns=lambda _: made.owned, accepts=lambda: made.accepts,
    )  # fmt: skip
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url=BASE) as client:
        made = Api(app, client, database, closings, answers)
        yield made


CLOSED: dict[str, Any] = {
    "status": SagaStatus.COMPLETED, "result": b'{"order_id": "ORD-1"}', "closed_at": AT + 1_000_000,
}  # fmt: skip


def history(*rows: tuple[Any, ...]) -> list[Row]:
    """(kind, step, attempt, name, payload)"""
    return [
        Row(seq, AT + seq, kind, step, attempt, name, f"ref-{seq}", payload)
        for seq, (kind, step, attempt, name, payload) in enumerate(rows, 1)
    ]


SHARD_ROW = """
    INSERT INTO sagabus.shard
        (shard, token, turn, cluster, generation, partitions, topics, next_position, relay_position)
    VALUES (3, gen_random_uuid(), 1, 'c', 1, 12, '{}', 1, 0)"""

REQUEST = b'{"type": "start", "saga": "order_processing", "input": {"order_id": "ORD-1"}}'


# What people see


async def test_an_open_saga_is_shown(api: Api) -> None:
    parent: dict[str, Any] = {"parent_id": SagaId("P"), "parent_run": RunId("p"), "parent_step": 2}
    row = saga(attention="look", attributes=b'{"city": "Bern"}', **parent)
    rows = history((Kind.STARTED, 0, 0, "order_processing", REQUEST), (Kind.COMMAND, 1, 0, "inventory.reserve", b"{}"))
    timer = TimerRef(3, row.id, row.run, "timeout", 1)
    await api.write(Writes(new_sagas=[row], history=NewHistory((row.key, rows, 1)), timers={timer: AT + 60_000_000}))
    assert await api.get(f"{SAGAS}/ORD-1") == {
        "id": "ORD-1", "run": "r1", "saga": "order_processing", "version": 1, "status": "running",
        "attention": "look", "concerns": [{
            "kind": "other", "step": None, "words": "look",
            "cure": "do what its words say, then `sagabus acknowledge ORD-1 --reason WHY`",
        }],
        "paused": False, "shard": 3,
        "started_at": "2026-09-21T14:13:20.123457Z", "closed_at": None,
        "input": {"order_id": "ORD-1"}, "result": None, "error": None, "error_code": None,
        "attributes": {"city": "Bern"},
        "parent": {"id": "P", "run": "p", "step": 2},
        "timers": [{"kind": "timeout", "number": 1, "due": "2026-09-21T14:14:20.123457Z"}],
        "waits": [{
            "kind": "answer", "words": "inventory has not answered step 1 (inventory.reserve), attempt 1", "step": 1,
            "activity": "inventory.reserve", "service": "inventory", "command": "do", "attempt": 1,
            "concern": None, "event": None, "since": "2026-09-21T14:13:20.123459Z",
            "due": "2026-09-21T14:14:20.123457Z",
        }],
        "waits_complete": True, "events": [], "history_rows": 2,
    }  # fmt: skip
    assert await api.get(f"{SAGAS}/ORD-1/steps") == {
        "id": "ORD-1", "run": "r1", "next": None,
        "steps": [{
            "number": 1, "activity": "inventory.reserve", "status": "sent", "attempts": 1,
            "output": None, "error": None, "undo": "none", "compensation": None, "undo_error": None, "waits": None,
            "since": "2026-09-21T14:13:20.123459Z", "undo_attempts": 0,
        }],
    }  # fmt: skip


async def test_how_many_older_concerns_there_are_is_no_step(api: Api) -> None:
    concerns = Concerns((Concern(ConcernKind.UNDO, number), "look") for number in range(1, MOST_STORED + 9))
    await api.write(Writes(new_sagas=[saga(attention="look", concerns=concerns_json(concerns))]))
    first, second = (await api.get(f"{SAGAS}/ORD-1"))["concerns"][:2]
    assert (first["kind"], first["step"]) == ("more", None)
    assert (second["kind"], second["step"]) == ("undo", 9)


async def test_a_run_can_be_asked_for(api: Api) -> None:
    await api.write(Writes(new_sagas=[saga(run="old", **CLOSED), saga(run="new", started_at=AT + 5)]))
    assert (await api.get(f"{SAGAS}/ORD-1"))["run"] == "new"
    assert (await api.get(f"{SAGAS}/ORD-1", run="old"))["run"] == "old"
    assert (await api.client.get(f"{SAGAS}/ORD-1", params={"run": "none"})).status_code == 404


async def test_steps_are_told_from_history(api: Api) -> None:
    failure, output = b'{"code": "x"}', b'{"id": 7}'
    rows = history(
        (Kind.STARTED, 0, 0, "order_processing", REQUEST),
        *((Kind.COMMAND, number, 0, f"a.step_{number}", b"{}") for number in range(1, 8)),
        (Kind.STEP_COMPLETED, 1, 1, "a", output),
        (Kind.STEP_FAILED, 2, 1, "a", failure),
        (Kind.TIMER, 2, 0, "retry", None),
        (Kind.STEP_COMPLETED, 2, 2, "a", output),
        (Kind.STEP_FAILED, 3, 1, "a", failure),
        (Kind.STEP_FAILED, 4, 1, "a", failure),
        (Kind.STEP_REFUSED, 5, 1, "a", failure),
        (Kind.TIMER, 6, 0, "timeout", None),
        (Kind.SETTLE, 6, 0, "a.step_6", None),
        (Kind.SETTLE_NEVER, 6, 0, "a", None),
        (Kind.TIMER, 7, 0, "sleep", None),
        (Kind.UNDO, 2, 0, "a.undo_2", b"{}"),
        (Kind.UNDO_FAILED, 2, 1, "a", failure),
        (Kind.TIMER, 2, 0, "undo_retry", None),
        (Kind.UNDO_COMPLETED, 2, 2, "a", None),
        (Kind.UNDO, 1, 0, "a.undo_1", b"{}"),
        (Kind.UNDO_REFUSED, 1, 1, "a", failure),
    )
    row = saga()
    await api.write(
        Writes(
            new_sagas=[row],
            history=NewHistory((row.key, rows, 1)),
            timers={TimerRef(3, row.id, row.run, "retry", 3): AT + 10},
        )
    )
    steps = {step["number"]: step for step in (await api.get(f"{SAGAS}/ORD-1/steps"))["steps"]}
    told = {n: (s["status"], s["attempts"], s["undo"], s["compensation"]) for n, s in steps.items()}
    assert told == {
        1: ("completed", 1, "paused", "a.undo_1"),
        2: ("completed", 2, "done", "a.undo_2"),
        3: ("paused", 1, "none", None),
        4: ("unknown", 1, "none", None),
        5: ("failed", 1, "none", None),
        6: ("never", 1, "done", None),
        7: ("sent", 1, "none", None),
    }
    assert (steps[2]["output"], steps[2]["error"], steps[2]["undo_error"]) == ({"id": 7}, None, None)
    assert (steps[5]["error"], steps[1]["undo_error"]) == ({"code": "x"}, {"code": "x"})


async def test_steps_are_shown_page_by_page(api: Api) -> None:
    await _write_long_saga(api, steps=700)
    first = await api.get(f"{SAGAS}/ORD-1/steps", limit=500)
    rest = await api.get(f"{SAGAS}/ORD-1/steps", limit=500, after=first["next"])
    assert [step["number"] for step in first["steps"] + rest["steps"]] == list(range(1, 701))
    assert {step["status"] for step in first["steps"] + rest["steps"]} == {"completed"}
    assert (first["next"], rest["next"]) == (500, None)


async def test_the_next_page_of_steps_reads_no_history_again_and_says_what_is_new(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each page is told from the whole history: for a long saga that would cost the square of its length."""
    await _write_long_saga(api, steps=700)
    read = _rows_read(monkeypatch)
    after, numbers = 0, list[int]()
    while after is not None:
        page = await api.get(f"{SAGAS}/ORD-1/steps", limit=100, after=after)
        numbers += [step["number"] for step in page["steps"]]
        after = page["next"]
    assert numbers == list(range(1, 701))
    assert len(read) == 1 + 700 + 700
    called = Row(1_402, AT, Kind.COMMAND, 701, 0, "a.step_701", "ref", b"{}")
    await api.write(Writes(history=NewHistory((saga().key, [called], 1))))
    page = await api.get(f"{SAGAS}/ORD-1/steps", after=699)
    assert [(step["number"], step["status"]) for step in page["steps"]] == [(700, "completed"), (701, "sent")]


async def test_a_look_at_a_saga_reads_few_rows_of_its_history(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long it is, and however many timers it has: who waits for it looks again and again."""
    await _write_long_saga(api, steps=700)
    timers: dict[TimerRef, int | None] = {
        TimerRef(3, SagaId("ORD-1"), RunId("r1"), "timeout", number): AT + number for number in range(1, 701)
    }
    await api.write(Writes(timers=timers))
    read = _rows_read(monkeypatch)
    shown = await api.get(f"{SAGAS}/ORD-1", wait=0.2)
    assert (shown["input"], len(shown["timers"])) == ({"order_id": "ORD-1"}, operators.MAX_TIMERS_SHOWN)
    assert (shown["history_rows"], shown["waits_complete"]) == (1_401, False)
    assert len(read) == 1 + ROWS_OF_ONE


def _rows_read(monkeypatch: pytest.MonkeyPatch) -> list[Row]:
    """The rows of history that are read from here on."""
    read: list[Row] = []

    def noted(values: Any) -> Row:
        read.append(history_row(values))
        return read[-1]

    monkeypatch.setattr(operators, "history_row", noted)
    monkeypatch.setattr(recent, "history_row", noted)
    return read


async def _write_long_saga(api: Api, *, steps: int) -> None:
    numbers = range(1, steps + 1)
    rows = history(
        (Kind.STARTED, 0, 0, "order_processing", REQUEST),
        *((Kind.COMMAND, number, 0, f"a.step_{number}", b"{}") for number in numbers),
        *((Kind.STEP_COMPLETED, number, 1, "a", b"{}") for number in numbers),
    )
    await api.write(Writes(new_sagas=[saga()], history=NewHistory((saga().key, rows, 1))))


async def test_an_exported_history_is_read_as_the_rows_that_are_stored(api: Api) -> None:
    rows = history(
        (Kind.STARTED, 0, 0, "order_processing", REQUEST),
        (Kind.COMMAND, 1, 0, "a.b", b'{"a": 1}'),
        (Kind.STEP_COMPLETED, 1, 1, "a", None),
        (Kind.NOTICE, 1, 0, "late_success", b"\xff"),
    )
    await api.write(Writes(new_sagas=[saga()], history=NewHistory((saga().key, rows, 1))))
    first = await api.get(f"{SAGAS}/ORD-1/export", limit=3)
    rest = await api.get(f"{SAGAS}/ORD-1/export", limit=3, after=first["next"])
    assert (first["next"], rest["next"], first["head"]) == (3, None, rest["head"])
    read = recorded.read(map(recorded.line, (first["head"], *first["rows"], *rest["rows"])))
    assert read.head == head_of(saga())
    assert read.rows == [replace(row, sequence=1) for row in rows]


async def test_history_is_shown_page_by_page_whatever_it_holds(api: Api) -> None:
    rows = history(
        (Kind.STARTED, 0, 0, "order_processing", REQUEST),
        (Kind.STEP_COMPLETED, 1, 1, "a", b"\xff\0"),
        (Kind.CANCEL, 0, 0, "", b"changed my mind"),
        (Kind.TIMER, 0, 0, "saga", None),
    )
    await api.write(Writes(new_sagas=[saga()], history=NewHistory((saga().key, rows, 1))))
    first = await api.get(f"{SAGAS}/ORD-1/history", limit=3)
    rest = await api.get(f"{SAGAS}/ORD-1/history", limit=3, after=first["next"])
    assert [row["seq"] for row in first["rows"] + rest["rows"]] == [1, 2, 3, 4]
    assert rest["next"] is None
    assert [row["payload"] for row in first["rows"]] == [json.loads(REQUEST), {"base64": "/wA="}, "changed my mind"]
    assert first["rows"][1] | {"payload": None} == {
        "seq": 2, "at": "2026-09-21T14:13:20.123459Z", "kind": "step.completed", "step": 1, "attempt": 1, "name": "a",
        "ref": "ref-2", "payload": None,
    }  # fmt: skip


async def test_lists_are_filtered_and_paged(api: Api) -> None:
    rows = [saga(f"S-{n}", started_at=AT + n, attention="look" if n == 3 else None) for n in range(5)]
    rows[1] = saga("S-1", started_at=AT + 1, **CLOSED)
    await api.write(Writes(new_sagas=[*rows, saga("S-9", definition="other", started_at=AT - 1)]))

    async def ids(**parameters: Any) -> list[str]:
        return [one["id"] for one in (await api.get(SAGAS, **parameters))["sagas"]]

    assert await ids() == ["S-4", "S-3", "S-2", "S-1", "S-0", "S-9"]
    assert await ids(status="completed") == ["S-1"]
    assert await ids(status=["completed", "running"], saga="order_processing") == ["S-4", "S-3", "S-2", "S-1", "S-0"]
    assert await ids(attention="true") == ["S-3"]
    page = await api.get(SAGAS, limit=4)
    assert await ids(limit=4, cursor=page["next"]) == ["S-0", "S-9"]
    assert (await api.get(SAGAS, limit=6))["next"] is None


async def test_c4_a_list_says_what_each_open_saga_waits_for_and_finds_those_that_wait_for_a_service(api: Api) -> None:
    row_of = {id: saga(id, started_at=AT + n) for n, id in enumerate(("S-0", "S-1", "S-2"))}
    row_of["S-3"] = saga("S-3", started_at=AT + 3, **CLOSED)
    activities = {"S-0": "bank.charge", "S-1": "stock.reserve", "S-2": "bank.charge", "S-3": "bank.charge"}
    rows = {
        id: history((Kind.STARTED, 0, 0, "o", REQUEST), (Kind.COMMAND, 1, 0, activity, b"{}"))
        for id, activity in activities.items()
    }
    await api.write(
        Writes(
            new_sagas=[*row_of.values()],
            history=NewHistory(*((row_of[id].key, rows[id], 1) for id in row_of)),
            timers={TimerRef(3, SagaId("S-1"), RunId("r1"), "timeout", 1): AT + 60_000_000},
        )
    )
    listed = {one["id"]: one["waits"] for one in (await api.get(SAGAS))["sagas"]}
    assert {id: [wait["service"] for wait in waits] for id, waits in listed.items()} == {
        "S-3": [], "S-2": ["bank"], "S-1": ["stock"], "S-0": ["bank"],
    }  # fmt: skip
    assert listed["S-1"][0]["due"] == "2026-09-21T14:14:20.123457Z"
    page = await api.get(SAGAS, service="bank", limit=2)
    assert [one["id"] for one in page["sagas"]] == ["S-2"]
    page = await api.get(SAGAS, service="bank", limit=2, cursor=page["next"])
    assert ([one["id"] for one in page["sagas"]], page["next"]) == (["S-0"], None)
    assert (await api.get(SAGAS, service="bank", status="completed"))["sagas"] == []


async def test_c4_a_saga_of_which_not_all_is_known_is_in_the_list_of_each_service(api: Api) -> None:
    """An operator must not see an empty list while a saga waits."""
    started = (Kind.STARTED, 0, 0, "o", REQUEST), (Kind.COMMAND, 1, 0, "bank.charge", b"{}")
    rows = {
        id: history(*started, *((Kind.EVENT, 0, 0, "e", b"1") for _ in range(n))) for id, n in (("A", 30), ("B", 1))
    }
    keys = {id: saga(id).key for id in rows}
    await api.write(
        Writes(new_sagas=[saga(id) for id in rows], history=NewHistory(*((keys[id], rows[id], 1) for id in rows)))
    )
    found = {
        service: {one["id"]: one["waits_complete"] for one in (await api.get(SAGAS, service=service))["sagas"]}
        for service in ("bank", "post")
    }
    assert found == {"bank": {"A": False, "B": True}, "post": {"A": False}}


async def test_lists_are_filtered_by_id_age_error_and_concern(api: Api) -> None:
    old = saga("A-1", started_at=AT - 10, error=b'{"code":"no","message":"x"}')
    concern: dict[str, Any] = {"attention": "x", "concerns": b'[{"kind": "undo", "number": 1, "words": "x"}]'}
    await api.write(Writes(new_sagas=[old, saga("A-2", started_at=AT, **concern), saga("B-1", started_at=AT + 10)]))

    async def ids(**parameters: Any) -> list[str]:
        return [one["id"] for one in (await api.get(SAGAS, **parameters))["sagas"]]

    assert await ids(id_prefix="A-") == ["A-1", "A-2"]
    assert await ids(error="no") == ["A-1"]
    assert await ids(concern="undo") == ["A-2"]
    assert await ids(started_before="2026-09-21T14:13:20.123457Z") == ["A-1"]
    assert await ids(started_before="2026-09-21T16:13:20.123458+02:00") == ["A-2", "A-1"]
    assert await ids(started_before="36500d") == []


async def test_events_that_came_are_told_and_requests_that_are_kept_for_a_saga_that_is_not_there(api: Api) -> None:
    rows = history(
        (Kind.STARTED, 0, 0, "o", REQUEST),
        (Kind.EVENT, 0, 0, "a.decided", b"{}"),
        (Kind.EVENT, 0, 0, "a.decided", b"{}"),
    )
    early = Given("sagabus.requests", 3, 0, key=b"ORD-2")
    kept = [EarlyRequest.of(early, shard=3, saga_id=SagaId("ORD-2"), number=n, at=AT) for n in (1, 2)]
    await api.write(Writes(new_sagas=[saga()], history=NewHistory((saga().key, rows, 1)), early_added=kept))
    async with api.database.transaction() as connection:
        await connection.execute(SHARD_ROW)
    assert (await api.get(f"{SAGAS}/ORD-1"))["events"] == [
        {"name": "a.decided", "received": 2, "latest_at": "2026-09-21T14:13:20.123460Z", "kept": 0}
    ]
    error = (await api.client.get(f"{SAGAS}/ORD-2")).json()["error"]
    assert (error["code"], error["kept_requests"]) == ("saga.not_found", 2)
    assert error["message"].endswith("kept until it is started: 2")
    assert "kept_requests" not in (await api.client.get(f"{SAGAS}/ORD-3")).json()["error"]


@pytest.mark.parametrize(
    ("path", "code"),
    [
        (f"{SAGAS}?status=done", "query.status"),
        (f"{SAGAS}?limit=0", "query.limit"),
        (f"{SAGAS}?concern=odd", "query.concern"),
        (f"{SAGAS}?id_prefix=a%20b", "query.id_prefix"),
        (f"{SAGAS}?service=Odd%20name", "query.service"),
        (f"{SAGAS}?error=%00", "query.error"),
        (f"{SAGAS}?where=stage", "query.where"),
        (f"{SAGAS}?where=st%20age=x", "query.where"),
        (f"{SAGAS}?where=stage=%00", "query.where"),
        (f"{SAGAS}?where==x", "query.where"),
        (f"{SAGAS}?" + "&".join(f"where=a{n}=1" for n in range(9)), "query.where"),
        (f"{SAGAS}?started_before=soon", "query.started_before"),
        (f"{SAGAS}?updated_before=2026-01-31T12:00:00", "query.updated_before"),
        (f"{SAGAS}?updated_before=-5s", "query.updated_before"),
        (f"{SAGAS}?limit=x", "query.limit"),
        (f"{SAGAS}?attention=maybe", "query.attention"),
        (f"{SAGAS}?cursor=nonsense", "query.cursor"),
        (f"{SAGAS}?cursor=" + urlsafe_b64encode(b'["1", "a", "b"]').decode(), "query.cursor"),
        (f"{SAGAS}/ORD-1?wait=nan", "query.wait"),
        (f"{SAGAS}/ORD-1?wait=-1", "query.wait"),
        (f"{SAGAS}/ORD-1/history?after=x", "query.after"),
        (f"{SAGAS}/ORD%201", "saga_id.invalid"),
    ],
)
async def test_a_wrong_address_is_answered_with_the_cure(offline: Api, path: str, code: str) -> None:
    answer = await offline.client.get(path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)
    assert "give" in answer.json()["error"]["message"]


async def test_what_is_not_there_is_said_so(api: Api) -> None:
    for path in (f"{SAGAS}/ORD-1", f"{SAGAS}/ORD-1/steps", f"{SAGAS}/ORD-1/history", f"{SAGAS}/ORD-1/export"):
        answer = await api.client.get(path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "saga.not_found")
    assert (await api.client.get("/api/v2")).json()["error"]["code"] == "http.not_found"
    assert (await api.client.delete(SAGAS)).json()["error"]["code"] == "http.method_not_allowed"


# Waiting


async def test_a_saga_of_this_process_is_heard_of_at_once(api: Api) -> None:
    api.owned = True
    await api.write(Writes(new_sagas=[saga()]))
    waiting = asyncio.create_task(api.get(f"{SAGAS}/ORD-1", wait=50))
    await until(lambda: api.closings._waiting)
    await api.write(Writes(changed_sagas=[saga(**CLOSED)]))
    api.closings.closed(iter([SagaId("ORD-1")]))
    async with asyncio.timeout(4):  # the next look would be later
        assert (await waiting)["status"] == "completed"
    assert not api.closings._waiting


async def test_a_saga_of_another_process_and_a_start_on_its_way_are_found_by_looking(api: Api) -> None:
    waiting = asyncio.create_task(api.get(f"{SAGAS}/ORD-1", wait=50))
    await until(lambda: api.closings._waiting)
    await api.write(Writes(new_sagas=[saga()]))
    await api.write(Writes(changed_sagas=[saga(**CLOSED)]))
    assert (await waiting)["result"] == {"order_id": "ORD-1"}


async def test_waiting_ends_with_what_is_known(api: Api) -> None:
    await api.write(Writes(new_sagas=[saga()]))
    assert (await api.get(f"{SAGAS}/ORD-1", wait=0.1))["status"] == "running"
    assert (await api.client.get(f"{SAGAS}/ORD-2?wait=0.1")).status_code == 404


async def test_nobody_waits_longer_than_a_minute(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_query, "MAX_WAIT", 0.1)
    await api.write(Writes(new_sagas=[saga()]))
    assert (await api.get(f"{SAGAS}/ORD-1", wait=1e6))["status"] == "running"


async def test_what_closed_between_looking_and_listening_is_not_missed() -> None:
    """The signal is there before the first look."""
    closings, looks = Closings(), 0

    async def look() -> SagaRow:
        nonlocal looks
        looks += 1
        if looks == 1:
            closings.closed(["ORD-1"])
            return saga()
        return saga(**CLOSED)

    async def never() -> bool:
        return False

    async with asyncio.timeout(4):
        row = await closings.wait("ORD-1", look, seconds=50, owned=lambda: True, given_up=never)
    assert row is not None
    assert row.is_closed


# Asking for something


async def test_a_start_is_published_as_a_request(offline: Api) -> None:
    body = {"saga": "order_processing", "id": "ORD-1", "input": {"n": 1, "text": "ä"}}
    answer = await offline.client.post(SAGAS, json=body)
    (message,) = offline.published
    headers = HeaderReader(message.headers)
    assert answer.status_code == 202
    assert answer.json() == {"id": "ORD-1", "message_id": headers.text("ce_id"), "ignored": []}
    assert answer.headers["location"] == f"{SAGAS}/ORD-1"
    assert (message.topic, message.key) == ("sagabus.requests", b"ORD-1")
    assert json.loads(message.value or b"") == {"type": "start", "saga": "order_processing", "input": body["input"]}
    assert (headers.text("ce_type"), headers.text("ce_subject")) == ("sagabus.start", "ORD-1")


async def test_events_and_cancels_are_published_as_requests(offline: Api) -> None:
    event = {"name": "payment.confirmed", "data": {"n": 1}}
    await offline.client.post(f"{SAGAS}/ORD-1/events", json={**event, "event_id": "mine"})
    await offline.client.post(f"{SAGAS}/ORD-1/events", json=event)
    await offline.client.post(f"{SAGAS}/ORD-1/cancel?wait=0", json={"reason": "changed my mind", "actor": "ann"})
    bodies = [json.loads(message.value or b"") for message in offline.published]
    asked = {"type": "event", **event}
    assert bodies == [asked, asked, {"type": "cancel", "reason": "changed my mind", "actor": "ann"}]
    ids = [HeaderReader(message.headers).text("ce_id") for message in offline.published]
    assert ids[0] == "mine"
    assert len(set(ids)) == 3


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "payload.invalid"),
        (b"nonsense", 400, "payload.not_json"),
        (b'{"saga": "x", "input": {}}', 400, "payload.invalid"),
        (b'{"saga": "x", "id": "a b", "input": {}}', 400, "saga_id.invalid"),
        (b'{"saga": "x", "id": "a", "input": 1e999}', 400, "payload.not_json"),
        (b'{"saga": "x", "id": "a", "input": NaN}', 400, "payload.not_json"),
        (b'{"saga": "x", "id": "a", "input": ' + b"[" * 200 + b"]" * 200 + b"}", 400, "payload.too_deep"),
        (b'{"saga": "x", "id": "a", "input": "' + b"x" * MAX_PAYLOAD + b'"}', 413, "payload.too_large"),
        (b" " * (MAX_PAYLOAD + 1), 413, "payload.too_large"),
    ],
)
async def test_a_bad_body_is_refused_and_not_published(offline: Api, body: bytes, status: int, code: str) -> None:
    answer = await offline.client.post(SAGAS, content=body, headers={"content-type": "application/json; charset=utf-8"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), answer.text[:300]
    assert offline.published == []


async def test_no_more_is_read_of_a_body_than_the_bound(offline: Api) -> None:
    given = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal given
        while given < 100 * MAX_PAYLOAD:
            given += 65536
            yield b" " * 65536

    answer = await offline.client.post(SAGAS, content=endless(), headers={"content-type": "application/json"})
    assert answer.status_code == 413
    assert given < 2 * MAX_PAYLOAD


async def test_a_body_that_does_not_come_is_not_waited_for_without_end(
    offline: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would hold a connection, of which there are so many and no more."""
    monkeypatch.setattr(saga_requests, "BODY_SECONDS", 0.05)

    async def halting() -> AsyncIterator[bytes]:
        yield b'{"saga": '
        await asyncio.Event().wait()

    answer = await offline.client.post(SAGAS, content=halting(), headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (408, "body.late")


async def test_what_a_page_may_send_unasked_is_refused(api: Api) -> None:
    """Without a token: a form or text/plain from any web page, a page that rebound its name to this machine."""
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        answer = await api.client.post(SAGAS, content=b'{"saga": "x", "id": "a"}', headers={"content-type": kind})
        assert (answer.status_code, answer.json()["error"]["code"]) == (415, "body.not_json")
    answer = await api.client.get(SAGAS, headers={"host": "evil.example:8080"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "host.foreign")
    for host in ("localhost", "[::1]:8080", "127.0.0.9"):
        assert (await api.client.get(SAGAS, headers={"host": host})).status_code == 200
    assert api.published == []


NO_HOSTS = [
    "[", "]", "[::1", "::1", "[localhost]", "[127.0.0.1]", "evil@localhost", "localhost@evil", "localhost\\",
    "localhost/x", "localhost?", "localhost#", "a localhost", "localhost,evil", "localhost:80:80", "localhost:x",
    "\u212a", "",
]  # fmt: skip


@pytest.mark.parametrize("host", NO_HOSTS)
async def test_what_is_no_host_is_refused_as_a_foreign_one(offline: Api, host: str) -> None:
    answer = await offline.client.get(f"{SAGAS}/ORD-1", headers={b"host": host.encode()})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "host.foreign")


@pytest.mark.parametrize("host", ["localhost", "LocalHost:8080", "127.0.0.1:1", "127.1.2.3", "[::1]", "[::1]:8080"])
async def test_names_of_this_machine_are_hosts(offline: Api, host: str) -> None:
    answer = await offline.client.get(f"{SAGAS}?limit=no", headers={"host": host})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "query.limit")


@pytest.mark.parametrize(
    ("failure", "status", "code"),
    [
        (PublishFailed("timed out"), 503, "publish.unknown"),
        (PublishRefused(NOTE, Reason.TOO_LARGE, "no"), 413, "publish.too_large"),
        (
            PublishRefused(Message.of("t", None, None, (), "a"), Reason.UNKNOWN_TOPIC, "no"),
            503,
            "publish.unknown_topic",
        ),
        (KafkaUnreachable("away"), 503, "kafka.unreachable"),
        (RuntimeError("secret detail"), 500, "internal"),
    ],
)
async def test_a_request_that_is_not_published_is_not_accepted(
    offline: Api, failure: Exception, status: int, code: str
) -> None:
    offline.failure = failure
    answer = await offline.client.post(SAGAS, json={"saga": "x", "id": "a"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert "secret" not in answer.text


async def test_without_a_database_reads_say_so_and_requests_are_taken(offline: Api) -> None:
    answer = await offline.client.get(f"{SAGAS}/ORD-1")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "database.unreachable")
    assert (await offline.client.post(f"{SAGAS}/ORD-1/cancel", json={})).status_code == 202


# Who may


async def test_with_a_token_nobody_else_is_let_in() -> None:
    gone = Database("postgresql://postgres@127.0.0.1:1/none")
    async with _api(gone, token="right", http="0.0.0.0:8080") as api:
        for wrong in ({}, {"authorization": "Bearer wrong"}, {"authorization": "right"}, {"authorization": "Bearer ä"}):
            headers = httpx.Headers(wrong, encoding="utf-8")
            answer = await api.client.post(f"{SAGAS}/a/cancel", json={}, headers=headers)
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, "token.wrong")
        right = {"authorization": "Bearer right", "host": "coordinator.example"}
        assert (await api.client.post(f"{SAGAS}/a/cancel", json={}, headers=right)).status_code == 202
        assert (await api.client.get("/livez", headers={"host": "10.0.0.7"})).status_code == 200
    assert len(api.published) == 1


@pytest.mark.parametrize("address", ["0.0.0.0:8080", "192.168.1.5:80", "[::]:80", "coordinator.example:80"])
def test_an_api_that_others_reach_needs_a_token(address: str) -> None:
    with pytest.raises(SettingsError, match="set SAGABUS_TOKEN"), _made(http=address):
        pass
    with _made(http=address, token="t"), _made(http="127.0.0.1:80"), _made(http="[::1]:80"), _made(http="off"):
        pass


@contextmanager
def _made(**settings: Any) -> Iterator[Starlette]:
    async def publish(_: Message) -> None: ...
    async def why_not() -> str:
        return ""

    yield application(
        database=Database(""), settings=Settings(**settings), publish=publish, closings=Closings(), why_not=why_not
    )


async def test_ready_and_alive_are_two_things(offline: Api) -> None:
    assert (await offline.client.get("/readyz")).status_code == 200
    offline.why_not = "it waits for Kafka"
    answer = await offline.client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json() == {"status": "not ready", "reason": "it waits for Kafka"}
    assert (await offline.client.get("/livez")).status_code == 200


async def test_with_nothing_behind_it_the_api_is_closed_and_probes_are_answered(offline: Api) -> None:
    offline.accepts = False
    answer = await offline.client.post(SAGAS, json={"saga": "x", "id": "a"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "coordinator.closed")
    assert offline.published == []
    assert (await offline.client.get("/readyz")).status_code == 200


# Serving


async def test_served_on_a_real_socket_and_stopped_promptly(api: Api) -> None:
    await api.write(Writes(new_sagas=[saga()]))
    loop = asyncio.get_running_loop()
    async with httpx.AsyncClient() as client:
        async with serving(api.app, ("127.0.0.1", 0)) as address:
            answer = await client.get(f"http://{address}{SAGAS}")
            assert [one["id"] for one in answer.json()["sagas"]] == ["ORD-1"]
            waiting = asyncio.create_task(client.get(f"http://{address}{SAGAS}/ORD-1?wait=50", timeout=60))
            await until(lambda: api.closings._waiting)
            begun = loop.time()
        assert loop.time() - begun < 3
        assert (await waiting).json()["status"] == "running"
        with pytest.raises(httpx.ConnectError):
            await client.get(f"http://{address}/livez")


async def test_an_address_in_use_is_an_error_of_ours(offline: Api) -> None:
    async with serving(offline.app, ("127.0.0.1", 0)) as address:
        port = int(address.rpartition(":")[2])
        with pytest.raises(CannotListen, match="SAGABUS_HTTP"):
            await serve(offline.app, ("127.0.0.1", port))


async def test_serve_ends_when_it_is_cancelled(offline: Api) -> None:
    task = asyncio.create_task(serve(offline.app, ("127.0.0.1", 0)))
    await asyncio.sleep(0)
    task.cancel()
    async with asyncio.timeout(5):
        with pytest.raises(asyncio.CancelledError):
            await task
