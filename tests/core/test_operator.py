"""An operator's retry and skip: for undos and steps that keep failing, with the operator's words in history."""

from __future__ import annotations

import pytest

from sagabus.coordinator.core.saga.admission import CLOSED, DUPLICATE, NO_USE
from sagabus.coordinator.core.saga.effects import TimerKind
from sagabus.coordinator.core.saga.history import Kind
from sagabus.coordinator.core.saga.status import SagaStatus, Undoing
from sagabus.coordinator.core.saga.undo import UNDO_FAILURES_BEFORE_ATTENTION
from tests.core.kit import Drive
from tests.core.services import charge, reserve
from tests.core.situations import compensating, of, one_step
from tests.core.wire import an_input

WORDS = b'{"type":"retry","step":1,"reason":"the shelf is free","actor":"ann"}'


def verb(drive: Drive, name: str, step: int = 1) -> str | None:
    return drive.take(an_input(Kind.OPERATOR, step, name=name, ref=f"{name}-{len(drive.rows)}", payload=WORDS))


def failing_undo() -> Drive:
    """Step 1's undo has failed so often that a person is to look."""
    drive = compensating()
    for _ in range(UNDO_FAILURES_BEFORE_ATTENTION - 1):
        drive.undo_failed(1)
        drive.fire(TimerKind.UNDO_RETRY, 1)
    drive.undo_failed(1)
    assert drive.attention
    return drive


def test_a_retry_sends_a_failing_undo_at_once_as_a_new_attempt() -> None:
    drive = failing_undo()
    assert verb(drive, "retry") is None
    assert drive.last.short == ["undo 1 stock.release"]
    assert drive.last.commands[0].head.attempt == UNDO_FAILURES_BEFORE_ATTENTION + 1
    assert "undo_retry 1" not in drive.due
    drive.undone(1)
    assert (drive.status, drive.attention) == (SagaStatus.COMPENSATED, "")


def test_a_retry_sends_a_failing_step_at_once() -> None:
    drive = Drive(one_step()).start()
    drive.failed(1)
    assert verb(drive, "retry") is None
    assert drive.last.short == ["do 1 stock.reserve"]
    assert drive.last.commands[0].head.attempt == 2
    assert "retry 1" not in drive.due
    drive.completed(1)
    assert drive.status == SagaStatus.COMPLETED


def test_u6_a_person_may_skip_an_undo_and_the_next_one_follows() -> None:
    drive = Drive(of(reserve, reserve, charge)).start()
    drive.completed(1)
    drive.completed(2)
    drive.refused(3)
    drive.undo_refused(2)
    assert verb(drive, "skip", 2) is None
    assert drive.last.told == ["compensation.skipped", "saga.attention_cleared"]
    assert drive.last.short == ["undo 1 stock.release"]
    drive.undone(1)
    assert drive.status == SagaStatus.COMPENSATED
    assert drive.step(2).undoing is Undoing.SKIPPED


@pytest.mark.parametrize("sent", [False, True], ids=["between attempts", "under way"])
def test_u6_a_skipped_undo_closes_the_saga_once_all_others_are_done(sent: bool) -> None:
    drive = failing_undo()
    if sent:
        drive.fire(TimerKind.UNDO_RETRY, 1)
    assert verb(drive, "skip") is None
    assert (drive.status, drive.attention, list(drive.due)) == (SagaStatus.COMPENSATED, "", [])


def test_u8_an_undo_that_happens_after_it_was_skipped_is_shown_to_a_person_once() -> None:
    drive = failing_undo()
    drive.fire(TimerKind.UNDO_RETRY, 1)
    verb(drive, "skip")
    assert drive.undone(1) is None
    assert drive.attention == "undo of step 1 (stock.release) was skipped, and has been carried out after that"
    assert drive.undone(1) == DUPLICATE
    assert drive.undo_failed(1) == DUPLICATE
    assert drive.status == SagaStatus.COMPENSATED


@pytest.mark.parametrize(("name", "step"), [("retry", 1), ("retry", 7), ("skip", 2), ("skip", 7)])
def test_u8_a_verb_that_nothing_waits_for_leaves_its_refusal_alone(name: str, step: int) -> None:
    drive = compensating()  # the undo of step 1 is under way for the first time, step 2 was refused
    rows = len(drive.rows)
    assert verb(drive, name, step) == NO_USE
    assert [row.kind for row in drive.rows[rows:]] == [Kind.NOTICE]
    assert (drive.last.short, drive.last.told) == ([], [])
    assert drive.last.answers == [f"refused {name} {NO_USE}"]


def test_a_verb_for_a_saga_that_has_ended_is_refused() -> None:
    drive = compensating()
    drive.undone(1)
    assert verb(drive, "skip") == CLOSED
