"""U8: an operator knows that a step has completed, and with which output: as if its participant had said so."""

from __future__ import annotations

import asyncio
import json

import pytest
from pydantic import BaseModel, field_validator

from sagabus.contracts import Service
from sagabus.contracts.replies import INBOX_EXPIRED
from sagabus.coordinator import SagaContext, saga
from sagabus.coordinator.core.saga import refusal
from sagabus.coordinator.core.saga.admission import DUPLICATE, LATE, NO_USE
from sagabus.coordinator.core.saga.concern import Concern, ConcernKind
from sagabus.coordinator.core.saga.effects import TimerKind
from sagabus.coordinator.core.saga.history import REFUSED, Kind
from sagabus.coordinator.core.saga.operator import OUTPUT_INVALID
from sagabus.coordinator.core.saga.status import Outcome, SagaStatus, Undoing
from tests.core.kit import Drive
from tests.core.services import Done, Job, Order, Result, charge, check, reserve
from tests.core.shapes import gathered, sequential
from tests.core.situations import given_up, of
from tests.core.wire import an_input, failure

OUTPUT = {"ref": "by hand"}


def test_u8_a_step_is_completed_as_if_its_participant_had_said_so() -> None:
    """Beside one whose participant has: the same is sent, told and stored."""
    drives = [Drive(sequential).start() for _ in range(2)]
    drives[0].completed(1, Done(ref="by hand"))
    assert drives[1].operate("complete", 1, output=OUTPUT) is None
    said, completed = drives
    assert completed.last.short == said.last.short == ["do 2 bank.charge"]
    assert completed.last.told == said.last.told == ["step.completed"]
    assert completed.last.lifecycle[0].body == said.last.lifecycle[0].body
    assert completed.kinds[2:] == ["operator 1", "undo.input 1", "command 2"]
    assert completed.rows[3].payload == said.rows[3].payload == b'{"order":"O-1","ref":"by hand"}'
    assert json.loads(completed.rows[2].payload or b"")["reason"] == "a person knows", "history has the request"
    assert list(completed.due) == ["resend 2"]


def test_u8_what_a_person_has_completed_is_undone_with_that_output() -> None:
    drive = Drive(sequential).start()
    drive.operate("complete", 1, output=OUTPUT)
    drive.reload()
    drive.refused(2)
    assert drive.last.short == ["undo 1 stock.release"]
    assert json.loads(drive.last.commands[0].body) == {"order": "O-1", "ref": "by hand"}
    drive.undone(1)
    assert drive.status == SagaStatus.COMPENSATED


def test_u8_a_step_that_its_participant_cannot_answer_is_completed_and_the_attention_goes() -> None:
    drive = Drive(sequential).start()
    drive.failed(1, INBOX_EXPIRED)
    assert drive.attention
    assert drive.operate("complete", 1, output=OUTPUT) is None
    assert (drive.attention, drive.last.short) == ("", ["do 2 bank.charge"])


def test_u8_a_step_between_two_attempts_is_completed_and_not_tried_again() -> None:
    drive = Drive(of(reserve, charge)).start()
    drive.failed(1)
    assert drive.operate("complete", 1, output=OUTPUT) is None
    assert list(drive.due) == ["resend 2"]


def test_u8_a_step_that_is_being_settled_is_completed_and_undone() -> None:
    drive = given_up()
    drive.unsettled(1, INBOX_EXPIRED)
    assert drive.operate("complete", 1, output=OUTPUT) is None
    assert (drive.attention, drive.last.short) == ("", ["undo 1 stock.release"])
    assert json.loads(drive.last.commands[0].body)["ref"] == "by hand"
    drive.undone(1)
    assert drive.last.short == ["do 2 stock.reserve"]


def test_u5_a_step_that_waits_to_be_settled_is_completed_and_undone_in_its_place() -> None:
    drive = Drive(gathered).start()
    drive.cancel()
    assert drive.last.short == ["settle 3 sagabus.settle"]
    assert drive.operate("complete", 1, output=OUTPUT) is None
    assert drive.last.short == []
    drive.never(3)
    drive.never(2)
    assert drive.last.short == ["undo 1 stock.release"]
    drive.undone(1)
    assert drive.status == SagaStatus.CANCELLED


def test_u8_an_activity_without_output_is_completed_with_null() -> None:
    drive = Drive(of(check, reserve)).start()
    assert drive.operate("complete", 1, output=None) is None
    assert drive.last.short == ["do 2 stock.reserve"]


def test_u8_a_paused_saga_learns_of_it_and_goes_on_when_it_is_resumed() -> None:
    drive = Drive(sequential).start()
    drive.operate("pause")
    assert drive.operate("complete", 1, output=OUTPUT) is None
    assert (drive.last.told, drive.last.short) == (["step.completed"], [])
    drive.reload()
    drive.operate("resume")
    assert drive.last.short == ["do 2 bank.charge"]
    drive.completed(2)
    drive.completed(3)
    assert drive.result["refs"][0] == "by hand"


# What is refused.


@pytest.mark.parametrize("output", [{}, {"ref": 1}, None, [], "by hand"])
def test_u8_an_output_that_does_not_fit_is_refused_with_the_fault(output: object) -> None:
    drive = Drive(sequential).start()
    assert drive.operate("complete", 1, output=output) == OUTPUT_INVALID
    assert (drive.rows[-1].name, drive.last.short) == (REFUSED, [])
    body = json.dumps({"output": output}).encode()
    request = an_input(Kind.OPERATOR, 1, name="complete", payload=body)
    words = refusal.words(drive.state, request, OUTPUT_INVALID)
    assert words.startswith("the output of stock.reserve: "), words
    assert drive.operate("complete", 1, output=OUTPUT) is None, "another one may fit"


@pytest.mark.parametrize("step", [1, 3, 7])
def test_u8_a_step_in_another_state_is_not_completed(step: int) -> None:
    drive = Drive(sequential).start()
    drive.completed(1)
    drive.refused(2)  # step 1 is being undone
    assert drive.operate("complete", step, output=OUTPUT) == NO_USE
    assert drive.operate("complete", 2, output=OUTPUT) == NO_USE, "it was refused, so it has not happened"


def test_u8_a_step_that_was_never_sent_is_not_completed() -> None:
    drive = given_up()
    assert drive.step(2).held
    assert drive.operate("complete", 2, output=OUTPUT) == NO_USE


def test_u8_it_counts_once() -> None:
    drive = Drive(sequential).start()
    assert drive.operate("complete", 1, output=OUTPUT, ref="c") is None
    assert drive.operate("complete", 1, output=OUTPUT, ref="c") == DUPLICATE
    assert drive.operate("complete", 1, output=OUTPUT) == NO_USE


# What its participant says later.


def completed_by_hand() -> Drive:
    drive = Drive(sequential).start()
    drive.operate("complete", 1, output=OUTPUT)
    return drive


def settled_by_hand() -> Drive:
    drive = given_up()
    drive.operate("complete", 1, output=OUTPUT)
    return drive


@pytest.mark.parametrize("code_is_gone", [False, True])
def test_p2_the_same_answer_of_its_participants_is_a_duplicate(code_is_gone: bool) -> None:
    drive = completed_by_hand()
    drive.completed(2)
    drive.completed(3)
    assert drive.status == SagaStatus.COMPLETED
    drive.reload(keep_code=not code_is_gone)
    assert drive.take(drive.reply(Kind.STEP_COMPLETED, 1, b'{"ref":"by hand"}')) == DUPLICATE
    assert drive.failed(1) == LATE, "an attempt that failed says nothing of the others"
    assert drive.attention == ""
    drive.reload(sequential)


@pytest.mark.parametrize("code_is_gone", [False, True])
@pytest.mark.parametrize(
    ("kind", "body"),
    [(Kind.STEP_COMPLETED, b'{"ref":"another"}'), (Kind.STEP_REFUSED, failure("no"))],
)
def test_p2_another_answer_of_its_participants_needs_an_operator_once(
    kind: Kind, body: bytes, code_is_gone: bool
) -> None:
    drive = completed_by_hand()
    if code_is_gone:
        drive.completed(2)
        drive.completed(3)
        drive.reload(keep_code=False)
    assert drive.take(drive.reply(kind, 1, body)) is None
    assert drive.take(drive.reply(kind, 1, body + b" ")) == DUPLICATE
    drive.reload(sequential)
    assert list(drive.state.concerns) == [Concern(ConcernKind.CONTRADICTION, 1)]
    assert "an operator has said so" in drive.attention
    assert drive.operate("acknowledge", 1) is None
    assert drive.attention == ""


@pytest.mark.parametrize(
    ("kind", "body", "expected"),
    [
        (Kind.SETTLE_COMPLETED, b'{"ref":"by hand"}', DUPLICATE),
        (Kind.SETTLE_COMPLETED, b'{"ref":"another"}', None),
        (Kind.SETTLE_NEVER, b"null", None),
        (Kind.SETTLE_FAILED, failure("broken"), DUPLICATE),
        (Kind.STEP_COMPLETED, b'{"ref":"by hand"}', DUPLICATE),
        (Kind.STEP_COMPLETED, b'{"ref":"another"}', None),
        (Kind.STEP_REFUSED, failure("no"), None),
    ],
)
def test_p2_what_its_participant_says_to_the_settle_after_a_person_has(
    kind: Kind, body: bytes, expected: str | None
) -> None:
    drive = settled_by_hand()
    assert drive.take(drive.reply(kind, 1, body)) == expected
    assert [one.kind for one in drive.state.concerns] == ([ConcernKind.CONTRADICTION] if expected is None else [])
    assert (drive.step(1).outcome, drive.step(1).undoing) == (Outcome.COMPLETED, Undoing.SENT)
    drive.undone(1)
    assert drive.last.short == ["do 2 stock.reserve"]


def test_u8_an_answer_that_was_kept_while_paused_contradicts_what_was_said_since() -> None:
    drive = Drive(sequential).start()
    drive.operate("pause")
    drive.refused(1)
    drive.operate("complete", 1, output=OUTPUT)
    drive.operate("resume")
    assert list(drive.state.concerns) == [Concern(ConcernKind.CONTRADICTION, 1)]
    assert drive.last.short == ["do 2 bank.charge"]


# Outputs that their model computes, and code that has changed.

shelves = Service("shelves")


class Counted(BaseModel):
    number: int

    @field_validator("number")
    @classmethod
    def next(cls, number: int) -> int:
        return max(number, 10)


take_shelf = shelves.activity("take", Job, Counted)


@saga("saga")
async def shelving(ctx: SagaContext, order: Order) -> Result:
    counted = await ctx.call(take_shelf(order=order.order))
    await asyncio.sleep(counted.number)
    return Result(refs=[str(counted.number)])


def test_h2_what_its_model_makes_of_the_output_is_what_is_replayed() -> None:
    drive = Drive(shelving).start()
    assert drive.operate("complete", 1, output={"number": 3}) is None
    assert drive.kinds[-2:] == ["operator 1", "read 1"]
    assert drive.rows[-1].payload == b'{"number":10}'
    drive.reload()
    drive.fire(TimerKind.SLEEP, 1)
    assert drive.result == {"refs": ["10"]}
