"""The way back: what is settled, what is undone, in which order, and what has to wait for it."""

from __future__ import annotations

import asyncio
import json

import pytest
from pydantic import BaseModel

from sagabus.contracts import ActivityError, ActivityFailed, ActivityTimedOut, RetryPolicy
from sagabus.contracts.names import CommandKind
from sagabus.contracts.replies import ID_REUSED, INBOX_EXPIRED, NO_HANDLER
from sagabus.coordinator import SagaContext, saga
from sagabus.coordinator.core.effects import TimerKind
from sagabus.coordinator.core.history import Kind
from sagabus.coordinator.core.objection import DUPLICATE, LATE, OLD_ATTEMPT
from sagabus.coordinator.core.status import Outcome, SagaStatus, Undoing
from sagabus.coordinator.core.undo import PATIENCE
from tests.core.kit import Definition, Drive
from tests.core.shapes import forgiving, gathered, grouped, impatient, in_a_hurry, sequential
from tests.core.trade import Order, Result, book, charge, check, count, reserve, ship


@saga("saga")
async def failing_at_last(ctx: SagaContext, order: Order) -> Result:
    await ctx.call(reserve(order=order.order))
    await ctx.call(charge(order=order.order))
    await ctx.call(book(order=order.order))
    raise ValueError("undo all of it")


def tried(attempts: int, *, then_raise: bool = True) -> Definition:
    """One step that is tried so often; the saga lets the failure through, or goes on at the same service."""

    @saga("saga")
    async def trying(ctx: SagaContext, order: Order) -> Result:
        try:
            await ctx.call(reserve(order=order.order), retry=RetryPolicy(attempts=attempts))
        except ActivityFailed:
            if then_raise:
                raise
        return Result(refs=[(await ctx.call(count(order=order.order))).ref])

    return trying


def compensating() -> Drive:
    """Step 1 is being undone."""
    drive = Drive(sequential).start()
    drive.completed(1)
    drive.refused(2)
    assert drive.last.short == ["undo 1 stock.release"]
    return drive


def given_up() -> Drive:
    """Step 1 was given up after its timeout and is being settled; the next one at its service waits."""
    drive = Drive(impatient).start()
    assert drive.fire(TimerKind.TIMEOUT, 1) is None
    return drive


# U5: order.


def test_u5_steps_are_undone_in_the_reverse_order_of_completion_one_at_a_time() -> None:
    drive = Drive(gathered).start()
    drive.completed(2)
    drive.completed(3)
    drive.completed(1)
    drive.refused(4)
    assert drive.last.short == ["undo 1 stock.release"]
    drive.undone(1)
    assert drive.last.short == ["undo 2 bank.refund"], "step 3 has no compensation"
    assert drive.status == SagaStatus.COMPENSATING
    drive.undone(2)
    assert drive.status == SagaStatus.COMPENSATED
    assert drive.last.told == ["compensation.completed", "saga.compensated"]
    assert drive.last.lifecycle[-1].body["error"]["activity"] == "post.book"


def test_u5_unknown_steps_come_first_by_number_descending() -> None:
    drive = Drive(gathered).start()
    drive.completed(2)
    drive.refused(3)
    assert drive.last.short == ["settle 1 sagabus.settle"], "one at a time"

    @saga("saga")
    async def wide(ctx: SagaContext, order: Order) -> Result:
        calls = [reserve, charge, count, reserve]
        await asyncio.gather(*(ctx.call(one(order=order.order)) for one in calls))
        return Result(refs=[])

    drive = Drive(wide).start()
    drive.completed(2)
    drive.refused(3)
    assert drive.last.short == ["settle 4 sagabus.settle"]
    drive.settled(4)
    assert drive.last.short == ["undo 4 stock.release"]
    drive.undone(4)
    assert drive.last.short == ["settle 1 sagabus.settle"]
    drive.never(1)
    assert drive.last.short == ["undo 2 bank.refund"]
    drive.undone(2)
    assert drive.status == SagaStatus.COMPENSATED


def test_u5_the_sibling_that_a_group_cancels_is_settled_and_undone() -> None:
    drive = Drive(grouped).start()
    drive.completed(1)
    drive.refused(2)
    assert drive.last.short == ["settle 3 sagabus.settle"]
    drive.settled(3)
    assert drive.last.short == ["undo 1 stock.release"], "count has no compensation"
    drive.undone(1)
    assert drive.status == SagaStatus.COMPENSATED
    assert drive.error["code"] == "no", "the leaf of the group"


def test_u6_any_exception_undoes() -> None:
    drive = Drive(failing_at_last).start()
    for step in (1, 2, 3):
        drive.completed(step)
    assert drive.error == {"code": "sagabus.saga_raised", "message": "undo all of it", "type": "ValueError"}
    for step in (3, 2, 1):
        assert [sent.head.step for sent in drive.last.commands] == [step]
        drive.undone(step)
    assert drive.status == SagaStatus.COMPENSATED


# U1, U2: known and unknown.


def test_u1_a_step_of_unknown_outcome_is_settled_before_it_is_undone() -> None:
    drive = given_up()
    (settle,) = drive.last.commands
    assert (settle.head.kind, settle.head.activity, settle.body) == (CommandKind.SETTLE, "sagabus.settle", b"null")
    assert (settle.head.id, settle.head.target, settle.head.inbox_id) == ("O-1:r1:1:settle", "O-1:r1:1", "O-1:r1:1")
    drive.settled(1)
    (undo,) = drive.last.commands
    assert (undo.head.id, undo.head.target, undo.head.activity) == ("O-1:r1:1:undo", "O-1:r1:1", "stock.release")
    assert json.loads(undo.body) == {"order": "O-1", "ref": "ref-1"}, "the output that settle brought"


def test_u1_what_never_happened_is_not_undone() -> None:
    drive = given_up()
    drive.never(1)
    assert drive.step(1).outcome is Outcome.NEVER
    assert drive.last.short == ["do 2 stock.reserve"]


def test_u1_used_up_retries_leave_an_unknown_outcome() -> None:
    drive = Drive(tried(1)).start()
    drive.failed(1)
    assert drive.status == SagaStatus.COMPENSATING
    assert drive.last.short == ["settle 1 sagabus.settle"]
    assert drive.completed(1) == LATE, "settle will tell"
    drive.settled(1)
    drive.undone(1)
    assert drive.status == SagaStatus.COMPENSATED
    assert drive.all.short.count("undo 1 stock.release") == 1


def test_u1_the_undos_input_is_stored_when_the_step_completes() -> None:
    drive = Drive(sequential).start()
    drive.completed(1)
    row = drive.rows[-2]
    assert (row.kind, row.step, row.name) == (Kind.UNDO_INPUT, 1, "stock.release")
    assert json.loads(row.payload or b"") == {"order": "O-1", "ref": "ref-1"}


def test_u1_an_undo_input_that_could_not_be_made_waits_for_a_person() -> None:
    @saga("saga")
    async def uncompensable(ctx: SagaContext, order: Order) -> Result:
        await ctx.call(reserve(order=order.order))
        return Result(refs=[])

    def failing(job: BaseModel, done: BaseModel | None) -> BaseModel:
        raise IndexError("out of luck")

    whole, reserve.fill = reserve.fill, failing
    try:
        drive = Drive(uncompensable).start()
        drive.cancel()
        drive.settled(1)
        assert drive.attention == "step 1: the input of stock.release could not be made: IndexError: out of luck"
        assert (drive.status, drive.step(1).undoing) == (SagaStatus.COMPENSATING, Undoing.BLOCKED)
        assert drive.last.short == []
    finally:
        reserve.fill = whole


def test_u2_an_undo_is_sent_only_for_a_step_known_as_completed() -> None:
    drive = Drive(gathered).start()
    drive.refused(1)
    assert drive.last.short == ["settle 3 sagabus.settle"]
    drive.never(3)
    drive.settled(2)
    assert [one for one in drive.all.short if one.startswith("undo")] == ["undo 2 bank.refund"]
    drive.undone(2)
    assert drive.status == SagaStatus.COMPENSATED


def test_u2_a_refused_step_is_known_not_to_have_happened() -> None:
    drive = Drive(sequential).start()
    drive.refused(1)
    assert drive.all.short == ["do 1 stock.reserve"]
    assert drive.status == SagaStatus.COMPENSATED


# U3, U4: what waits for an undo.


def test_u3_a_saga_that_could_be_completed_waits_for_the_undo_of_what_it_gave_up() -> None:
    @saga("saga")
    async def quitting(ctx: SagaContext, order: Order) -> Result:
        try:
            await ctx.call(reserve(order=order.order), timeout=5)
        except ActivityTimedOut as error:
            return Result(refs=[str(error.attempts)])
        return Result(refs=[])

    drive = Drive(quitting).start()
    drive.fire(TimerKind.TIMEOUT, 1)
    assert (drive.status, drive.result) == (SagaStatus.RUNNING, {"refs": ["1"]})
    drive.settled(1)
    assert drive.status == SagaStatus.RUNNING
    drive.undo_failed(1)
    drive.fire(TimerKind.UNDO_RETRY, 1)
    drive.undone(1)
    assert drive.status == SagaStatus.COMPLETED
    assert drive.last.told == ["compensation.completed", "saga.completed"]


def test_u4_nothing_new_goes_to_a_service_before_the_undo_there_is_done() -> None:
    drive = given_up()
    assert drive.last.short == ["settle 1 sagabus.settle"]
    assert drive.kinds[-2:] == ["command 2", "settle 1"], "called, and recorded, but not sent"
    drive.settled(1)
    assert drive.last.short == ["undo 1 stock.release"]
    drive.undo_failed(1)
    assert drive.last.short == []
    drive.fire(TimerKind.UNDO_RETRY, 1)
    drive.undone(1)
    assert drive.last.short == ["do 2 stock.reserve"]
    assert drive.last.commands[0].head.issued == drive.now
    drive.completed(2)
    assert drive.result == {"refs": ["late", "ref-2"]}


def test_u4_a_timeout_around_several_steps_holds_in_the_same_pump() -> None:
    drive = Drive(in_a_hurry).start()
    drive.completed(1)
    assert drive.last.short == ["do 2 bank.charge"]
    drive.fire(TimerKind.SLEEP, 1)
    assert drive.last.short == ["settle 2 sagabus.settle"], "and not the next charge"
    drive.never(2)
    assert drive.last.short == ["do 3 bank.charge"]
    drive.completed(3)
    assert drive.result == {"refs": ["ref-1", "late", "ref-3"]}
    assert drive.step(1).undoing is Undoing.NONE, "what had completed within the timeout stays"


def test_u4_used_up_retries_hold_as_well() -> None:
    drive = Drive(tried(1, then_raise=False)).start()
    drive.failed(1)
    assert drive.last.short == ["settle 1 sagabus.settle"]
    drive.never(1)
    assert drive.last.short == ["do 2 stock.count"]


def test_u4_other_services_are_not_held() -> None:
    @saga("saga")
    async def elsewhere(ctx: SagaContext, order: Order) -> Result:
        try:
            await ctx.call(reserve(order=order.order), timeout=5)
        except ActivityTimedOut:
            await ctx.call(charge(order=order.order))
        return Result(refs=[])

    drive = Drive(elsewhere).start()
    drive.fire(TimerKind.TIMEOUT, 1)
    assert drive.last.short == ["do 2 bank.charge", "settle 1 sagabus.settle"]


def test_u4_a_held_step_has_no_timeout_before_it_is_sent() -> None:
    @saga("saga")
    async def twice(ctx: SagaContext, order: Order) -> Result:
        for _ in range(2):
            try:
                await ctx.call(reserve(order=order.order), timeout=5)
            except ActivityTimedOut:
                continue
        return Result(refs=[])

    drive = Drive(twice).start()
    drive.fire(TimerKind.TIMEOUT, 1)
    assert list(drive.due) == ["resend 1"]
    drive.never(1)
    assert drive.due == {"resend 2": 30, "timeout 2": 5}


def test_u4_cancelling_a_saga_whose_step_is_held() -> None:
    drive = given_up()
    drive.cancel()
    assert drive.step(2).outcome is Outcome.NEVER
    assert drive.status == SagaStatus.COMPENSATING
    drive.settled(1)
    drive.undone(1)
    assert drive.status == SagaStatus.CANCELLED
    assert "do 2 stock.reserve" not in drive.all.short


def test_u4_giving_up_a_held_step() -> None:
    @saga("saga")
    async def hasty(ctx: SagaContext, order: Order) -> Result:
        for _ in range(2):
            try:
                async with asyncio.timeout(10):
                    await ctx.call(reserve(order=order.order))
            except TimeoutError:
                continue
        await ctx.call(charge(order=order.order))
        return Result(refs=[])

    drive = Drive(hasty).start()
    drive.fire(TimerKind.SLEEP, 1)
    drive.fire(TimerKind.SLEEP, 2)
    assert (drive.step(2).outcome, drive.last.short) == (Outcome.NEVER, ["do 3 bank.charge"])
    drive.completed(3)
    assert drive.status == SagaStatus.RUNNING
    drive.never(1)
    assert drive.status == SagaStatus.COMPLETED
    assert "2" not in {sent.head.id.rpartition(":")[2] for sent in drive.all.commands}


def test_u4_several_held_steps_go_together_in_the_order_of_calling() -> None:
    @saga("saga")
    async def many(ctx: SagaContext, order: Order) -> Result:
        try:
            await ctx.call(reserve(order=order.order), timeout=5)
        except ActivityTimedOut:
            await asyncio.gather(*(ctx.call(count(order=order.order)) for _ in range(3)))
        return Result(refs=[])

    drive = Drive(many).start()
    drive.fire(TimerKind.TIMEOUT, 1)
    drive.never(1)
    assert drive.last.short == [f"do {step} stock.count" for step in (2, 3, 4)]


def test_u4_of_two_undos_at_a_service_the_last_one_releases_it() -> None:
    @saga("saga")
    async def twofold(ctx: SagaContext, order: Order) -> Result:
        calls = [asyncio.create_task(ctx.call(reserve(order=order.order), timeout=5)) for _ in range(2)]
        await asyncio.wait(calls)
        await ctx.call(count(order=order.order))
        return Result(refs=[type(each.exception()).__name__ for each in calls])

    drive = Drive(twofold).start()
    drive.fire(TimerKind.TIMEOUT, 1)
    drive.fire(TimerKind.TIMEOUT, 2)
    assert drive.last.short == ["settle 2 sagabus.settle"]
    drive.never(1)
    assert drive.last.short == []
    drive.never(2)
    assert drive.last.short == ["do 3 stock.count"]


# Giving up.


def test_a_step_given_up_is_undone_whatever_the_saga_does_next() -> None:
    drive = given_up()
    drive.settled(1)
    drive.undone(1)
    drive.completed(2)
    assert drive.status == SagaStatus.COMPLETED
    assert (drive.step(1).undoing, drive.step(2).undoing) == (Undoing.DONE, Undoing.NONE)


def test_abandon_keep_leaves_a_step_that_was_given_up_as_it_is() -> None:
    @saga("saga")
    async def generous(ctx: SagaContext, order: Order) -> Result:
        try:
            await ctx.call(reserve(order=order.order), timeout=5, abandon="keep")
        except ActivityTimedOut:
            await ctx.call(count(order=order.order))
        return Result(refs=[])

    drive = Drive(generous).start()
    drive.fire(TimerKind.TIMEOUT, 1)
    assert drive.last.short == ["do 2 stock.count"], "nothing is settled, so nothing is held"
    assert drive.completed(1) == LATE
    drive.completed(2)
    assert drive.status == SagaStatus.COMPLETED


def test_a_saga_that_ends_while_undos_of_given_up_steps_run_undoes_the_rest_after_them() -> None:
    @saga("saga")
    async def unlucky(ctx: SagaContext, order: Order) -> Result:
        await ctx.call(charge(order=order.order))
        try:
            await ctx.call(reserve(order=order.order), timeout=5)
        except ActivityTimedOut:
            await ctx.call(ship(order=order.order))
        return Result(refs=[])

    drive = Drive(unlucky).start()
    drive.completed(1)
    drive.fire(TimerKind.TIMEOUT, 2)
    assert drive.last.short == ["do 3 post.ship", "settle 2 sagabus.settle"]
    drive.refused(3)
    assert (drive.status, drive.last.short) == (SagaStatus.COMPENSATING, [])
    drive.settled(2)
    drive.undone(2)
    assert drive.last.short == ["undo 1 bank.refund"]
    drive.undone(1)
    assert drive.status == SagaStatus.COMPENSATED


def test_a_settled_step_without_a_compensation_is_done() -> None:
    @saga("saga")
    async def counting(ctx: SagaContext, order: Order) -> Result:
        try:
            await ctx.call(count(order=order.order), timeout=5)
        except ActivityError:
            await ctx.call(count(order=order.order))
        return Result(refs=[])

    drive = Drive(counting).start()
    drive.fire(TimerKind.TIMEOUT, 1)
    drive.settled(1)
    assert (drive.step(1).undoing, drive.last.short) == (Undoing.DONE, ["do 2 stock.count"])


# P2: late success.


def test_p2_a_late_success_is_undone_while_the_saga_runs_on() -> None:
    drive = Drive(forgiving).start()
    drive.completed(1)
    drive.refused(2)
    assert drive.completed(2) is None
    assert drive.last.short == ["undo 2 bank.refund"]
    drive.completed(3)
    drive.completed(4)
    assert drive.status == SagaStatus.RUNNING, "U3"
    drive.undone(2)
    assert drive.status == SagaStatus.COMPLETED


def test_p2_a_late_success_is_undone_first_while_the_saga_is_undone() -> None:
    drive = Drive(sequential).start()
    drive.completed(1)
    drive.completed(2)
    drive.refused(3)
    assert drive.last.short == ["undo 2 bank.refund"]
    assert drive.completed(3) is None
    drive.undone(2)
    assert drive.last.short == ["undo 1 stock.release"], "ship has no compensation"

    drive = compensating()
    drive.completed(2)
    drive.undone(1)
    assert drive.last.short == ["undo 2 bank.refund"]
    drive.undone(2)
    assert drive.status == SagaStatus.COMPENSATED


def test_p2_a_late_success_after_the_end_is_for_a_person() -> None:
    drive = Drive(sequential).start()
    drive.refused(1)
    assert drive.status == SagaStatus.COMPENSATED
    assert drive.completed(1) is None
    assert drive.attention == "step 1 (stock.reserve) succeeded after the saga had ended: undo it by hand"
    assert (drive.status, drive.last.short) == (SagaStatus.COMPENSATED, [])


def test_p2_a_late_success_without_a_compensation_changes_nothing_but_history() -> None:
    drive = Drive(forgiving).start()
    drive.completed(1)
    drive.completed(2)
    drive.completed(3)
    drive.refused(4)
    assert drive.completed(4) is None
    drive.undone(2)
    drive.undone(1)
    assert drive.status == SagaStatus.COMPENSATED


# An undo that fails.


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
    assert drive.step(1).undo_issued == drive.last.commands[0].head.issued


def test_u6_failing_again_and_again_is_for_a_person_to_see_until_it_succeeds() -> None:
    drive = compensating()
    for attempt in range(1, PATIENCE + 2):
        drive.undo_failed(1)
        assert bool(drive.attention) == (attempt >= PATIENCE)
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


@pytest.mark.parametrize("code", [NO_HANDLER, INBOX_EXPIRED, ID_REUSED])
def test_u6_an_undo_that_cannot_be_carried_out_is_for_a_person_at_once(code: str) -> None:
    drive = compensating()
    drive.undo_failed(1, code)
    assert code in drive.attention
    assert drive.status == SagaStatus.COMPENSATING


def test_an_undo_that_succeeds_leaves_another_reason_for_attention_alone() -> None:
    drive = compensating()
    drive.undo_failed(1)
    drive.take(drive.reply(Kind.STEP_COMPLETED, 9, b"null"))
    assert "history was lost" in drive.attention
    drive.fire(TimerKind.UNDO_RETRY, 1)
    drive.undone(1)
    assert "history was lost" in drive.attention


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
    drive.fire(TimerKind.RESEND, 1)
    assert drive.last.short == ["settle 1 sagabus.settle"]
    drive.never(1)
    assert drive.never(1) == DUPLICATE


def test_unanswered_undos_and_settles_are_sent_again() -> None:
    drive = given_up()
    drive.fire(TimerKind.RESEND, 1)
    assert drive.last.short == ["settle 1 sagabus.settle"]
    drive.settled(1)
    drive.fire(TimerKind.RESEND, 1)
    (copy,) = drive.last.commands
    assert (copy.short, copy.head.attempt) == ("undo 1 stock.release", 1)


# U9.


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


def test_a_step_void_of_output_is_undone_from_its_input() -> None:
    @saga("saga")
    async def booking(ctx: SagaContext, order: Order) -> Result:
        await ctx.call(book(order="B-7"))
        await ctx.call(check(order=order.order))
        return Result(refs=[])

    drive = Drive(booking).start()
    drive.completed(1)
    drive.refused(2)
    assert json.loads(drive.last.commands[0].body) == {"order": "B-7"}
