"""`ctx.pivot()`: a point of no return. What had completed is never undone, and what follows comes to its end."""

from __future__ import annotations

import pytest

from sagabus.contracts.errors import ActivityFailed
from sagabus.coordinator import SagaContext, saga
from sagabus.coordinator.core.saga.admission import CANCEL_REJECTED
from sagabus.coordinator.core.saga.effects import TimerKey, TimerKind
from sagabus.coordinator.core.saga.history import Kind
from sagabus.coordinator.core.saga.status import SagaStatus
from tests.core.kit import Definition, Drive
from tests.core.services import Order, Result, book, charge, reserve, ship


@saga("saga", timeout=3_600)
async def pivoting(ctx: SagaContext, order: Order) -> Result:
    await ctx.call(reserve(order=order.order))
    await ctx.call(charge(order=order.order))
    ctx.pivot()
    ctx.pivot()
    await ctx.call(ship(order=order.order))
    return Result(refs=[])


@saga("saga", timeout=3_600)
async def mended(ctx: SagaContext, order: Order) -> Result:
    """The same, deployed to handle what the other one did not."""
    await ctx.call(reserve(order=order.order))
    await ctx.call(charge(order=order.order))
    ctx.pivot()
    try:
        await ctx.call(ship(order=order.order))
    except ActivityFailed:
        await ctx.call(book(order=order.order))
    return Result(refs=[])


def past(code: Definition = pivoting) -> Drive:
    drive = Drive(code).start()
    drive.completed(1)
    drive.completed(2)
    assert drive.kinds[-2:] == ["pivot", "command 3"]
    return drive


def test_u14_after_a_pivot_a_cancel_is_refused_with_the_cure() -> None:
    drive = past()
    assert drive.cancel("too late") == CANCEL_REJECTED
    (told,) = drive.last.rejections
    assert "past its pivot" in told.body["error"]["message"]
    assert "sagabus terminate O-1" in told.body["error"]["message"]
    assert (drive.status, drive.last.short) == (SagaStatus.RUNNING, [])


def test_u14_after_a_pivot_the_timeout_of_the_saga_is_off() -> None:
    drive = Drive(pivoting).start()
    drive.completed(1)
    assert TimerKey(TimerKind.SAGA, 0) in drive.timers
    drive.completed(2)
    assert TimerKey(TimerKind.SAGA, 0) not in drive.timers


def test_u14_after_a_pivot_a_failing_step_is_tried_without_end() -> None:
    drive = past()
    for attempt in range(1, 30):
        drive.failed(3)
        drive.fire(TimerKind.RETRY, 3)
        assert drive.last.commands[-1].head.attempt == attempt + 1
    drive.completed(3)
    assert drive.status == SagaStatus.COMPLETED


def test_u14_code_that_raises_to_its_end_after_a_pivot_undoes_nothing_and_code_that_handles_it_goes_on() -> None:
    drive = past()
    drive.refused(3, "no_van")
    assert (drive.status, drive.last.short, drive.state.blocked > 0) == (SagaStatus.RUNNING, [], True)
    assert "its code has raised ActivityFailed" in drive.attention
    assert "after its pivot" in drive.attention
    assert "sagabus terminate O-1" in drive.attention
    drive.reload(mended)
    assert drive.last.short == ["do 4 post.book"]
    drive.completed(4)
    assert (drive.status, drive.attention) == (SagaStatus.COMPLETED, "")


@pytest.mark.parametrize("reloaded", [False, True])
def test_u14_a_blocked_saga_that_is_past_its_pivot_is_not_cancelled_and_may_be_terminated(reloaded: bool) -> None:
    drive = past()
    drive.refused(3)
    if reloaded:
        drive.reload(keep_code=False)
    assert drive.cancel("please") == CANCEL_REJECTED
    assert drive.state.blocked
    drive.operate("terminate")
    drive.reload()
    assert drive.status == SagaStatus.TERMINATED
    assert Kind.UNDO not in {row.kind for row in drive.rows}


def test_u14_what_a_scope_has_done_before_the_pivot_is_not_undone() -> None:
    @saga("saga")
    async def inside(ctx: SagaContext, order: Order) -> Result:
        try:
            async with ctx.scope():
                first = ctx.call(reserve(order=order.order))
                await first
                ctx.pivot()
                await ctx.call(charge(order=order.order))
                await ctx.call(ship(order=order.order))
        except ActivityFailed:
            pass
        try:
            await first.undo()
        except RuntimeError as error:
            return Result(refs=[str(error)])
        return Result(refs=[])

    drive = Drive(inside).start()
    drive.completed(1)
    drive.completed(2)
    drive.refused(3)
    assert drive.last.short == ["undo 2 bank.refund"]
    drive.undone(2)
    assert drive.status == SagaStatus.COMPLETED
    assert drive.result["refs"] == ["step 1 of saga O-1 was done before its pivot: it is never undone any more"]


def test_u14_what_was_open_at_the_pivot_is_settled_when_it_is_given_up() -> None:
    @saga("saga")
    async def open_at_the_pivot(ctx: SagaContext, order: Order) -> Result:
        call = ctx.call(reserve(order=order.order))
        ctx.pivot()
        await call.undo()
        return Result(refs=[])

    drive = Drive(open_at_the_pivot).start()
    drive.settled(1)
    drive.undone(1)
    assert drive.status == SagaStatus.COMPLETED


def test_u14_a_pivot_comes_too_late_in_a_saga_that_is_cancelled() -> None:
    @saga("saga")
    async def late(ctx: SagaContext, order: Order) -> Result:
        try:
            await ctx.call(reserve(order=order.order))
            await ctx.call(charge(order=order.order))
        finally:
            try:
                ctx.pivot()
            except RuntimeError as error:
                ctx.log.info("%s", error)
                await ctx.call(ship(order=str(error)))
        return Result(refs=[])

    drive = Drive(late).start()
    drive.completed(1)
    drive.cancel("please")
    (sent,) = (one for one in drive.last.commands if one.short == "do 3 post.ship")
    assert b"a pivot is too late" in sent.body
    drive.completed(3)
    assert drive.status == SagaStatus.COMPENSATING


def test_u14_a_result_that_does_not_fit_undoes_nothing_after_a_pivot() -> None:
    @saga("saga")
    async def unfit(ctx: SagaContext, order: Order) -> Result:
        await ctx.call(reserve(order=order.order))
        ctx.pivot()
        return Order()  # type: ignore[return-value]

    drive = Drive(unfit).start()
    drive.completed(1)
    assert "after its pivot" in drive.attention
    assert drive.last.short == []


def test_u4_a_step_that_need_not_wait_is_sent_beside_an_undo() -> None:
    @saga("saga")
    async def hurried(ctx: SagaContext, order: Order) -> Result:
        call = ctx.call(reserve(order=order.order), timeout=60)
        try:
            await call
        except Exception:
            await ctx.call(reserve(order=order.order), hold=False)
            await ctx.call(reserve(order=order.order))
        return Result(refs=[])

    drive = Drive(hurried).start()
    drive.fire(TimerKind.TIMEOUT, 1)
    assert drive.last.short == ["do 2 stock.reserve", "settle 1 sagabus.settle"]
    assert [row.ref for row in drive.rows if row.kind is Kind.COMMAND] == ["", "free"]
    drive.completed(2)
    assert (drive.last.short, drive.step(3).held) == ([], True)
    drive.never(1)
    assert drive.last.short == ["do 3 stock.reserve"]
