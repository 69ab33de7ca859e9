"""U9 and S6: what proves that history was lost, and what follows when the bus was."""

from __future__ import annotations

import pytest

from sagabus.coordinator.core.saga.history import Kind
from sagabus.coordinator.core.saga.status import Outcome, SagaStatus, Undoing
from tests.core.kit import Drive
from tests.core.shapes import gathered, sequential
from tests.core.situations import compensating, given_up


@pytest.mark.parametrize(
    ("kind", "step", "attempt"),
    [
        (Kind.STEP_COMPLETED, 4, 1), (Kind.STEP_FAILED, 1, 2), (Kind.UNDO_COMPLETED, 1, 1), (Kind.UNDO_FAILED, 1, 1),
        (Kind.SETTLE_NEVER, 1, 1), (Kind.SETTLE_COMPLETED, 1, 1), (Kind.STEP_REFUSED, 7, 3),
    ],
)  # fmt: skip
@pytest.mark.parametrize("closed", [False, True])
def test_u9_a_reply_to_what_was_never_sent_proves_lost_history(
    kind: Kind, step: int, attempt: int, closed: bool
) -> None:
    drive = Drive(sequential).start()
    if closed:
        for number in (1, 2, 3):
            drive.completed(number)
    assert drive.take(drive.reply(kind, step, b"null", attempt)) is None
    assert drive.attention == f"{kind} of step {step} answers what this history never sent: history was lost"
    assert drive.last.told == ["saga.attention"]
    assert drive.status == (SagaStatus.COMPLETED if closed else SagaStatus.RUNNING)


def test_u9_a_settle_answer_for_a_step_that_was_undone_without_being_settled() -> None:
    drive = compensating()
    assert drive.never(1) is None
    assert "history was lost" in drive.attention
    assert drive.step(1).undoing is Undoing.SENT


def test_u9_a_later_attempt_of_an_undo_than_was_made() -> None:
    drive = compensating()
    assert drive.undone(1, attempt=2) is None
    assert "history was lost" in drive.attention
    assert drive.step(1).undoing is Undoing.SENT


def test_u9_an_answer_to_a_held_step_that_was_given_up() -> None:
    drive = given_up()
    assert drive.completed(2) is None
    assert "history was lost" in drive.attention
    drive.cancel()
    assert drive.step(2).outcome is Outcome.NEVER
    before = len(drive.rows)
    assert drive.refused(2) is None, "it was never sent: this is no late answer"
    assert len(drive.rows) == before + 1


def test_s6_all_that_is_unanswered_is_sent_again_once_the_bus_has_lost_it() -> None:
    drive = Drive(gathered).start()
    drive.completed(1)
    drive.failed(3)
    drive.saga.resend_outstanding(now=drive.now)
    assert drive.commit().short == ["do 2 bank.charge"], "step 3 is between two attempts"
    drive.refused(2)
    drive.saga.resend_outstanding(now=drive.now)
    assert drive.commit().short == ["settle 3 sagabus.settle"]
    drive.never(3)
    drive.saga.resend_outstanding(now=drive.now)
    assert drive.commit().short == ["undo 1 stock.release"]
    drive.undone(1)
    drive.saga.resend_outstanding(now=drive.now)
    assert drive.commit().short == []


def test_a_held_step_is_not_sent_by_a_resend() -> None:
    drive = given_up()
    drive.saga.resend_outstanding(now=drive.now)
    assert drive.commit().short == ["settle 1 sagabus.settle"]
