"""A verb over HTTP is answered with what became of it, in a bounded time, whoever owns the saga.

The owner is a function of the test, which writes what an owner would write. The whole way is in tests/commands.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from pydantic import BaseModel, Field, RootModel

from sagabus.contracts import codec
from sagabus.contracts.envelope import Message
from sagabus.contracts.headers import HeaderReader
from sagabus.coordinator import SagaContext
from sagabus.coordinator import saga as saga_of
from sagabus.coordinator.core.saga.concern import Concern, ConcernKind, Concerns, concerns_json
from sagabus.coordinator.core.saga.effects import RequestAnswer, RequestOutcome
from sagabus.coordinator.core.saga.history import REFUSED, Kind, Row
from sagabus.coordinator.core.saga.status import SagaStatus
from sagabus.coordinator.http import request_answers, verb_requests
from sagabus.coordinator.http.verbs import VERBS
from sagabus.coordinator.store import SagaRow, StartedId, Writes
from sagabus.coordinator.store.copy_format import NewHistory
from sagabus.coordinator.store.operators import OperatorReads
from sagabus.coordinator.store.rows import SagaKey
from sagabus.messaging.postgres.database import Database
from tests.coordinator.saga_rows import AT, saga
from tests.coordinator.test_http import CLOSED, REQUEST, SAGAS, Api, _api, api, history, offline
from tests.support.conditions import until

__all__ = ["api", "offline"]

_WHY = {"reason": "r", "actor": "ann"}
BODIES: dict[str, dict[str, Any]] = {
    **dict.fromkeys(VERBS, _WHY),
    **{verb: {**_WHY, "step": 1} for verb in ("retry", "skip")},
    "complete": {**_WHY, "step": 1, "output": {"ref": "x"}},
}


def id_of(message: Message) -> str:
    return HeaderReader(message.headers).required("ce_id")


async def open_saga(api: Api, **fields: Any) -> SagaRow:
    row = saga(**fields)
    rows = history((Kind.STARTED, 0, 0, "order_processing", REQUEST), (Kind.COMMAND, 1, 0, "inventory.reserve", b"{}"))
    await api.write(Writes(new_sagas=[row], history=NewHistory((row.key, rows, 1))))
    return row


def applied_row(seq: int, message: Message) -> Row:
    body = json.loads(message.value or b"")
    if body["type"] == "cancel":
        return Row(seq, AT + seq, Kind.CANCEL, 0, 0, body["actor"], id_of(message), body["reason"].encode())
    return Row(seq, AT + seq, Kind.OPERATOR, body.get("step") or 0, 0, body["type"], id_of(message), message.value)


def refusal_row(seq: int, message: Message, code: str = "request.no_use") -> Row:
    verb = json.loads(message.value or b"")["type"]
    words = {"verb": verb, "code": code, "message": "there is no step 1", "reason": "r", "actor": "ann"}
    return Row(seq, AT + seq, Kind.NOTICE, 1, 0, REFUSED, id_of(message), codec.encode_value({**words}))


def deciding(api: Api, row: SagaRow, made: Callable[[int, Message], Row]) -> Callable[[Message], Awaitable[None]]:
    """An owner in another process, which writes this row."""

    async def owner(message: Message) -> None:
        await api.write(Writes(history=NewHistory((row.key, [made(3, message)], 2))))

    return owner


async def ask(api: Api, verb: str, id: str = "ORD-1", **params: Any) -> httpx.Response:
    return await api.client.post(f"{SAGAS}/{id}/{verb}", json=BODIES[verb], params=params)


@pytest.mark.parametrize("verb", VERBS)
async def test_an_applied_verb_is_answered_with_the_sagas_state(api: Api, verb: str) -> None:
    row = await open_saga(api)
    api.owner = deciding(api, row, applied_row)
    answer = await ask(api, verb)
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert (told["id"], told["run"], told["request"], told["outcome"]) == ("ORD-1", "r1", verb, "applied")
    assert told["saga"]["status"] == "running"
    assert told["message_id"] == id_of(api.published[0])
    assert (told["error"], told["look_again"]) == (None, None)


@pytest.mark.parametrize("verb", VERBS)
async def test_a_refused_verb_is_409_with_code_and_reason(api: Api, verb: str) -> None:
    row = await open_saga(api)
    api.owner = deciding(api, row, refusal_row)
    answer = await ask(api, verb)
    assert (answer.status_code, answer.json()) == (409, {"error": {
        "code": "request.no_use", "message": f"ORD-1: {verb} refused: there is no step 1",
        "message_id": id_of(api.published[0]),
    }})  # fmt: skip


@pytest.mark.parametrize("verb", VERBS)
async def test_an_unknown_saga_is_404_and_nothing_is_published(
    api: Api, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verb_requests, "APPEARS_SECONDS", 0.2)
    answer = await ask(api, verb)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "saga.not_found")
    assert api.published == []


async def test_a_saga_that_was_just_started_is_waited_for(api: Api) -> None:
    asking = asyncio.create_task(ask(api, "cancel", wait="0.3"))
    await open_saga(api)
    assert (await asking).status_code == 202
    assert len(api.published) == 1


async def test_another_run_is_404_and_a_run_that_is_there_is_asked(api: Api) -> None:
    row = await open_saga(api)
    answer = await ask(api, "cancel", run="r2", wait="0.1")
    assert (answer.status_code, api.published) == (404, [])
    api.owner = deciding(api, row, applied_row)
    assert (await ask(api, "cancel", run="r1")).status_code == 200
    assert json.loads(api.published[0].value or b"")["run"] == "r1"


async def test_while_the_owner_is_dead_it_is_202_in_time_and_asked_again_later(api: Api) -> None:
    row = await open_saga(api)
    answer = await ask(api, "cancel", wait="0.2")
    told = answer.json()
    assert (answer.status_code, told["outcome"]) == (202, "unknown")
    assert told["waits_for"] == "the coordinator that owns shard 3 has not taken it in yet"
    assert answer.headers["location"] == told["look_again"]
    assert told["look_again"] == f"{SAGAS}/ORD-1/requests/{told['message_id']}?run=r1&after=2"
    again = await api.client.get(told["look_again"])
    assert (again.status_code, again.json()["error"]["code"]) == (404, "request.not_found")
    waiting = asyncio.create_task(api.client.get(f"{told['look_again']}&wait=30"))
    await deciding(api, row, applied_row)(api.published[0])
    assert (await waiting).json()["outcome"] == "applied"


async def test_the_wait_is_five_seconds_unless_told_otherwise(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    await open_saga(api)
    waited: list[float] = []

    async def wait(_: Any, *args: Any, seconds: float, **options: Any) -> None:
        waited.append(seconds)

    monkeypatch.setattr(request_answers.Waiting, "wait", wait)
    await ask(api, "cancel")
    await ask(api, "cancel", wait="600")
    assert waited == [5.0, 60.0]


async def test_without_a_wait_nothing_is_read(offline: Api) -> None:
    answer = await ask(offline, "retry", wait="0")
    told = answer.json()
    assert (answer.status_code, told["outcome"], told["saga"]) == (202, "unknown", None)
    assert told["look_again"] == f"{SAGAS}/ORD-1/requests/{told['message_id']}"


async def test_without_a_database_a_verb_is_taken_and_it_is_said_why_nobody_knows(offline: Api) -> None:
    answer = await ask(offline, "cancel")
    assert (answer.status_code, len(offline.published)) == (202, 1)
    assert "PostgreSQL" in answer.json()["waits_for"]


async def test_a_verb_that_a_blocked_saga_keeps_is_202_with_what_it_waits_for(api: Api) -> None:
    concerns = Concerns([(Concern(ConcernKind.BLOCKED), "no definition 'order_processing' here")])
    words = "no definition 'order_processing' here"
    row = await open_saga(api, decided=2, attention=words, concerns=concerns_json(concerns))
    api.owner = deciding(api, row, applied_row)
    answer = await ask(api, "retry")
    told = answer.json()
    assert (answer.status_code, told["outcome"]) == (202, "kept")
    assert told["waits_for"] == f"its code cannot go on: blocked: {words}"
    looking = asyncio.create_task(api.client.get(f"{told['look_again']}&wait=30"))
    refused = NewHistory((row.key, [Row(4, AT, Kind.RESUMED), refusal_row(5, api.published[0])], 2))
    await api.write(Writes(history=refused, changed_sagas=[saga()]))
    again = (await looking).json()
    assert (again["outcome"], again["error"]["code"]) == ("refused", "request.no_use")


@pytest.mark.parametrize("verb", ["cancel", "terminate"])
async def test_u8_the_end_of_a_blocked_saga_is_waited_for_while_its_owner_loads_its_history(
    api: Api, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The owner is another process: it keeps the request in one transaction, and decides upon it in a later one."""
    looks: list[RequestAnswer | None] = []
    look = OperatorReads.request_answer

    async def noted(self: OperatorReads, key: SagaKey, request: str, *, after: int = 0) -> RequestAnswer | None:
        looks.append(await look(self, key, request, after=after))
        return looks[-1]

    monkeypatch.setattr(OperatorReads, "request_answer", noted)
    row = await open_saga(api, decided=2)
    api.owner = deciding(api, row, applied_row)
    asking = asyncio.create_task(ask(api, verb, wait="50"))
    await until(lambda: any(one and one.outcome is RequestOutcome.KEPT for one in looks), what="it is seen as kept")
    ended = NewHistory((row.key, [Row(4, AT, Kind.CODELESS, name="blocked")], 2))
    await api.write(Writes(history=ended, changed_sagas=[saga(status=SagaStatus.COMPENSATING)]))
    answer = await asking
    assert (answer.status_code, answer.json()["outcome"]) == (200, "applied")


async def test_u8_an_end_that_a_blocked_saga_still_keeps_when_the_wait_is_over_is_202(api: Api) -> None:
    row = await open_saga(api, decided=2)
    api.owner = deciding(api, row, applied_row)
    answer = await ask(api, "cancel", wait="0.2")
    assert (answer.status_code, answer.json()["outcome"]) == (202, "kept")


@pytest.mark.parametrize("outcome", [RequestOutcome.APPLIED, RequestOutcome.REFUSED])
async def test_the_owners_own_process_says_it_at_once(api: Api, outcome: RequestOutcome) -> None:
    """Without a row: a closed saga keeps so many refusals and no more."""
    await open_saga(api, **CLOSED)
    api.owned = True

    async def owner(message: Message) -> None:
        code, words = ("saga.closed", "it has ended") if outcome is RequestOutcome.REFUSED else ("", "")
        api.answers.answered([RequestAnswer(id_of(message), "retry", outcome, code, words)])

    api.owner = owner
    async with asyncio.timeout(4):
        answer = await ask(api, "retry", wait="50")
    assert answer.status_code == (200 if outcome is RequestOutcome.APPLIED else 409)


async def test_two_at_once_have_an_answer_each(api: Api) -> None:
    row = await open_saga(api)
    seqs = iter((3, 4))

    async def owner(message: Message) -> None:
        seq = next(seqs)
        made = applied_row(seq, message) if seq == 3 else refusal_row(seq, message, "cancel.rejected")
        await api.write(Writes(history=NewHistory((row.key, [made], 2))))

    api.owner = owner
    answers = await asyncio.gather(ask(api, "cancel"), ask(api, "cancel"))
    assert sorted(answer.status_code for answer in answers) == [200, 409]


async def test_a_request_with_an_id_of_its_own_counts_once_and_is_answered_again(api: Api) -> None:
    row = await open_saga(api)
    api.owner = deciding(api, row, applied_row)
    body = {**BODIES["retry"], "request_id": "case-17"}
    first = await api.client.post(f"{SAGAS}/ORD-1/retry", json=body)

    async def knows_it(_: Message) -> None:
        """A copy leaves no row."""

    api.owner = knows_it
    second = await api.client.post(f"{SAGAS}/ORD-1/retry", json=body)
    assert [(one.status_code, one.json()["message_id"]) for one in (first, second)] == [(200, "case-17")] * 2
    assert "request_id" not in json.loads(api.published[0].value or b"")


async def test_what_became_a_dead_letter_is_refused_with_its_reason(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    await open_saga(api)

    async def rejection(_: Any, id: str, message_id: str) -> tuple[str, str]:
        return "request.unsupported", f"not carried out yet ({id}, {message_id})"

    monkeypatch.setattr("sagabus.coordinator.store.operators.OperatorReads.rejection", rejection)
    answer = await ask(api, "pause", wait="0.1")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "request.unsupported")


async def test_a_look_costs_the_same_however_long_the_history_is(api: Api) -> None:
    """By the primary key of history: id, run and the rows behind the number."""
    row = saga()
    rows = [Row(1, AT, Kind.STARTED, 0, 0, "order_processing", "r", REQUEST)]
    rows += [Row(seq, AT, Kind.EVENT, 0, 0, "e", f"e-{seq}", b"{}") for seq in range(2, 3_000)]
    await api.write(Writes(new_sagas=[row], history=NewHistory((row.key, rows, 1))))
    statement = OperatorReads(api.database, "sagabus")._sql["history.request"]
    async with api.database.transaction() as connection:
        await connection.execute("ANALYZE sagabus.history")
        plan = await connection.fetch(f"EXPLAIN {statement}", row.id, row.run, 2_998, "r")
    words = "\n".join(line[0] for line in plan)
    assert "history_pkey" in words, words
    assert "seq >" in next(line for line in words.splitlines() if "Index Cond" in line and "seq" in line), words


async def test_who_waits_when_the_coordinator_stops_is_answered_with_what_is_known(api: Api) -> None:
    await open_saga(api)
    asking = asyncio.create_task(ask(api, "cancel", wait="50"))
    await until(lambda: bool(api.answers._waiting))
    async with asyncio.timeout(10):
        api.app.state.drain()
        answer = await asking
    assert (answer.status_code, answer.json()["outcome"]) == (202, "unknown")
    assert api.answers._waiting == {}


# Starts


class Loan(BaseModel):
    copies: int
    secret_pin: int = 0


@saga_of("library_loan")
async def library_loan(ctx: SagaContext, loan: Loan) -> None:
    """Lends."""


class Places(RootModel[dict[str, int]]):
    pass


class Returns(BaseModel):
    loans: list[Loan]
    day: int = Field(1, alias="when")
    places: Places = Places({})


@saga_of("returns")
async def returns(ctx: SagaContext, input: Returns) -> None:
    """Takes back."""


@pytest.fixture
async def checking(api: Api) -> Any:
    async with _api(api.database, made_of=[library_loan]) as made:
        yield made


def start(saga: str = "library_loan", **input: Any) -> dict[str, Any]:
    return {"saga": saga, "id": "LOAN-1", "input": input}


async def test_c8_an_input_that_does_not_fit_is_422_with_the_fault(checking: Api) -> None:
    answer = await checking.client.post(SAGAS, json=start(copies="many"))
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (422, "payload.invalid")
    assert "copies" in error["message"]
    assert checking.published == []


async def test_c8_a_field_that_the_model_does_not_have_is_named(api: Api) -> None:
    async with _api(api.database, made_of=[returns]) as made:
        body = {
            "saga": "returns",
            "id": "R-1",
            "input": {
                "loans": [{"copies": 2, "copy": 1}],
                "x" * 999: 1,
                "day": 3,
                "when": 4,
                "places": {"anywhere": 1},
            },
        }
        answer = await made.client.post(SAGAS, json=body)
    assert (answer.status_code, answer.json()["ignored"]) == (202, ["x" * 100, "day", "loans.0.copy"])


async def test_c8_up_to_five_faults_are_told(api: Api) -> None:
    async with _api(api.database, made_of=[returns]) as made:
        loans = [{"copies": "many"}] * 6
        answer = await made.client.post(SAGAS, json={"saga": "returns", "id": "R-1", "input": {"loans": loans}})
    message = answer.json()["error"]["message"]
    assert [f"input.loans.{number}.copies: " in message for number in range(6)] == [True] * 5 + [False]
    assert message.endswith(" (and 1 more)")


async def test_c8_the_fault_holds_no_value(checking: Api) -> None:
    answer = await checking.client.post(SAGAS, json=start(copies=1, secret_pin="S3cret"))
    assert (answer.status_code, "S3cret" in answer.text) == (422, False)


async def test_c1_a_name_that_nobody_runs_is_422_with_what_was_meant(checking: Api) -> None:
    answer = await checking.client.post(SAGAS, json=start("libary_loan", copies=1))
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (422, "saga.unknown")
    assert "did you mean 'library_loan'?" in error["message"]
    assert error["parameter"] == "unknown=allow"
    assert "--" not in error["message"], "an option of a command is no word of the API"
    assert checking.published == []
    allowed = await checking.client.post(SAGAS, json=start("libary_loan", copies=1), params={"unknown": "allow"})
    assert (allowed.status_code, len(checking.published)) == (202, 1)


async def test_c1_a_name_that_another_coordinator_runs_is_taken(checking: Api) -> None:
    async with checking.database.transaction() as connection:
        await connection.execute(
            "INSERT INTO sagabus.shard_owner (shard, host, process, instance, definitions) VALUES (3, 'h', 1, '', $1)",
            '[{"name": "returns", "version": 1}]',
        )
    assert (await checking.client.post(SAGAS, json=start("returns"))).status_code == 202


async def test_a_start_that_fits_is_published_and_unknown_takes_two_words(checking: Api) -> None:
    assert (await checking.client.post(SAGAS, json=start(copies=1))).status_code == 202
    answer = await checking.client.post(SAGAS, json=start(copies=1), params={"unknown": "perhaps"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "query.unknown")


def hash_of(body: str) -> bytes:
    return library_loan.input_hash(body.encode())


async def there_or_removed(api: Api, *, removed: bool) -> None:
    """A saga LOAN-1 that was started with one copy, or what is remembered of it."""
    row = saga("LOAN-1", input_hash=hash_of('{"input": {"copies": 1}}'), **CLOSED)
    gone = StartedId(row.id, row.run, row.input_hash, AT, 3)
    await api.write(Writes(started_ids=[gone]) if removed else Writes(new_sagas=[row]))


@pytest.mark.parametrize("removed", [False, True], ids=["there", "removed"])
async def test_h2_a_used_id_with_another_input_is_409_and_not_published(checking: Api, removed: bool) -> None:
    await there_or_removed(checking, removed=removed)
    answer = await checking.client.post(SAGAS, json=start(copies=2))
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], checking.published) == (409, "start.other_input", [])
    assert error["message"] == "saga LOAN-1 was started with another input; choose another id"


@pytest.mark.parametrize("removed", [False, True], ids=["there", "removed"])
async def test_h2_an_equal_start_of_a_used_id_is_accepted_again(checking: Api, removed: bool) -> None:
    await there_or_removed(checking, removed=removed)
    assert (await checking.client.post(SAGAS, json=start(copies=1))).status_code == 202
    assert len(checking.published) == 1


async def test_h2_a_start_is_accepted_while_nothing_tells_whether_its_id_is_used() -> None:
    async with _api(Database("postgresql://postgres@127.0.0.1:1/none"), made_of=[library_loan]) as made:
        assert (await made.client.post(SAGAS, json=start(copies=1))).status_code == 202


async def test_a_closed_saga_refuses(api: Api) -> None:
    row = saga(**CLOSED)
    assert row.status is SagaStatus.COMPLETED
    rows = history((Kind.STARTED, 0, 0, "order_processing", REQUEST), (Kind.ENDED, 0, 0, "completed", b"{}"))
    await api.write(Writes(new_sagas=[row], history=NewHistory((row.key, rows, 1))))
    api.owner = deciding(api, row, lambda seq, message: refusal_row(seq, message, "saga.closed"))
    answer = await ask(api, "skip")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "saga.closed")


async def test_a_reader_of_history_sees_the_refusal_as_json(api: Api) -> None:
    row = await open_saga(api)
    api.owner = deciding(api, row, refusal_row)
    await ask(api, "retry")
    shown = (await api.get(f"{SAGAS}/ORD-1/history"))["rows"][-1]
    assert (shown["kind"], shown["name"], shown["payload"]["actor"]) == ("notice", "refused", "ann")


async def test_u8_the_output_of_a_completed_step_may_be_null_but_is_given(api: Api) -> None:
    await open_saga(api)
    body = {**_WHY, "step": 1, "output": None}
    assert (await api.client.post(f"{SAGAS}/ORD-1/complete?wait=0", json=body)).status_code == 202
    assert json.loads(api.published[0].value or b"")["output"] is None
    body.pop("output")
    assert (await api.client.post(f"{SAGAS}/ORD-1/complete?wait=0", json=body)).status_code == 400
