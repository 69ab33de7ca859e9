"""Undos and settles that fail: tried again without end, and shown to a person."""

from __future__ import annotations

import pytest

from sagabus.contracts.replies import ID_REUSED, INBOX_EXPIRED, NO_HANDLER
from sagabus.coordinator.core.saga.admission import DUPLICATE, OLD_ATTEMPT
from sagabus.coordinator.core.saga.effects import TimerKind
from sagabus.coordinator.core.saga.history import Kind
from sagabus.coordinator.core.saga.status import SagaStatus, Undoing
from sagabus.coordinator.core.saga.undo import UNDO_FAILURES_BEFORE_ATTENTION
from tests.core.situations import compensating, given_up
from tests.core.wire import failure


def test_u6_an_undo_is_retried_without_end() -> None:
    drive = compensating()
    pauses = []
    for _ in range(14):
        drive.undo_failed(1)
        assert drive.last.told[0] == "compensation.failed"
        pauses.append(drive.due["undo_retry 1"])
        drive.fire(TimerKind.UNDO_RETRY, 1)
        assert drive.last.short == ["undo 1 stock.release"]
    assert pauses[0] == pytest.approx(1, rel=0.2)
    assert pauses[-1] == pytest.approx(300, rel=0.2)
    assert drive.last.commands[0].head.attempt == 15
    undo = drive.step(1).undo
    assert undo is not None
    assert undo.issued == drive.last.commands[0].head.issued


def test_u6_failing_again_and_again_is_for_a_person_to_see_until_it_succeeds() -> None:
    drive = compensating()
    for attempt in range(1, UNDO_FAILURES_BEFORE_ATTENTION + 2):
        drive.undo_failed(1)
        assert bool(drive.attention) == (attempt >= UNDO_FAILURES_BEFORE_ATTENTION)
        drive.fire(TimerKind.UNDO_RETRY, 1)
    assert drive.attention.startswith("undo of step 1 (stock.release): sagabus.handler_error")
    drive.undone(1)
    assert drive.attention == ""
    assert drive.last.told == ["saga.attention_cleared", "compensation.completed", "saga.compensated"]


def test_u6_a_refused_undo_is_retried_with_attention_at_once() -> None:
    drive = compensating()
    drive.undo_refused(1)
    assert drive.attention == "undo of step 1 (stock.release): no: no happened"
    assert list(drive.due) == ["undo_retry 1"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"null", "what it says cannot be read: failure: value: Input should be an object"),
        (failure("busy", again_after=-1), "its again_after is -1 s, which counts as 0: busy: busy happened"),
    ],
)
def test_p2_what_a_failing_undo_says_oddly_is_told_at_once_and_it_is_tried_again(body: bytes, words: str) -> None:
    drive = compensating()
    assert drive.take(drive.reply(Kind.UNDO_FAILED, 1, body)) is None
    assert drive.attention == f"undo of step 1 (stock.release): {words}"
    drive.reload()
    drive.fire(TimerKind.UNDO_RETRY, 1)
    assert drive.last.short == ["undo 1 stock.release"]
    drive.undone(1)
    assert (drive.attention, drive.status) == ("", SagaStatus.COMPENSATED)


@pytest.mark.parametrize("code", [NO_HANDLER, INBOX_EXPIRED, ID_REUSED])
def test_u6_an_undo_that_cannot_be_carried_out_is_for_a_person_at_once(code: str) -> None:
    drive = compensating()
    drive.undo_failed(1, code)
    assert code in drive.attention
    assert drive.status == SagaStatus.COMPENSATING


@pytest.mark.parametrize("code", [INBOX_EXPIRED, ID_REUSED])
def test_p5_an_undo_of_which_the_inbox_knows_nothing_is_not_repeated(code: str) -> None:
    """It would hear the same again, for ever, each time with an event and a row of history."""
    drive = compensating()
    drive.undo_failed(1, code)
    assert drive.due == {}


def test_an_undo_that_succeeds_leaves_another_reason_for_attention_alone() -> None:
    drive = compensating()
    drive.undo_failed(1)
    drive.take(drive.reply(Kind.STEP_COMPLETED, 9, b"null"))
    assert "history was lost" in drive.attention
    drive.fire(TimerKind.UNDO_RETRY, 1)
    drive.undo_refused(1)
    assert drive.attention.startswith("undo of step 1")
    drive.undone(1)
    assert "history was lost" in drive.attention
    assert drive.last.told == ["saga.attention", "compensation.completed", "saga.compensated"]


def test_a_reason_that_is_gone_takes_no_other_with_it() -> None:
    drive = compensating()
    drive.undo_refused(1)
    drive.take(drive.reply(Kind.STEP_COMPLETED, 9, b"null"))
    drive.undone(1)
    assert "history was lost" in drive.attention
    assert drive.last.told == ["compensation.completed", "saga.compensated"], "the one in front is the same"


def test_p2_of_an_undo_completed_counts_from_any_attempt_and_a_failure_from_the_current_one() -> None:
    drive = compensating()
    drive.undo_failed(1)
    assert drive.undo_failed(1) == DUPLICATE
    drive.fire(TimerKind.UNDO_RETRY, 1)
    assert drive.undo_failed(1, attempt=1) == OLD_ATTEMPT
    assert drive.undone(1, attempt=1) is None
    assert drive.status == SagaStatus.COMPENSATED
    assert drive.undone(1, attempt=2) == DUPLICATE


def test_p2_an_undo_may_succeed_between_two_attempts() -> None:
    drive = compensating()
    drive.undo_failed(1)
    assert drive.undone(1) is None
    assert drive.status == SagaStatus.COMPENSATED
    assert drive.due == {}


@pytest.mark.parametrize("code", [INBOX_EXPIRED, ID_REUSED])
def test_what_cannot_be_settled_is_for_a_person_and_not_asked_again(code: str) -> None:
    drive = given_up()
    drive.unsettled(1, code)
    assert drive.attention == f"step 1 (stock.reserve) cannot be settled: {code}: {code} happened"
    assert drive.due == {}
    assert drive.step(1).undoing is Undoing.SETTLING


def test_a_settle_that_fails_otherwise_is_asked_again() -> None:
    drive = given_up()
    drive.unsettled(1)
    assert drive.attention != ""
    assert drive.fire(TimerKind.UNDO_RETRY, 1) is None
    assert drive.last.short == ["settle 1 sagabus.settle"]
    drive.never(1)
    assert drive.attention == "", "it could be settled after all"
    assert drive.never(1) == DUPLICATE


def test_p2_a_settle_that_fails_in_words_that_nobody_can_read_is_told_and_asked_again() -> None:
    drive = given_up()
    assert drive.take(drive.reply(Kind.SETTLE_FAILED, 1, b"null")) is None
    assert drive.attention.startswith("step 1 (stock.reserve) cannot be settled: sagabus.failure_unreadable: failure: ")
    assert drive.fire(TimerKind.UNDO_RETRY, 1) is None
    assert drive.last.short == ["settle 1 sagabus.settle"]
    drive.never(1)
    assert drive.attention == ""


def test_unanswered_undos_and_settles_are_sent_again() -> None:
    drive = given_up()
    drive.fire(TimerKind.RESEND, 1)
    assert drive.last.short == ["settle 1 sagabus.settle"]
    drive.settled(1)
    drive.fire(TimerKind.RESEND, 1)
    (copy,) = drive.last.commands
    assert (copy.short, copy.head.attempt) == ("undo 1 stock.release", 1)
