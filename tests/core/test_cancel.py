"""U7: cancel against end, and what a cancelled saga may still do."""

from __future__ import annotations

import asyncio

import pytest

from sagabus.coordinator import SagaContext, saga
from sagabus.coordinator.core.saga.admission import CANCEL_REJECTED, DUPLICATE
from sagabus.coordinator.core.saga.effects import TimerKind
from sagabus.coordinator.core.saga.history import Kind
from sagabus.coordinator.core.saga.status import Outcome, SagaStatus
from tests.core.kit import Drive
from tests.core.services import Order, Result, charge, check, paid, reserve, ship
from tests.core.shapes import awaiting, gathered, impatient, sequential, sleepy, tidy
from tests.core.wire import an_input


@saga("saga")
async def stubborn(ctx: SagaContext, order: Order) -> Result:
    """Does not let itself be cancelled."""
    try:
        await ctx.call(reserve(order=order.order))
    except asyncio.CancelledError:
        await ctx.call(check(order=order.order))
    return Result(refs=["all the same"])


@saga("saga")
async def leaving_tasks(ctx: SagaContext, order: Order) -> Result:
    """Ends while a task of its own is at work; that task wants two steps of tidying up, side by side."""

    async def background() -> None:
        try:
            await ctx.event(paid)
        finally:
            await asyncio.gather(ctx.call(check(order=order.order)), ctx.call(ship(order=order.order)))

    task = asyncio.create_task(background())
    await ctx.call(reserve(order=order.order))
    return Result(refs=[task.get_name()])


def test_u7_a_cancelled_saga_settles_and_undoes_what_it_did() -> None:
    drive = Drive(sequential).start()
    drive.completed(1)
    assert drive.cancel("changed my mind") is None
    assert drive.status == SagaStatus.COMPENSATING
    assert drive.last.short == ["settle 2 sagabus.settle"]
    drive.settled(2)
    assert drive.last.short == ["undo 2 bank.refund"]
    drive.undone(2)
    drive.undone(1)
    assert drive.status == SagaStatus.CANCELLED
    assert drive.last.told == ["compensation.completed", "saga.cancelled"]
    assert drive.error == {"code": "sagabus.cancelled", "message": "changed my mind"}


def test_u7_a_cancel_after_the_end_is_rejected() -> None:
    drive = Drive(sequential).start()
    for step in (1, 2, 3):
        drive.completed(step)
    assert drive.cancel() == CANCEL_REJECTED
    assert drive.status == SagaStatus.COMPLETED


def test_u7_a_cancel_while_the_saga_is_undone_is_rejected() -> None:
    drive = Drive(sequential).start()
    drive.completed(1)
    drive.refused(2)
    assert drive.cancel() == CANCEL_REJECTED
    drive.undone(1)
    assert drive.status == SagaStatus.COMPENSATED


def test_u7_a_cancel_while_an_ended_saga_waits_for_an_undo_is_rejected() -> None:
    drive = Drive(impatient).start()
    drive.fire(TimerKind.TIMEOUT, 1)
    drive.never(1)
    drive.completed(2)

    @saga("saga")
    async def last_minute(ctx: SagaContext, order: Order) -> Result:
        try:
            async with asyncio.timeout(5):
                await ctx.call(reserve(order=order.order))
        except TimeoutError:
            pass
        return Result(refs=[])

    drive = Drive(last_minute).start()
    drive.fire(TimerKind.SLEEP, 1)
    assert drive.status == SagaStatus.RUNNING
    assert drive.cancel() == CANCEL_REJECTED
    drive.never(1)
    assert drive.status == SagaStatus.COMPLETED


def test_u7_the_second_cancel_is_rejected_while_the_first_takes_effect() -> None:
    drive = Drive(tidy).start()
    drive.cancel(ref="ann-1")
    assert drive.status == SagaStatus.RUNNING
    assert drive.cancel(ref="bob-1") == CANCEL_REJECTED
    assert drive.last.rejections[0].body["error"]["message"] == "saga O-1 is being cancelled already"
    assert drive.cancel(ref="ann-1") == DUPLICATE, "another copy of the first"


def test_u7_commands_from_finally_run_as_steps_and_then_comes_the_undo() -> None:
    drive = Drive(tidy).start()
    drive.completed(1)
    drive.cancel()
    assert drive.last.short == ["settle 2 sagabus.settle"], "check is held: bank has an undo under way"
    drive.settled(2)
    drive.undone(2)
    assert drive.last.short == ["do 3 bank.check"]
    assert drive.status == SagaStatus.RUNNING
    drive.completed(3)
    assert drive.last.short == ["undo 1 stock.release"]
    drive.undone(1)
    assert drive.status == SagaStatus.CANCELLED
    assert [row.name for row in drive.rows if row.kind is Kind.ENDED] == ["cancelled"]


def test_u7_swallowing_the_cancellation_changes_nothing() -> None:
    drive = Drive(stubborn).start()
    drive.cancel()
    assert drive.last.short == ["do 2 bank.check", "settle 1 sagabus.settle"]
    drive.never(1)
    drive.completed(2)
    assert drive.status == SagaStatus.CANCELLED
    assert drive.state.result is None


def test_u7_an_error_on_the_way_out_changes_nothing_either() -> None:
    drive = Drive(tidy).start()
    drive.cancel("stop")
    drive.never(1)
    drive.refused(2)
    assert drive.status == SagaStatus.CANCELLED
    assert drive.error == {"code": "sagabus.cancelled", "message": "stop"}


def test_a_saga_is_cancelled_while_it_sleeps_or_waits() -> None:
    drive = Drive(sleepy).start()
    drive.completed(1)
    drive.cancel()
    assert drive.last.short == ["undo 1 stock.release"]
    assert list(drive.due) == ["resend 1"], "its sleep is over"

    drive = Drive(awaiting).start()
    drive.cancel()
    assert drive.last.short == ["settle 1 sagabus.settle"]
    assert list(drive.due) == ["resend 1"], "nor does the saga's own timeout count any more"
    drive.never(1)
    assert drive.status == SagaStatus.CANCELLED


def test_a_saga_is_cancelled_before_it_did_anything() -> None:
    drive = Drive(sequential)
    drive.start()
    drive.cancel()
    drive.never(1)
    assert drive.status == SagaStatus.CANCELLED
    assert drive.all.short == ["do 1 stock.reserve", "settle 1 sagabus.settle"]


def test_cancel_and_start_in_one_turn() -> None:
    drive = Drive(sequential)
    body = b'{"type":"start","saga":"saga","input":{}}'
    drive.offer(an_input(Kind.STARTED, name="saga", ref="start", payload=body))
    drive.offer(an_input(Kind.CANCEL, ref="cancel"))
    drive.commit()
    assert drive.last.short == ["do 1 stock.reserve", "settle 1 sagabus.settle"]
    drive.never(1)
    assert drive.status == SagaStatus.CANCELLED


def test_the_first_of_cancel_and_reply_wins_within_a_turn() -> None:
    drive = Drive(sequential).start()
    drive.completed(1)
    drive.completed(2)
    drive.offer(an_input(Kind.CANCEL, ref="cancel"))
    assert drive.offer(drive.reply(Kind.STEP_COMPLETED, 3, b'{"ref":"x"}')) == "late"
    drive.commit()
    assert drive.last.short == ["settle 3 sagabus.settle"]

    drive = Drive(sequential).start()
    drive.completed(1)
    drive.completed(2)
    drive.offer(drive.reply(Kind.STEP_COMPLETED, 3, b'{"ref":"x"}'))
    assert drive.offer(an_input(Kind.CANCEL, ref="cancel")) == CANCEL_REJECTED
    drive.commit()
    assert drive.status == SagaStatus.COMPLETED


def test_a_cancelled_gather_gives_all_its_steps_up() -> None:
    drive = Drive(gathered).start()
    drive.completed(2)
    drive.cancel()
    assert [drive.step(number).outcome for number in (1, 2, 3)] == [
        Outcome.UNKNOWN, Outcome.COMPLETED, Outcome.UNKNOWN,
    ]  # fmt: skip
    drive.settled(3)
    drive.settled(1)
    drive.undone(1)
    drive.undone(2)
    assert drive.status == SagaStatus.CANCELLED


def test_an_undo_that_ends_while_a_cancelled_saga_tidies_up_does_not_close_it() -> None:
    @saga("saga")
    async def slow_goodbye(ctx: SagaContext, order: Order) -> Result:
        try:
            try:
                async with asyncio.timeout(5):
                    await ctx.call(reserve(order=order.order))
            except TimeoutError:
                await ctx.call(ship(order=order.order))
        finally:
            await ctx.call(check(order=order.order))
        return Result(refs=[])

    drive = Drive(slow_goodbye).start()
    drive.fire(TimerKind.SLEEP, 1)
    drive.cancel()
    assert drive.last.short == ["do 3 bank.check", "settle 2 sagabus.settle"]
    drive.settled(1)
    drive.never(2)
    drive.undone(1)
    assert drive.status == SagaStatus.RUNNING
    drive.completed(3)
    assert drive.status == SagaStatus.CANCELLED


def test_a_cancel_while_the_code_is_ended_but_its_tasks_are_not() -> None:
    drive = Drive(leaving_tasks).start()
    drive.completed(1)
    assert drive.last.short == ["do 2 bank.check", "do 3 post.ship"]
    assert drive.status == SagaStatus.RUNNING
    assert drive.cancel() is None
    drive.completed(2)
    drive.completed(3)
    assert drive.last.short == ["undo 1 stock.release"]
    drive.undone(1)
    assert drive.status == SagaStatus.CANCELLED


def test_tasks_that_outlive_the_code_are_cancelled_once_and_their_tidying_is_not() -> None:
    drive = Drive(leaving_tasks).start()
    drive.completed(1)
    drive.event(paid, {"amount": 1})
    drive.completed(3)
    assert drive.last.short == [], "check is still wanted"
    drive.completed(2)
    assert drive.result == {"refs": ["Task-2"]}


def test_what_tidying_leaves_behind_is_cancelled_in_turn() -> None:
    @saga("saga")
    async def dynasty(ctx: SagaContext, order: Order) -> Result:
        async def heir(generation: int) -> None:
            try:
                await ctx.event(paid)
            finally:
                if generation < 3:
                    tasks.append(asyncio.create_task(heir(generation + 1)))
                    await asyncio.sleep(0)

        tasks = [asyncio.create_task(heir(0))]
        await asyncio.sleep(0)
        return Result(refs=[])

    assert Drive(dynasty).start().status == SagaStatus.COMPLETED


def test_tasks_that_leave_new_ones_for_ever_are_attention() -> None:
    @saga("saga")
    async def hydra(ctx: SagaContext, order: Order) -> Result:
        async def head() -> None:
            try:
                await ctx.event(paid)
            finally:
                heads.append(asyncio.create_task(head()))
                await asyncio.sleep(0)

        heads = [asyncio.create_task(head())]
        await asyncio.sleep(0)
        return Result(refs=[])

    drive = Drive(hydra).start()
    assert "100 times cancelled tasks left new ones" in drive.attention
    assert drive.status == SagaStatus.RUNNING


def test_steps_called_by_a_task_that_is_left_behind_are_given_up() -> None:
    @saga("saga")
    async def walking_out(ctx: SagaContext, order: Order) -> Result:
        task = asyncio.create_task(ctx.call(reserve(order=order.order)))
        await ctx.call(charge(order=order.order))
        return Result(refs=[task.get_name()])

    drive = Drive(walking_out).start()
    drive.completed(2)
    assert drive.last.short == ["settle 1 sagabus.settle"]
    drive.settled(1)
    drive.undone(1)
    assert drive.status == SagaStatus.COMPLETED


def test_a_saga_that_cancels_itself_has_failed() -> None:
    @saga("saga")
    async def defeatist(ctx: SagaContext, order: Order) -> Result:
        await ctx.call(reserve(order=order.order))
        raise asyncio.CancelledError

    drive = Drive(defeatist).start()
    drive.completed(1)
    drive.undone(1)
    assert drive.status == SagaStatus.COMPENSATED
    assert drive.error["message"] == "the saga's code cancelled itself"


@pytest.mark.parametrize("reason", ["", "because"])
def test_the_reason_of_a_cancel_is_in_the_error(reason: str) -> None:
    drive = Drive(sequential).start()
    drive.cancel(reason)
    assert drive.error["message"] == (reason or "cancelled on request")
