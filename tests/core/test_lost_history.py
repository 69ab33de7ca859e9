"""U9 and S6: what proves that history was lost, and what follows when the bus was."""

from __future__ import annotations

import pytest

from sagabus.contracts.replies import NO_HANDLER
from sagabus.coordinator.core.saga.admission import DUPLICATE, NO_USE
from sagabus.coordinator.core.saga.concern import Concern, ConcernKind
from sagabus.coordinator.core.saga.history import Input, Kind
from sagabus.coordinator.core.saga.status import Outcome, SagaStatus, Undoing
from tests.core.kit import Drive
from tests.core.services import charge
from tests.core.shapes import gathered, sequential
from tests.core.situations import compensating, given_up, of
from tests.core.wire import an_input


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
    assert "or history was lost: was the coordinator's database restored from an older backup?" in drive.attention
    assert [concern.number for concern in drive.state.concerns] == [step]
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


# What else may explain it.


@pytest.mark.parametrize(
    ("kind", "step", "attempt", "concern", "words"),
    [
        (
            Kind.STEP_COMPLETED,
            4,
            1,
            ConcernKind.HISTORY_LOST,
            "answers a step that was never sent: stock made up the id",
        ),
        (
            Kind.STEP_FAILED,
            1,
            7,
            ConcernKind.REPLY_ATTEMPT,
            "of attempt 7, and the last one was 1. It is ignored",
        ),
        (Kind.SETTLE_NEVER, 1, 1, ConcernKind.UNASKED, "answers what stock was not asked"),
        (Kind.UNDO_COMPLETED, 1, 1, ConcernKind.UNASKED, "answers what stock was not asked"),
    ],
)
@pytest.mark.parametrize("closed", [False, True])
def test_u9_what_a_foreign_participant_has_said_is_called_by_its_name_and_can_be_acknowledged(
    kind: Kind, step: int, attempt: int, concern: ConcernKind, words: str, closed: bool
) -> None:
    drive = Drive(sequential).start()
    if closed:
        for number in (1, 2, 3):
            drive.completed(number)
    drive.take(drive.reply(kind, step, b"null", attempt))
    assert list(drive.state.concerns) == [Concern(concern, step)]
    assert words in drive.attention
    if concern is ConcernKind.REPLY_ATTEMPT:
        assert ("what is not answered is sent again" in drive.attention) is not closed
        assert "stock must send back the ce_attempt of the command" in drive.attention
    assert drive.take(acknowledgement(step + 1)) == NO_USE, "of another step"
    assert drive.take(acknowledgement(step)) is None
    assert (drive.attention, drive.last.told) == ("", ["saga.attention_cleared"])
    assert drive.take(acknowledgement(step, ref="again")) == NO_USE
    drive.reload()
    assert not drive.state.concerns


def test_what_is_still_so_cannot_be_acknowledged() -> None:
    drive = Drive(sequential).start()
    drive.failed(1, NO_HANDLER)
    assert drive.take(acknowledgement(0)) == NO_USE
    assert list(drive.state.concerns) == [Concern(ConcernKind.STEP, 1)]


def test_all_of_a_saga_is_acknowledged_at_once_where_no_step_is_named() -> None:
    drive = Drive(sequential).start()
    drive.take(drive.reply(Kind.STEP_COMPLETED, 7, b"null"))
    drive.take(drive.reply(Kind.STEP_COMPLETED, 8, b"null"))
    assert drive.take(acknowledgement(0)) is None
    assert not drive.state.concerns


def test_u9_what_a_closed_saga_cannot_explain_is_told_and_acknowledged_though_its_code_is_gone() -> None:
    drive = Drive(sequential).start()
    for number in (1, 2, 3):
        drive.completed(number)
    drive.reload(of(charge))
    drive.take(drive.reply(Kind.STEP_COMPLETED, 9, b"null"))
    for code in (of(charge), sequential, of(charge)):
        drive.reload(code)
        assert list(drive.state.concerns) == [Concern(ConcernKind.HISTORY_LOST, 9)]
    assert drive.take(acknowledgement(8)) == NO_USE
    assert drive.take(acknowledgement(9)) is None
    assert (drive.attention, drive.state.blocked, drive.status) == ("", 0, "completed")
    assert drive.take(acknowledgement(9)) == DUPLICATE
    drive.reload(sequential)
    assert not drive.state.concerns


def test_a_closed_saga_that_an_older_release_has_blocked_goes_on_when_its_code_is_back() -> None:
    """It has kept what came, and said that its code is gone."""
    drive = Drive(sequential).start()
    for number in (1, 2, 3):
        drive.completed(number)
    drive.reload(of(charge))
    stopped = drive.saga.stopped
    assert stopped is not None
    row = stopped.state.journal.taken(drive.reply(Kind.STEP_COMPLETED, 9, b"null"), drive.now)
    stopped.note(row)
    stopped.block(since=row.seq)
    drive.commit()
    assert drive.take(acknowledgement(0)) == NO_USE, "it is that the code is gone"
    assert drive.take(drive.reply(Kind.STEP_COMPLETED, 8, b"null")) is None, "kept as the other one"
    drive.reload(sequential)
    assert set(drive.state.concerns) == {Concern(ConcernKind.HISTORY_LOST, 9), Concern(ConcernKind.HISTORY_LOST, 8)}
    drive.reload(of(charge))
    assert drive.take(acknowledgement(0, ref="again")) is None
    assert (drive.attention, drive.state.blocked, drive.status) == ("", 0, "completed")


def acknowledgement(step: int, *, ref: str = "") -> Input:
    return an_input(Kind.OPERATOR, step, name="acknowledge", ref=ref or f"ack-{step}", payload=b'{"reason":"seen"}')


# P2: two things said of one step, each for good.


@pytest.mark.parametrize("closed", [False, True])
def test_p2_completed_after_never_is_for_a_person_to_see(closed: bool) -> None:
    drive = given_up()
    drive.never(1)
    if closed:
        drive.cancel()
        drive.never(2)
        assert drive.state.is_closed
    assert drive.completed(1) is None
    assert list(drive.state.concerns) == [Concern(ConcernKind.CONTRADICTION, 1)]
    assert "was settled as never happening, and stock says now that it has completed" in drive.attention
    assert drive.step(1).outcome is Outcome.NEVER
    assert drive.completed(1) == DUPLICATE, "told once"
    assert drive.take(acknowledgement(1)) is None
    assert drive.completed(1) == DUPLICATE


def test_p2_a_second_completion_with_another_output_is_for_a_person_to_see() -> None:
    drive = Drive(sequential).start()
    drive.completed(1)
    assert drive.take(drive.reply(Kind.STEP_COMPLETED, 1, b'{ "ref": "ref-1" }')) == DUPLICATE, "it says the same"
    assert drive.take(drive.reply(Kind.STEP_COMPLETED, 1, b'{"ref":"another"}')) is None
    assert list(drive.state.concerns) == [Concern(ConcernKind.CONTRADICTION, 1)]
    assert drive.step(1).outcome is Outcome.COMPLETED


def test_p2_of_a_closed_saga_without_code_the_rows_tell_it() -> None:
    drive = Drive(sequential).start()
    for number in (1, 2, 3):
        drive.completed(number)
    drive.reload(of(charge))
    assert drive.take(drive.reply(Kind.STEP_COMPLETED, 1, b'{ "ref": "ref-1" }')) == DUPLICATE
    assert drive.take(drive.reply(Kind.STEP_COMPLETED, 1, b'{"ref":"another"}')) is None
    assert list(drive.state.concerns) == [Concern(ConcernKind.CONTRADICTION, 1)]
    drive.reload(sequential)
    assert list(drive.state.concerns) == [Concern(ConcernKind.CONTRADICTION, 1)]
