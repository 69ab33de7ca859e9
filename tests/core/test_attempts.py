"""Copies and attempts of a step: which answers count, how often it is tried, after what pauses."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from sagabus.contracts import RetryPolicy
from sagabus.contracts.replies import (
    FAILURE_UNREADABLE,
    HANDLER_PANICKED,
    ID_REUSED,
    INBOX_EXPIRED,
    NO_HANDLER,
    RETRIES_EXHAUSTED,
)
from sagabus.coordinator import SagaContext, saga
from sagabus.coordinator.core.saga.admission import DUPLICATE, LATE, OLD_ATTEMPT, UNREADABLE
from sagabus.coordinator.core.saga.concern import Concern, ConcernKind
from sagabus.coordinator.core.saga.effects import TimerKind
from sagabus.coordinator.core.saga.forward import LONGEST_PAUSE_MICROSECONDS, SILENCE_MICROSECONDS
from sagabus.coordinator.core.saga.history import Kind
from sagabus.coordinator.core.saga.status import Outcome, SagaStatus
from tests.core.kit import SECOND, Definition, Drive
from tests.core.services import (
    Order,
    Result,
    charge,
    reserve,
)
from tests.core.shapes import sequential
from tests.core.situations import compensating, of, one_step
from tests.core.wire import failure


def test_p2_a_resend_keeps_the_attempt_and_only_a_retry_raises_it() -> None:
    drive = Drive(sequential).start()
    first = drive.last.commands[0]
    assert drive.fire(TimerKind.RESEND, 1) is None
    (copy,) = drive.last.commands
    assert (copy.head.id, copy.head.attempt, copy.head.issued, copy.body) == (
        first.head.id, 1, first.head.issued, first.body,
    )  # fmt: skip
    assert drive.kinds == ["started", "command 1"], "a copy is nothing for history"
    drive.failed(1)
    drive.fire(TimerKind.RETRY, 1)
    (retry,) = drive.last.commands
    assert (retry.head.id, retry.head.attempt, retry.head.issued) == (first.head.id, 2, first.head.issued)


def test_p2_completed_counts_from_any_attempt() -> None:
    drive = Drive(sequential).start()
    drive.failed(1)
    drive.fire(TimerKind.RETRY, 1)
    assert drive.completed(1, attempt=1) is None
    assert drive.last.short == ["do 2 bank.charge"]
    assert drive.completed(1, attempt=2) == DUPLICATE


def test_p2_completed_counts_between_two_attempts() -> None:
    drive = Drive(sequential).start()
    drive.failed(1)
    assert drive.completed(1, attempt=1) is None
    assert (drive.step(1).outcome, drive.last.short) == (Outcome.COMPLETED, ["do 2 bank.charge"])
    assert list(drive.due) == ["resend 2"], "no retry is pending any more"


def test_p2_a_failure_counts_from_the_current_attempt_alone() -> None:
    drive = Drive(sequential).start()
    drive.failed(1)
    assert drive.failed(1) == DUPLICATE
    drive.fire(TimerKind.RETRY, 1)
    assert drive.failed(1, attempt=1) == OLD_ATTEMPT
    assert drive.refused(1, attempt=1) == OLD_ATTEMPT
    assert drive.step(1).do.failures == 1
    drive.completed(1)
    assert drive.failed(1) == LATE


def test_attempts_are_made_after_growing_pauses_with_jitter() -> None:
    drive = Drive(one_step(retry=RetryPolicy(attempts=4, first=1, factor=3, longest=5, jitter=0.1))).start()
    pauses = []
    for _ in range(3):
        drive.failed(1)
        pauses.append(drive.due["retry 1"])
        drive.fire(TimerKind.RETRY, 1)
    assert pauses == [pytest.approx(1, rel=0.1), pytest.approx(3, rel=0.1), pytest.approx(5, rel=0.1)]
    assert pauses[0] != 1
    assert drive.all.told.count("step.failed") == 3


def test_the_pause_of_a_failing_step_ends_its_copies() -> None:
    drive = Drive(sequential).start()
    drive.failed(1)
    assert list(drive.due) == ["retry 1"]


def test_used_up_retries_raise_and_the_last_failure_is_in_the_details() -> None:
    drive = Drive(one_step(retry=RetryPolicy(attempts=2))).start()
    drive.failed(1, "first")
    drive.fire(TimerKind.RETRY, 1)
    drive.failed(1, "second")
    assert drive.error["code"] == RETRIES_EXHAUSTED
    assert drive.error["message"] == "2 attempts failed, the last with second: second happened"
    assert drive.error["details"]["last"] == {"code": "second", "message": "second happened", "details": {}}


def test_the_policy_may_give_up_after_a_time() -> None:
    drive = Drive(one_step(retry=RetryPolicy(give_up_after=10))).start()
    drive.failed(1)
    drive.fire(TimerKind.RETRY, 1)
    drive.now += 10 * SECOND
    drive.failed(1)
    assert drive.error["code"] == RETRIES_EXHAUSTED


def test_try_again_is_not_counted_and_waits_as_long_as_it_asks() -> None:
    drive = Drive(one_step(retry=RetryPolicy(attempts=2))).start()
    pauses = []
    for _ in range(9):
        drive.failed(1, "busy", again_after=7)
        pauses.append(drive.due["retry 1"])
        drive.fire(TimerKind.RETRY, 1)
    assert (pauses[0], min(pauses), drive.step(1).do.failures) == (7, 7, 0)
    assert pauses[-1] == pytest.approx(256, rel=0.2)
    drive.completed(1)
    assert drive.status == SagaStatus.COMPLETED


@pytest.mark.parametrize("asked", [1e300, 1e12])
def test_a_wish_for_the_end_of_days_is_a_month(asked: float) -> None:
    drive = Drive(one_step()).start()
    drive.failed(1, again_after=asked)
    assert drive.due["retry 1"] == LONGEST_PAUSE_MICROSECONDS / SECOND


def test_try_again_is_bounded_by_the_policys_time() -> None:
    drive = Drive(one_step(retry=RetryPolicy(give_up_after=60))).start()
    for _ in range(20):
        if drive.step(1).outcome is not Outcome.SENT:
            break
        drive.failed(1, "busy", again_after=1)
        if "retry 1" in drive.due:
            drive.fire(TimerKind.RETRY, 1)
    assert (drive.step(1).outcome, drive.error["code"]) == (Outcome.UNKNOWN, RETRIES_EXHAUSTED)
    assert drive.error["message"] == "its time for attempts is up, the last with busy: busy happened"


def test_a_history_in_which_an_older_release_went_on_trying_still_replays() -> None:
    drive = Drive(one_step(retry=RetryPolicy())).start()
    for _ in range(8):
        drive.failed(1, "busy", again_after=1)
        drive.fire(TimerKind.RETRY, 1)
    drive.reload(one_step(retry=RetryPolicy(give_up_after=2)))
    assert (drive.attention, drive.step(1).outcome) == ("", Outcome.SENT)


def failing_for_an_hour() -> Drive:
    """Its policy has no end."""
    drive = Drive(one_step(retry=RetryPolicy())).start()
    drive.failed(1)
    assert not drive.state.concerns
    drive.now += SILENCE_MICROSECONDS
    drive.fire(TimerKind.RETRY, 1)
    drive.failed(1)
    return drive


def test_a_step_that_fails_for_an_hour_is_shown_until_it_is_answered() -> None:
    drive = failing_for_an_hour()
    assert list(drive.state.concerns) == [Concern(ConcernKind.STEP, 1)]
    assert drive.attention == (
        "step 1 (stock.reserve): it has failed for 1 h: sagabus.handler_error: sagabus.handler_error happened"
    )
    drive.fire(TimerKind.RETRY, 1)
    drive.completed(1)
    assert not drive.state.concerns


def test_a_step_that_has_failed_for_an_hour_under_an_older_release_is_shown_when_it_is_loaded() -> None:
    drive = failing_for_an_hour()
    drive.stored = replace(drive.stored, concerns=b"[]")
    copy = drive.restored()
    effects = copy.drain()
    assert (effects.saga_changed, list(copy.state.concerns)) == (True, [Concern(ConcernKind.STEP, 1)])
    copy.evict()
    drive.reload()


def test_try_again_is_shown_after_an_hour_until_the_step_is_answered() -> None:
    drive = Drive(one_step()).start()
    drive.failed(1, "busy", again_after=1)
    assert not drive.state.concerns
    drive.now += SILENCE_MICROSECONDS
    drive.fire(TimerKind.RETRY, 1)
    drive.failed(1, "busy", again_after=1)
    assert drive.attention == (
        "step 1 (stock.reserve): stock has asked for another attempt for 1 h: busy: busy happened"
    )
    drive.fire(TimerKind.RETRY, 1)
    drive.completed(1)
    assert not drive.state.concerns


@pytest.mark.parametrize("asked", [5000, 1e300])
def test_a_pause_longer_than_the_silence_limit_is_shown_at_once_and_until_it_goes_on(asked: float) -> None:
    drive = Drive(one_step()).start()
    drive.failed(1, "busy", again_after=asked)
    assert list(drive.state.concerns) == [Concern(ConcernKind.PAUSE, 1)]
    assert drive.attention.endswith(f", as stock asked (again_after={asked:g} s): busy: busy happened")
    drive.fire(TimerKind.RETRY, 1)
    assert not drive.state.concerns


def test_a_long_pause_of_an_undo_is_shown_too() -> None:
    drive = compensating()
    drive.take(drive.reply(Kind.UNDO_FAILED, 1, failure("busy", again_after=5000)))
    assert list(drive.state.concerns) == [Concern(ConcernKind.PAUSE, 1)]
    drive.fire(TimerKind.UNDO_RETRY, 1)
    assert not drive.state.concerns


def test_a_long_pause_is_over_when_the_saga_is_cancelled() -> None:
    drive = Drive(one_step()).start()
    drive.failed(1, "busy", again_after=5000)
    drive.cancel()
    assert not drive.state.concerns


def test_a_negative_wish_counts_as_none_and_is_told_until_the_step_is_answered() -> None:
    drive = Drive(one_step()).start()
    drive.failed(1, "busy", again_after=-5)
    assert drive.due["retry 1"] > 0
    assert drive.attention == (
        "step 1 (stock.reserve) has failed: its again_after is -5 s, which counts as 0: busy: busy happened"
    )
    drive.fire(TimerKind.RETRY, 1)
    drive.completed(1)
    assert not drive.state.concerns


UNREADABLE_FAILURES = [b"", b"[]", b'{"code": 1}', b'{"code":"x","again_after":NaN}', b"\xff"]


@pytest.mark.parametrize("body", UNREADABLE_FAILURES)
def test_p2_a_failure_that_cannot_be_read_counts_and_is_told_until_another_answer_comes(body: bytes) -> None:
    drive = Drive(one_step(retry=RetryPolicy(attempts=2))).start()
    assert drive.take(drive.reply(Kind.STEP_FAILED, 1, body)) is None
    assert (list(drive.state.concerns), drive.step(1).do.failures) == ([Concern(ConcernKind.STEP, 1)], 1)
    assert drive.attention.startswith("step 1 (stock.reserve) has failed: what it says cannot be read: ")
    drive.reload()
    drive.fire(TimerKind.RETRY, 1)
    assert drive.take(drive.reply(Kind.STEP_FAILED, 1, body)) is None
    assert drive.error["details"]["last"]["code"] == FAILURE_UNREADABLE
    assert not drive.state.concerns


@pytest.mark.parametrize("body", UNREADABLE_FAILURES)
def test_p2_a_refusal_that_cannot_be_read_never_becomes_history_and_is_asked_for_again(body: bytes) -> None:
    drive = Drive(sequential).start()
    drive.completed(1)
    for reason in (UNREADABLE, DUPLICATE):
        assert drive.take(drive.reply(Kind.STEP_REFUSED, 2, body)) == reason
    assert drive.kinds[-2:] == ["command 2", "notice 2"], "told once"
    assert (drive.step(2).outcome, drive.status) == (Outcome.SENT, SagaStatus.RUNNING)
    assert drive.attention.startswith("step 2 (bank.charge) is refused, and why cannot be read: ")
    assert drive.attention.endswith("; it is asked for again")
    assert "`sagabus retry O-1 --step 2 --reason WHY`" in drive.state.cure_of(Concern(ConcernKind.STEP, 2))
    drive.reload()
    assert drive.fire(TimerKind.RESEND, 2) is None
    assert drive.last.short == ["do 2 bank.charge"]
    assert drive.operate("retry", 2) is None
    assert drive.last.commands[0].head.attempt == 2, "a refusal is stored with its attempt: a higher one runs anew"
    drive.refused(2, "card_declined")
    assert (drive.attention, drive.last.short) == ("", ["undo 1 stock.release"])


def test_p2_a_refusal_that_an_older_release_has_taken_though_nobody_could_read_it_stands() -> None:
    drive = Drive(sequential).start()
    drive.refused(1, "no")
    place = next(place for place, row in enumerate(drive.rows) if row.kind is Kind.STEP_REFUSED)
    drive.rows[place] = replace(drive.rows[place], payload=b"null")
    drive.reload()
    assert (drive.attention, drive.status) == ("", SagaStatus.COMPENSATED)


def test_p2_a_refusal_that_cannot_be_read_and_that_came_while_the_saga_was_blocked_is_set_aside() -> None:
    drive = Drive(sequential).start()
    drive.reload(of(charge))
    drive.take(drive.reply(Kind.STEP_REFUSED, 1, b"null"))
    drive.reload(sequential)
    assert (drive.step(1).outcome, drive.kinds[-1]) == (Outcome.SENT, "notice 1")
    assert "is refused, and why cannot be read" in drive.attention
    drive.reload()
    drive.completed(1)
    assert (drive.attention, drive.last.short) == ("", ["do 2 bank.charge"])


def test_without_a_handler_the_step_waits_in_growing_pauses_and_says_so() -> None:
    drive = Drive(sequential).start()
    pauses = []
    for _ in range(8):
        drive.failed(1, NO_HANDLER)
        pauses.append(drive.due["retry 1"])
        drive.fire(TimerKind.RETRY, 1)
    assert drive.attention == "step 1: nobody handles stock.reserve; deploy a participant that does"
    assert drive.all.told.count("saga.attention") == 1, "the same reason is told once"
    assert pauses[-1] > 20 > 2 > pauses[0]
    assert drive.status == SagaStatus.RUNNING
    drive.completed(1)
    assert drive.attention == ""
    assert "saga.attention_cleared" in drive.last.told


def test_another_failure_than_a_missing_handler_shows_that_there_is_one() -> None:
    drive = Drive(sequential).start()
    drive.failed(1, NO_HANDLER)
    drive.fire(TimerKind.RETRY, 1)
    drive.failed(1)
    assert drive.attention == ""


def test_a_handler_that_panics_is_a_failed_attempt_and_needs_attention() -> None:
    drive = Drive(one_step(retry=RetryPolicy(attempts=2))).start()
    drive.failed(1, HANDLER_PANICKED)
    assert drive.attention == f"step 1: the handler of stock.reserve panicked: {HANDLER_PANICKED} happened"
    assert drive.step(1).do.failures == 1
    drive.fire(TimerKind.RETRY, 1)
    drive.failed(1, HANDLER_PANICKED)
    assert drive.error["code"] == RETRIES_EXHAUSTED


@pytest.mark.parametrize("code", [INBOX_EXPIRED, ID_REUSED])
def test_p5_p6_what_the_participant_cannot_tell_waits_for_a_person(code: str) -> None:
    drive = Drive(sequential).start()
    drive.failed(1, code)
    assert drive.attention == f"step 1 (stock.reserve): {code}: {code} happened"
    assert (drive.status, drive.step(1).outcome) == (SagaStatus.RUNNING, Outcome.SENT)
    assert drive.last.short == []
    assert drive.due == {}, "nothing is repeated"


def test_p6_a_copy_has_the_bytes_that_were_sent_whatever_the_code_makes_now() -> None:
    def calling(what: str) -> Definition:
        @saga("saga")
        async def one_call(ctx: SagaContext, order: Order) -> Result:
            return Result(refs=[(await ctx.call(reserve(order=what))).ref])

        return one_call

    drive = Drive(calling("first")).start()
    drive.reload(calling("later"))
    drive.fire(TimerKind.RESEND, 1)
    assert json.loads(drive.last.commands[0].body) == {"order": "first"}
