"""U8, P5: a settle that its participant cannot answer: asked again, tried by an operator, or skipped by one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sagabus.contracts.replies import HANDLER_ERROR, ID_REUSED, INBOX_EXPIRED
from sagabus.coordinator.core.saga.admission import DUPLICATE
from sagabus.coordinator.core.saga.concern import Concern, ConcernKind
from sagabus.coordinator.core.saga.effects import TimerKind
from sagabus.coordinator.core.saga.history import Kind
from sagabus.coordinator.core.saga.status import Outcome, SagaStatus, Undoing
from tests.core.kit import Drive
from tests.core.shapes import sequential
from tests.core.situations import given_up
from tests.core.test_operator import verb


def unanswerable(code: str = INBOX_EXPIRED) -> Drive:
    """The saga was cancelled; step 1 cannot be settled, since its participant has forgotten it."""
    drive = Drive(sequential).start()
    drive.cancel()
    drive.unsettled(1, code)
    assert [kind for kind, _ in drive.state.concerns] == [ConcernKind.SETTLE]
    assert drive.due == {}
    return drive


@pytest.mark.parametrize("code", [INBOX_EXPIRED, ID_REUSED])
def test_u8_a_settle_that_cannot_be_answered_is_skipped_and_the_saga_closes(code: str) -> None:
    drive = unanswerable(code)
    drive.reload()
    assert verb(drive, "skip") is None
    assert (drive.status, drive.attention, drive.due) == (SagaStatus.CANCELLED, "", {})
    assert (drive.step(1).outcome, drive.step(1).undoing) == (Outcome.NEVER, Undoing.SKIPPED)
    assert "compensation.skipped" in drive.last.told


@pytest.mark.parametrize("kind", [Kind.SETTLE_COMPLETED, Kind.STEP_COMPLETED])
@pytest.mark.parametrize("code_is_gone", [False, True])
def test_u8_what_happened_after_its_settle_was_skipped_is_shown_to_a_person_once(
    kind: Kind, code_is_gone: bool
) -> None:
    drive = unanswerable()
    verb(drive, "skip")
    if code_is_gone:
        drive.reload(keep_code=False)
    assert drive.take(drive.reply(kind, 1, b'{"ref":"1"}')) is None
    for other in (Kind.SETTLE_COMPLETED, Kind.STEP_COMPLETED):
        assert drive.take(drive.reply(other, 1, b'{"ref":"2"}')) == DUPLICATE
    drive.reload(sequential)
    assert list(drive.state.concerns) == [Concern(ConcernKind.HAPPENED_AFTER_SKIP, 1)]
    assert drive.step(1).outcome is Outcome.NEVER
    assert verb(drive, "acknowledge") is None
    assert drive.attention == ""


def test_u8_a_skipped_settle_lets_go_what_it_held_back_in_a_saga_that_goes_on() -> None:
    drive = given_up()
    drive.unsettled(1, INBOX_EXPIRED)
    assert verb(drive, "skip") is None
    assert drive.last.short == ["do 2 stock.reserve"]


def test_u8_a_retry_sends_a_settle_that_cannot_be_answered_again() -> None:
    drive = unanswerable()
    drive.reload()
    assert verb(drive, "retry") is None
    assert drive.last.short == ["settle 1 sagabus.settle"]
    assert list(drive.due) == ["resend 1"]
    drive.never(1)
    assert (drive.status, drive.attention) == (SagaStatus.CANCELLED, "")


@pytest.mark.parametrize("code", [INBOX_EXPIRED, ID_REUSED, HANDLER_ERROR])
def test_u8_copies_of_a_failing_settle_leave_one_row(code: str) -> None:
    drive = Drive(sequential).start()
    drive.cancel()
    words = [drive.unsettled(1, code) for _ in range(5)]
    assert words == [None, *[DUPLICATE] * 4]
    assert drive.kinds.count("settle.failed 1") == 1


def test_u6_a_failing_settle_pauses_and_is_sent_again_until_it_is_answered() -> None:
    drive = Drive(sequential).start()
    drive.cancel()
    pauses = []
    for _ in range(6):
        drive.unsettled(1)
        assert drive.attention
        pauses.append(drive.due["undo_retry 1"])
        assert list(drive.due) == ["undo_retry 1"]
        drive.fire(TimerKind.UNDO_RETRY, 1)
        assert drive.last.short == ["settle 1 sagabus.settle"]
    assert pauses[0] < 2 < pauses[-1]
    drive.settled(1)
    assert (drive.attention, drive.last.short) == ("", ["undo 1 stock.release"])
    drive.undone(1)
    assert drive.status == SagaStatus.CANCELLED


def test_u6_the_answer_to_a_settle_between_two_times_of_asking_counts() -> None:
    drive = Drive(sequential).start()
    drive.cancel()
    drive.unsettled(1)
    assert drive.never(1) is None
    assert (drive.status, drive.attention, drive.due) == (SagaStatus.CANCELLED, "", {})


@pytest.mark.parametrize("code", [INBOX_EXPIRED, ID_REUSED])
def test_p5_copies_of_a_step_that_cannot_be_answered_leave_one_row(code: str) -> None:
    drive = Drive(sequential).start()
    words = [drive.failed(1, code) for _ in range(5)]
    assert words == [None, *[DUPLICATE] * 4]
    assert drive.kinds.count("step.failed 1") == 1
    drive.reload()
    assert verb(drive, "retry") is None
    assert drive.last.short == ["do 1 stock.reserve"]
    assert drive.completed(1) is None


def test_a_history_in_which_each_copy_of_a_failing_settle_has_a_row_is_read_as_it_is() -> None:
    """So older releases wrote it."""
    drive = unanswerable()
    row = drive.rows[-1]
    drive.rows += [replace(row, seq=row.seq + more) for more in (1, 2)]
    drive.reload()
    assert (drive.state.blocked, drive.step(1).undoing) == (0, Undoing.SETTLING)
    assert verb(drive, "skip") is None
    assert drive.status == SagaStatus.CANCELLED
