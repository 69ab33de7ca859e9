"""U8: a paused saga takes in what comes and sends nothing; what has begun to be undone goes on; it is resumed.

`Restored` restores each saga of these tests from its rows after every input, and compares.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from sagabus.contracts.names import CommandKind
from sagabus.coordinator import SagaContext, saga
from sagabus.coordinator.core.saga.admission import CANCEL_REJECTED, DUPLICATE, LATE, NO_USE, PAUSED
from sagabus.coordinator.core.saga.concern import ConcernKind
from sagabus.coordinator.core.saga.effects import TimerKey, TimerKind
from sagabus.coordinator.core.saga.history import Kind
from sagabus.coordinator.core.saga.operator import NOT_PAUSED
from sagabus.coordinator.core.saga.status import Outcome, SagaStatus, Undoing
from tests.core.kit import SECOND, Drive
from tests.core.services import Done, Order, Result, charge, count, paid, reserve, ship
from tests.core.shapes import awaiting, gathered, impatient, racing, sequential, sleepy, tidy
from tests.core.situations import changed, compensating, given_up, of
from tests.core.wire import an_input

HOUR = 3600 * SECOND


def paused(drive: Drive) -> Drive:
    assert drive.operate("pause") is None
    assert (drive.state.paused, drive.stored.paused, drive.last.short) == (True, True, [])
    return drive


def test_u8_what_comes_for_a_paused_saga_is_a_row_and_nothing_is_sent() -> None:
    drive = paused(Drive(sequential).start())
    assert drive.last.told == ["saga.paused"]
    assert drive.last.lifecycle[0].cause == drive.rows[-1].ref
    assert drive.completed(1) is None
    assert (drive.last.short, drive.last.told) == ([], [])
    assert drive.kinds[-2:] == ["operator", "step.completed 1"]
    assert drive.step(1).outcome is Outcome.SENT


def test_u8_resumed_it_goes_on_with_what_came() -> None:
    drive = paused(Drive(sequential).start())
    drive.completed(1)
    assert drive.operate("resume") is None
    assert drive.last.told == ["saga.resumed", "step.completed"]
    assert drive.last.short == ["do 2 bank.charge"]
    assert drive.last.commands[0].cause == "O-1:r1:1:step.completed:1", "it follows from the reply"
    assert not drive.stored.paused
    drive.completed(2)
    drive.completed(3)
    assert drive.status == SagaStatus.COMPLETED


@pytest.mark.parametrize("restarted", [False, True])
def test_u8_what_was_kept_is_applied_in_the_order_in_which_it_came(restarted: bool) -> None:
    """As if it had never been paused: the same steps with the same inputs."""
    seen: list[tuple[str, list[str]]] = []
    for pauses in (False, True):
        drive = Drive(awaiting).start()
        if pauses:
            paused(drive)
        drive.event(paid, {"amount": 7}, ref="e1")
        drive.completed(1, Done(ref="first"))
        if restarted:
            drive.reload()
        if pauses:
            assert drive.operate("resume") is None
        drive.completed(2)
        seen.append((drive.status, drive.result["refs"]))
    assert seen[0] == seen[1] == ("completed", ["first", "7", "ref-2"])


def test_u8_two_answers_that_race_are_seen_in_the_order_of_history() -> None:
    """`racing` takes the first of three and gives the others up."""
    drive = paused(Drive(racing).start())
    for step in (3, 1):
        drive.completed(step)
    drive.reload()
    drive.operate("resume")
    assert [drive.step(step).outcome for step in (1, 2, 3)] == [
        Outcome.UNKNOWN, Outcome.UNKNOWN, Outcome.COMPLETED,
    ]  # fmt: skip
    assert drive.completed(1) == LATE


def test_u8_copies_of_what_was_kept_are_kept_once() -> None:
    drive = paused(Drive(awaiting).start())
    for _ in range(2):
        word = [drive.completed(1), drive.event(paid, {"amount": 7}, ref="e1")]
    assert word == [DUPLICATE, DUPLICATE]
    drive.reload()
    assert [drive.completed(1), drive.event(paid, {"amount": 7}, ref="e1")] == [DUPLICATE, DUPLICATE]
    assert drive.completed(1, Done(ref="another")) is None, "which is a contradiction, once it is decided upon"
    drive.operate("resume")
    assert [kind for kind, _ in drive.state.concerns] == [ConcernKind.CONTRADICTION]
    assert drive.event(paid, {"amount": 7}, ref="e1") == DUPLICATE


# Timers.


@pytest.mark.parametrize(
    ("code", "key"),
    [
        (sleepy, TimerKey(TimerKind.SLEEP, 1)),
        (impatient, TimerKey(TimerKind.TIMEOUT, 1)),
        (awaiting, TimerKey(TimerKind.SAGA, 0)),
    ],
    ids=["sleep", "timeout", "saga"],
)
def test_u8_a_timer_does_not_fire_while_the_saga_is_paused_and_does_afterwards(code: object, key: TimerKey) -> None:
    drive = Drive(code).start()  # type: ignore[arg-type]
    if code is sleepy:
        drive.completed(1)
    paused(drive)
    rows = len(drive.rows)
    assert drive.fire(*key) == PAUSED
    drive.reload()
    assert drive.fire(*key) == PAUSED
    assert (len(drive.rows), drive.last.short) == (rows, [])
    drive.operate("resume")
    assert drive.timers[key] < drive.now
    assert drive.fire(*key) is None
    assert drive.kinds[-1] != "operator"


def test_u8_timers_that_came_due_are_armed_again_by_a_resume() -> None:
    """Whoever keeps them has thrown them away when they did not fire."""
    drive = Drive(of(reserve, charge)).start()
    drive.failed(1)
    paused(drive)
    assert drive.fire(TimerKind.RETRY, 1) == PAUSED
    del drive.timers[TimerKey(TimerKind.RETRY, 1)]
    drive.operate("resume")
    assert "retry 1" in drive.due


def test_u8_what_was_kept_comes_before_the_timers_that_came_due() -> None:
    drive = paused(Drive(impatient).start())
    drive.now += HOUR
    drive.completed(1)
    drive.operate("resume")
    assert "timeout 1" not in drive.due
    assert drive.last.short == ["do 2 stock.reserve"]


def test_u8_nothing_is_sent_again_while_the_saga_is_paused() -> None:
    drive = paused(Drive(sequential).start())
    assert drive.fire(TimerKind.RESEND, 1) == PAUSED
    drive.saga.resend_outstanding(now=drive.now)  # the bus has lost what was sent
    drive.commit()
    drive.reload()
    assert drive.fire(TimerKind.RESEND, 1) == PAUSED
    assert drive.all.short == ["do 1 stock.reserve"]
    drive.operate("resume")
    assert drive.fire(TimerKind.RESEND, 1) is None
    assert drive.last.short == ["do 1 stock.reserve"]


def test_u8_a_long_pause_is_no_silence_of_a_participants() -> None:
    drive = paused(Drive(sequential).start())
    drive.now += 48 * HOUR
    drive.operate("resume")
    drive.fire(TimerKind.RESEND, 1)
    assert (drive.attention, drive.last.short) == ("", ["do 1 stock.reserve"])
    drive.now += HOUR
    drive.fire(TimerKind.RESEND, 1)
    assert "no answer for 60 min" in drive.attention


# An undo that has begun.


def two_to_undo() -> Drive:
    """Step 2 is being undone, then comes step 1."""
    drive = Drive(sequential).start()
    drive.completed(1)
    drive.completed(2)
    drive.refused(3)
    assert drive.last.short == ["undo 2 bank.refund"]
    return drive


def test_u8_an_undo_that_has_begun_goes_on_and_the_next_one_waits() -> None:
    drive = paused(two_to_undo())
    assert drive.fire(TimerKind.RESEND, 2) is None
    assert drive.last.short == ["undo 2 bank.refund"], "its copies are sent"
    drive.undo_failed(2)
    assert drive.last.told == ["compensation.failed"]
    assert drive.fire(TimerKind.UNDO_RETRY, 2) is None
    assert [sent.head.attempt for sent in drive.last.commands] == [2]
    drive.undone(2)
    assert (drive.last.told, drive.last.short) == (["compensation.completed"], [])
    assert drive.step(1).undoing is Undoing.NONE
    drive.reload()
    assert drive.last.short == []
    drive.operate("resume")
    assert drive.last.short == ["undo 1 stock.release"]
    drive.undone(1)
    assert drive.status == SagaStatus.COMPENSATED


def test_u8_a_paused_saga_does_not_close() -> None:
    drive = paused(compensating())
    drive.undone(1)
    assert (drive.status, drive.last.told) == (SagaStatus.COMPENSATING, ["compensation.completed"])
    drive.operate("resume")
    assert (drive.status, drive.last.told) == (SagaStatus.COMPENSATED, ["saga.resumed", "saga.compensated"])


def test_u8_a_settle_that_has_begun_leads_to_its_undo_and_lets_nothing_else_go() -> None:
    drive = paused(given_up())  # step 2 is held at the service of step 1
    drive.settled(1)
    assert drive.last.short == ["undo 1 stock.release"]
    drive.undone(1)
    assert (drive.last.short, drive.step(2).held) == ([], True)
    drive.reload()
    drive.operate("resume")
    assert drive.last.short == ["do 2 stock.reserve"]


def test_u8_what_is_held_at_a_paused_saga_is_not_sent_if_what_was_kept_ends_it() -> None:
    @saga("saga")
    async def hasty(ctx: SagaContext, order: Order) -> Result:
        try:
            async with asyncio.timeout(60):
                await ctx.call(reserve(order=order.order))
        except TimeoutError:
            pass
        await asyncio.gather(ctx.call(count(order=order.order)), ctx.call(charge(order=order.order)))
        return Result(refs=[])

    drive = Drive(hasty).start()
    drive.fire(TimerKind.SLEEP, 1)
    assert drive.step(2).held
    paused(drive)
    drive.never(1)
    drive.refused(3)
    drive.operate("resume")
    assert (drive.step(2).outcome, drive.status) == (Outcome.NEVER, SagaStatus.COMPENSATED)
    assert "do 2 stock.count" not in drive.all.short


def test_p2_a_late_success_while_paused_is_undone_when_it_is_resumed() -> None:
    drive = paused(compensating())  # step 2 was refused
    assert drive.completed(2) is None
    assert (drive.last.short, drive.attention) == ([], "")
    drive.undone(1)
    drive.operate("resume")
    assert drive.last.short == ["undo 2 bank.refund"]
    drive.undone(2)
    assert drive.status == SagaStatus.COMPENSATED


def test_u9_what_history_does_not_explain_is_told_though_the_saga_is_paused() -> None:
    drive = paused(Drive(sequential).start())
    drive.undone(1)
    assert [kind for kind, _ in drive.state.concerns] == [ConcernKind.UNASKED]
    assert drive.completed(7) is None
    drive.operate("resume")
    assert ConcernKind.HISTORY_LOST in {kind for kind, _ in drive.state.concerns}


# The other verbs.


def test_u8_a_cancel_of_a_paused_saga_lets_it_go_on_into_its_undo() -> None:
    drive = paused(Drive(sequential).start())
    drive.completed(1)
    assert drive.cancel("enough") is None
    assert drive.last.told == ["step.completed", "saga.resumed"]
    assert drive.last.short == ["undo 1 stock.release"], "step 2 never began"
    assert (drive.status, drive.state.paused) == (SagaStatus.COMPENSATING, False)
    drive.undone(1)
    assert (drive.status, drive.error["message"]) == (SagaStatus.CANCELLED, "enough")


def test_u8_a_cancelled_saga_may_be_paused_on_its_way_out() -> None:
    drive = Drive(tidy).start()
    drive.completed(1)
    drive.cancel()
    drive.settled(2)
    paused(drive)
    assert drive.cancel(ref="another") == CANCEL_REJECTED
    drive.undone(2)
    assert drive.last.short == []
    drive.operate("resume")
    assert drive.last.short == ["do 3 bank.check"]


def test_u7_a_cancel_of_a_saga_that_is_being_undone_does_not_resume_it() -> None:
    drive = paused(compensating())
    assert drive.cancel() == CANCEL_REJECTED
    assert drive.state.paused


def test_u8_a_retry_that_would_send_is_refused_while_paused_and_that_of_an_undo_is_not() -> None:
    drive = Drive(sequential).start()
    drive.failed(1)
    paused(drive)
    assert drive.operate("retry", 1) == PAUSED
    drive.operate("resume")
    assert drive.operate("retry", 1) is None

    drive = two_to_undo()
    drive.undo_refused(2)
    paused(drive)
    assert drive.operate("retry", 2) is None
    assert drive.last.short == ["undo 2 bank.refund"]
    drive.undo_refused(2)
    assert drive.operate("skip", 2) is None
    assert (drive.last.short, drive.step(2).undoing) == ([], Undoing.SKIPPED)
    drive.operate("resume")
    assert drive.last.short == ["undo 1 stock.release"]


def test_u8_what_is_paused_already_or_not_at_all_has_its_reason() -> None:
    drive = Drive(sequential).start()
    assert drive.operate("resume") == NOT_PAUSED
    assert drive.operate("pause", ref="p") is None
    assert drive.operate("pause") == PAUSED
    rows = len(drive.rows)
    assert drive.operate("pause", ref="p") == DUPLICATE
    assert len(drive.rows) == rows
    assert drive.operate("resume", ref="r") is None
    drive.reload()
    assert drive.operate("pause", ref="p") == DUPLICATE, "a copy of a request that was applied long ago"
    assert drive.operate("resume", ref="r") == DUPLICATE
    assert not drive.state.paused


def test_u8_a_notice_is_told_while_paused() -> None:
    drive = paused(Drive(sequential).start())
    lost = an_input(Kind.NOTICE, name=ConcernKind.RECORDS_LOST, ref="topic", payload=b"records were lost")
    assert drive.take(lost) is None
    assert drive.attention == "records were lost"
    assert drive.operate("acknowledge") is None
    assert drive.attention == ""
    assert drive.operate("acknowledge") == NO_USE


# Blocks and restarts.


def test_u8_a_paused_saga_whose_code_goes_missing_stays_paused() -> None:
    drive = paused(Drive(sequential).start())
    drive.completed(1)
    drive.reload(of(charge))
    assert (drive.state.blocked > 0, drive.stored.paused) == (True, True)
    drive.reload(sequential)
    assert (drive.state.paused, drive.last.short) == (True, [])
    drive.operate("resume")
    assert drive.last.short == ["do 2 bank.charge"]


def test_h1_what_came_while_it_was_blocked_is_decided_in_its_order_around_a_pause() -> None:
    drive = Drive(gathered).start()
    drive.reload(of(charge))
    drive.completed(1)
    drive.operate("pause")
    drive.completed(2)
    drive.reload(gathered)
    assert (drive.state.paused, drive.step(1).outcome, drive.step(2).outcome) == (
        True, Outcome.COMPLETED, Outcome.SENT,
    )  # fmt: skip
    drive.completed(3)
    drive.reload()
    drive.operate("resume")
    assert drive.last.short == ["do 4 post.book"]


def test_h1_a_resume_that_blocks_leaves_the_saga_paused_and_is_carried_out_with_the_code_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from sagabus.coordinator.core.saga import forward
    from sagabus.coordinator.core.saga.program import Blocked

    drive = paused(Drive(sequential).start())
    drive.completed(1)

    def unreadable(*_: object) -> None:
        raise Blocked("unreadable")

    with monkeypatch.context() as patch:
        patch.setattr(forward, "_output", unreadable)
        drive.operate("resume")
    assert (drive.attention, drive.stored.paused, drive.last.short) == ("unreadable", True, [])
    drive.reload(changed(sequential))
    assert (drive.stored.paused, drive.last.short) == (False, ["do 2 bank.charge"])
    drive.reload()


def test_u8_a_saga_may_be_paused_again_and_again() -> None:
    drive = Drive(of(reserve, charge, ship)).start()
    for step in (1, 2, 3):
        paused(drive)
        drive.completed(step)
        drive.reload()
        drive.operate("resume")
    assert drive.status == SagaStatus.COMPLETED
    assert drive.operate("pause") == "saga.closed"
    assert drive.completed(1) == DUPLICATE
    assert drive.cancel() == CANCEL_REJECTED


@pytest.mark.parametrize("reply", [Drive.refused, Drive.failed])
def test_u8_a_failure_of_a_step_waits_too(reply: Callable[[Drive, int], str | None]) -> None:
    drive = Drive(sequential).start()
    drive.completed(1)
    paused(drive)
    assert reply(drive, 2) is None
    assert (drive.last.told, drive.status) == ([], SagaStatus.RUNNING)
    drive.operate("resume")
    assert "step.failed" in drive.last.told
    assert reply(drive, 2) in (LATE, DUPLICATE)


def test_u4_a_service_is_held_through_a_pause() -> None:
    drive = paused(given_up())
    assert drive.state.steps.holds["stock"] == 1
    drive.operate("resume")
    assert (drive.last.short, drive.step(2).held) == ([], True)
    drive.never(1)
    assert drive.last.short == ["do 2 stock.reserve"]
    assert drive.all.commands[-1].head.kind is CommandKind.DO
