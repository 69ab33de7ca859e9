"""Sagas that undo a part of themselves, for the tests of the core: scopes, one call, undos without a step, a pivot."""

from __future__ import annotations

import asyncio

from sagabus.contracts import ActivityFailed, ActivityTimedOut
from sagabus.coordinator import SagaContext, saga
from tests.core.services import (
    Order,
    Result,
    book,
    charge,
    check,
    refund,
    release,
    reserve,
    ship,
    unbook,
)


@saga("saga")
async def scoped(ctx: SagaContext, order: Order) -> Result:
    """One scope in another one; what fails in the inner one is done in another way."""
    refs = [(await ctx.call(charge(order=order.order))).ref]
    async with ctx.scope():
        refs.append((await ctx.call(reserve(order=order.order))).ref)
        try:
            async with ctx.scope():
                await ctx.call(book(order=order.order))
                refs.append((await ctx.call(charge(order=order.order), timeout=60)).ref)
                refs.append((await ctx.call(ship(order=order.order))).ref)
        except (ActivityFailed, ActivityTimedOut) as error:
            refs.append(error.activity)
            refs.append((await ctx.call(reserve(order=order.order))).ref)
        await ctx.call(check(order=order.order))
    return Result(refs=refs)


@saga("saga")
async def scopes_side_by_side(ctx: SagaContext, order: Order) -> Result:
    """Two ways at once, each with an undo of its own; the first that is through ends the other one."""

    async def first() -> str:
        async with ctx.scope():
            await ctx.call(book(order=order.order))
            return (await ctx.call(reserve(order=order.order), timeout=60)).ref

    async def second() -> str:
        async with ctx.scope():
            done = await asyncio.gather(*(ctx.call(one(order=order.order)) for one in (charge, reserve)))
            await ctx.call(check(order=order.order))
            return done[0].ref

    refs: list[str] = []
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one()) for one in (first, second)]
        refs += [task.result() for task in tasks]
    except* ActivityFailed:
        refs.append("failed")
    except* ActivityTimedOut:
        refs.append("late")
    refs.append((await ctx.call(reserve(order=order.order))).ref)
    return Result(refs=refs)


@saga("saga")
async def choosy(ctx: SagaContext, order: Order) -> Result:
    """Takes the first of two, and undoes the other one by itself; then a part of what it has done."""
    calls = [ctx.call(one(order=order.order)) for one in (reserve, charge)]
    done, others = await asyncio.wait([asyncio.create_task(call) for call in calls], return_when="FIRST_COMPLETED")
    refs = [task.result().ref for task in done]
    async with ctx.scope() as scope:
        await ctx.call(book(order=order.order))
        await asyncio.gather(*(call.undo() for call in calls[1:]))
        refs.append((await ctx.call(charge(order=order.order))).ref)
        await scope.undo()
        refs.append((await ctx.call(reserve(order=order.order))).ref)
    for other in others:
        other.cancel()
    await calls[0].undo()
    await calls[0].undo()
    return Result(refs=refs)


@saga("saga")
async def registering(ctx: SagaContext, order: Order) -> Result:
    """What undoes what no step has done, in a scope and without; and a step that waits for no undo."""
    ctx.on_rollback(release(order=order.order, ref="before"))
    refs = [(await ctx.call(charge(order=order.order))).ref]
    try:
        async with ctx.scope():
            ctx.on_rollback(unbook(order=order.order))
            refs.append((await ctx.call(reserve(order=order.order), timeout=60)).ref)
            ctx.on_rollback(refund(order=order.order, ref="inside"))
            refs.append((await ctx.call(ship(order=order.order), timeout=60)).ref)
    except ActivityTimedOut:
        refs.append((await ctx.call(reserve(order=order.order), hold=False)).ref)
    ctx.on_rollback(refund(order=order.order, ref="at last"))
    await ctx.call(check(order=order.order))
    return Result(refs=refs)


@saga("saga", timeout=86_400)
async def pivoted(ctx: SagaContext, order: Order) -> Result:
    """Passes a point of no return in a scope, and then does what may fail."""
    refs = []
    async with ctx.scope():
        refs.append((await ctx.call(reserve(order=order.order))).ref)
        before = asyncio.create_task(ctx.call(charge(order=order.order)))
        await ctx.call(book(order=order.order))
        ctx.pivot()
        try:
            async with ctx.scope():
                refs.append((await ctx.call(reserve(order=order.order))).ref)
                refs.append((await ctx.call(ship(order=order.order), timeout=60)).ref)
        except (ActivityFailed, ActivityTimedOut) as error:
            refs.append(error.activity)
        try:
            refs.append((await before).ref)
        except ActivityFailed as error:
            refs.append(error.code)
        ctx.pivot()
    return Result(refs=refs)


ALL = (scoped, scopes_side_by_side, choosy, registering, pivoted)
