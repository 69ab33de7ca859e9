"""What the API tells of steps, from history alone, against what the core knows of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from sagabus.contracts.names import CommandKind
from sagabus.coordinator.core.saga.admission import REPLIES, answers_nothing
from sagabus.coordinator.core.saga.effects import TimerKind
from sagabus.coordinator.core.saga.history import Kind
from sagabus.coordinator.core.saga.request_answers import is_refusal
from sagabus.coordinator.core.saga.status import Outcome, SagaStatus, Undoing
from sagabus.coordinator.http.step_progress import StepProgress, StepStatus
from sagabus.coordinator.http.steps import StepsTold, steps_of, told_by
from tests.core import shapes
from tests.core.kit import Definition, Drive
from tests.core.restored import forget_all
from tests.core.shapes import sequential
from tests.core.situations import compensating, given_up, one_step
from tests.core.test_operator import verb
from tests.core.wire import failure
from tests.core.world import World

EXAMPLES = 20
MOST_ACTIONS = 25


def told(drive: Drive) -> list[StepProgress]:
    retries = [key.number for key in drive.timers if key.kind is TimerKind.RETRY]
    return steps_of(drive.rows, retries=retries, compensating=drive.state.status is SagaStatus.COMPENSATING)


def read_once(drive: Drive) -> StepsTold:
    steps = StepsTold()
    for row in drive.rows:
        steps.take(row)
    return steps


@pytest.mark.parametrize("code", shapes.ALL, ids=[body._body.__name__ for body in shapes.ALL])
@given(data=st.data(), actions=st.integers(0, MOST_ACTIONS))
@settings(max_examples=EXAMPLES, phases=(Phase.explicit, Phase.generate), database=None)
def test_b10_the_api_tells_of_each_step_what_the_core_knows(
    code: Definition, data: st.DataObject, actions: int
) -> None:
    try:
        world = World.of(code, lambda n: data.draw(st.integers(0, n - 1)), forgetful=False)
        for _ in range(actions):
            world.happen()
            if data.draw(st.integers(0, 3)) == 0:
                operate(world.drive, data)
            if data.draw(st.integers(0, 3)) == 0:
                mislead(world.drive, data)
            check(world.drive)
        world.settle_down()
        check(world.drive)
    finally:
        forget_all()


def operate(drive: Drive, data: st.DataObject) -> None:
    """Of use or not: what is refused leaves no row."""
    verb(drive, data.draw(st.sampled_from(["retry", "skip"])), data.draw(st.integers(1, 3)))


def mislead(drive: Drive, data: st.DataObject) -> None:
    """A participant answers what it was not asked: a later attempt, an undo or a settle that was never sent."""
    kind, step = data.draw(st.sampled_from(sorted(REPLIES))), data.draw(st.integers(1, 3))
    body = b"null" if kind in (Kind.UNDO_COMPLETED, Kind.SETTLE_NEVER) else failure("no")
    reply = drive.reply(kind, step, body, attempt=data.draw(st.sampled_from([1, 9])))
    if step in drive.state.steps and answers_nothing(drive.state, reply):
        drive.take(reply)


def check(drive: Drive) -> None:
    steps = told(drive)
    assert [one.number for one in steps] == sorted(drive.state.steps)
    for one in steps:
        step = drive.state.steps[one.number]
        known = StepStatus.HELD if step.held else StepStatus(step.outcome)
        assert one.status is known, f"step {one.number}: {drive.kinds}"
        assert one.attempts == step.do.attempt, f"step {one.number}: {drive.kinds}"
        undone_silently = step.undoing is Undoing.DONE and step.outcome is not Outcome.NEVER and step.undo is None
        assert one.undo is (Undoing.NONE if undone_silently else step.undoing), f"step {one.number}: {drive.kinds}"
        assert one.unanswered is step.unanswered, f"step {one.number}: {drive.kinds}"
        if step.unanswered is not None:
            assert one.since == step.exchange(step.unanswered).sent_at, f"step {one.number}: {drive.kinds}"
        if step.undo is not None:
            assert one.undo_attempts == step.undo.attempt, f"step {one.number}: {drive.kinds}"
        assert (one.waits is not None) == (one.status is StepStatus.HELD or _is_planned(drive, one.number))


def _is_planned(drive: Drive, number: int) -> bool:
    """Its undo stands behind another one."""
    step = drive.state.steps[number]
    waiting = (
        number in drive.state.plan and step.outcome is Outcome.COMPLETED and step.contract.compensation is not None
    )
    return step.undoing is Undoing.PLANNED or (waiting and bool(drive.state.steps.being_undone))


def test_b10_a_step_that_an_operator_has_retried_is_sent_again() -> None:
    drive = Drive(one_step()).start()
    drive.failed(1)
    verb(drive, "retry")
    (step,) = told(drive)
    assert (step.status, step.attempts) == (StepStatus.SENT, 2)


def test_p2_an_answer_of_an_attempt_that_was_never_made_changes_no_step() -> None:
    drive = Drive(one_step()).start()
    drive.completed(1, attempt=5)
    (step,) = told(drive)
    assert (step.status, step.output, step.unanswered) == (StepStatus.SENT, None, CommandKind.DO)


@pytest.mark.parametrize("kind", [Kind.SETTLE_NEVER, Kind.UNDO_COMPLETED])
def test_u9_an_answer_to_an_undo_or_a_settle_that_was_never_sent_changes_no_step(kind: Kind) -> None:
    drive = Drive(one_step()).start()
    drive.take(drive.reply(kind, 1, b"null", attempt=1))
    (step,) = told(drive)
    assert (step.status, step.undo, step.unanswered) == (StepStatus.SENT, Undoing.NONE, CommandKind.DO)


def test_b10_an_undo_that_an_operator_has_retried_or_skipped_says_so() -> None:
    drive = compensating()
    drive.undo_failed(1)
    assert told(drive)[0].undo is Undoing.PAUSED
    verb(drive, "retry")
    assert told(drive)[0].undo is Undoing.SENT
    drive.undo_failed(1)
    verb(drive, "skip")
    assert told(drive)[0].undo is Undoing.SKIPPED


def test_u8_a_step_that_an_operator_has_completed_says_so_with_its_output() -> None:
    drive = Drive(one_step()).start()
    drive.failed(1)
    drive.operate("complete", 1, output={"ref": "by hand"})
    (step,) = told(drive)
    assert (step.status, step.output, step.error) == (StepStatus.COMPLETED, b'{"ref":"by hand"}', None)


@pytest.mark.parametrize("verb", ["retry", "skip", "complete"])
@pytest.mark.parametrize("make", [lambda: Drive(sequential).start(), compensating, given_up])
def test_u8_a_verb_that_a_blocked_saga_has_kept_and_then_refuses_changes_no_step(
    make: Callable[[], Drive], verb: str
) -> None:
    """Its row stays, and the notice that it was refused is another one."""
    for step in (1, 2):
        for answered in (False, True):
            drive = make()
            if answered and (step not in drive.state.steps or drive.step(step).held or not drive.step(step).is_open):
                continue
            code = drive.code
            drive.reload(keep_code=False)
            if answered:
                drive.take(drive.reply(Kind.STEP_COMPLETED, step, b'{"ref":"r"}'))
            fields = {"output": {"unfit": 1}} if verb == "complete" else {}
            drive.operate(verb, step, ref="kept", **fields)
            drive.code = code
            drive.reload()
            assert not drive.state.blocked
            if any(is_refusal(row) for row in drive.rows):
                check(drive)
                assert read_once(drive).in_vain == {"kept"}, "so whoever reads page by page reads again"


def test_u8_what_is_held_at_a_paused_saga_waits_for_its_resume() -> None:
    drive = given_up()
    drive.operate("pause")
    drive.never(1)
    held = told(drive)[1]
    assert (held.status, held.waits) == (StepStatus.HELD, "waits until its saga is resumed")
    drive.operate("resume")
    assert told(drive)[1].status is StepStatus.SENT


def test_u8_an_answer_that_came_while_paused_counts_from_the_resume_on() -> None:
    drive = Drive(one_step()).start()
    drive.operate("pause")
    drive.completed(1)
    assert told(drive)[0].status is StepStatus.SENT
    drive.operate("resume")
    assert told(drive)[0].status is StepStatus.COMPLETED


def test_u8_a_terminated_saga_leaves_its_steps_as_they_were() -> None:
    drive = given_up()
    drive.operate("terminate")
    drive.settled(1)
    assert [(one.status, one.undo) for one in told(drive)] == [
        (StepStatus.COMPLETED, Undoing.SETTLING), (StepStatus.HELD, Undoing.NONE),
    ]  # fmt: skip


def test_what_a_blocked_saga_keeps_is_not_told_as_if_it_counted() -> None:
    drive = Drive(sequential).start()
    drive.completed(1)
    drive.reload(keep_code=False)
    decided = len(drive.rows) - 1
    drive.completed(2)
    (_, second) = told_by(drive.rows, decided=decided).steps_now(frozenset(), compensating=False)
    assert (second.status, second.output) == (StepStatus.SENT, None)
    assert second.waits == "what has come for it is kept until the saga goes on"
    assert verb(drive, "retry", 2) is None, "kept"
    (first, second) = told_by(drive.rows, decided=decided).steps_now(frozenset(), compensating=False)
    assert (first.status, first.waits) == (StepStatus.COMPLETED, None)
    assert (second.attempts, second.waits) == (1, "2 messages for it are kept until the saga goes on")
    drive.reload(sequential)
    assert [step.status for step in told(drive)] == [StepStatus.COMPLETED, StepStatus.COMPLETED, StepStatus.SENT]
