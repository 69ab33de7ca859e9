"""Sagas of many shapes, for the tests of the core. Each does what an author might write; none is meant to be wrong.

One whose histories stand in `histories/` is never changed (`golden`): add another one.
"""

from __future__ import annotations

import asyncio

from pydantic import BaseModel

from sagabus.contracts import ActivityFailed, ActivityTimedOut
from sagabus.coordinator import Refused, SagaContext, saga
from tests.core import undo_shapes
from tests.core.services import Order, Result, book, charge, check, count, paid, receipt, reserve, ship


@saga("saga")
async def sequential(ctx: SagaContext, order: Order) -> Result:
    reserved = await ctx.call(reserve(order=order.order))
    charged = await ctx.call(charge(order=order.order))
    shipped = await ctx.call(ship(order=order.order))
    return Result(refs=[reserved.ref, charged.ref, shipped.ref])


@saga("saga")
async def gathered(ctx: SagaContext, order: Order) -> Result:
    done = await asyncio.gather(*(ctx.call(one(order=order.order)) for one in (reserve, charge, ship)))
    await ctx.call(book(order=order.order))
    return Result(refs=[each.ref for each in done])


@saga("saga")
async def grouped(ctx: SagaContext, order: Order) -> Result:
    async with asyncio.TaskGroup() as group:
        first = group.create_task(ctx.call(reserve(order=order.order)))
        second = group.create_task(ctx.call(charge(order=order.order)))
        third = group.create_task(ctx.call(count(order=order.order)))
    return Result(refs=[each.result().ref for each in (first, second, third)])


@saga("saga")
async def impatient(ctx: SagaContext, order: Order) -> Result:
    """Gives a step up after a minute and goes on, at the same service."""
    refs = []
    try:
        refs.append((await ctx.call(reserve(order=order.order), timeout=60)).ref)
    except ActivityTimedOut:
        refs.append("late")
    refs.append((await ctx.call(reserve(order=order.order))).ref)
    return Result(refs=refs)


@saga("saga")
async def in_a_hurry(ctx: SagaContext, order: Order) -> Result:
    """The same with asyncio's own timeout around two steps."""
    refs = []
    try:
        async with asyncio.timeout(60):
            refs.append((await ctx.call(reserve(order=order.order))).ref)
            refs.append((await ctx.call(charge(order=order.order))).ref)
    except TimeoutError:
        refs.append("late")
    refs.append((await ctx.call(charge(order=order.order))).ref)
    return Result(refs=refs)


@saga("saga")
async def forgiving(ctx: SagaContext, order: Order) -> Result:
    refs = [(await ctx.call(reserve(order=order.order))).ref]
    try:
        refs.append((await ctx.call(charge(order=order.order))).ref)
    except ActivityFailed as error:
        refs.append(error.code)
    await ctx.call(check(order=order.order))
    return Result(refs=[*refs, (await ctx.call(ship(order=order.order))).ref])


@saga("saga")
async def sleepy(ctx: SagaContext, order: Order) -> Result:
    reserved = await ctx.call(reserve(order=order.order))
    await asyncio.sleep(3600)
    charged = await ctx.call(charge(order=order.order))
    return Result(refs=[reserved.ref, charged.ref])


@saga("saga", timeout=86_400)
async def awaiting(ctx: SagaContext, order: Order) -> Result:
    """Waits for an event, while a step is under way, within a day."""
    call = asyncio.create_task(ctx.call(reserve(order=order.order)))
    amount = (await ctx.event(paid)).amount
    charged = await ctx.call(charge(order=order.order))
    return Result(refs=[(await call).ref, str(amount), charged.ref])


class Labels(BaseModel):
    stage: str = "new"
    refs: int = 0


@saga("saga", attributes=Labels)
async def labelled(ctx: SagaContext, order: Order) -> Result:
    """Says how far it is, also on its way out."""
    refs: list[str] = []
    try:
        for one in (reserve, charge):
            ctx.attribute(stage=one.name)
            refs.append((await ctx.call(one(order=order.order))).ref)
            ctx.attribute(refs=len(refs))
        ctx.attribute(stage="waiting")
        await ctx.event(paid)
    finally:
        ctx.attribute(stage="done")
    return Result(refs=refs)


@saga("saga")
async def refusing(ctx: SagaContext, order: Order) -> Result:
    """Ends itself for a business reason, after a day or because a step was refused."""
    reserved = await ctx.call(reserve(order=order.order))
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(ctx.call(ship(order=order.order)))
            charged = group.create_task(ctx.call(charge(order=order.order)))
    except* ActivityFailed as failed:
        raise Refused("not_paid", "a step was refused", steps=len(failed.exceptions)) from None
    if charged.result().ref.endswith(("1", "2")):
        return Result(refs=[reserved.ref])
    await asyncio.sleep(86_400)
    raise Refused("too_late", "nobody came for it within a day")


@saga("saga", timeout=86_400)
async def choosy(ctx: SagaContext, order: Order) -> Result:
    """Waits for certain payments, in two tasks, beside its steps, and then for the others in a stream."""
    waits = [
        asyncio.create_task(ctx.event(paid, where=lambda one: one.amount % 3 == 2)),
        asyncio.create_task(ctx.event(paid, where=lambda one: one.amount % 3 == 1)),
    ]
    reserved = await ctx.call(reserve(order=order.order))
    refs = [reserved.ref]
    try:
        async with asyncio.timeout(3600):
            refs += [str((await wait).amount) for wait in waits]
            async for one in ctx.events(paid):
                refs.append(str(one.amount))
                break
    except TimeoutError:
        refs.append("late")
    for wait in waits:
        wait.cancel()
    return Result(refs=[*refs, (await ctx.call(charge(order=order.order))).ref])


@saga("saga")
async def tidy(ctx: SagaContext, order: Order) -> Result:
    """Has something to do on its way out."""
    try:
        reserved = await ctx.call(reserve(order=order.order))
        charged = await ctx.call(charge(order=order.order))
    finally:
        await ctx.call(check(order=order.order))
    return Result(refs=[reserved.ref, charged.ref])


@saga("saga")
async def racing(ctx: SagaContext, order: Order) -> Result:
    """The first of three wins, within a minute; the others are given up."""
    runners = [asyncio.create_task(ctx.call(one(order=order.order))) for one in (reserve, charge, ship)]
    done, others = await asyncio.wait(runners, timeout=60, return_when=asyncio.FIRST_COMPLETED)
    for other in others:
        other.cancel()
    refs = [each.result().ref for each in done]
    shielded = asyncio.shield(ctx.call(count(order=order.order)))
    try:
        refs.append((await asyncio.wait_for(shielded, 60)).ref)
    except TimeoutError:
        refs.append("late")
    last = [ctx.call(one(order=order.order)) for one in (reserve, charge)]
    refs += [(await first).ref for first in asyncio.as_completed(last)]
    return Result(refs=refs)


@saga("saga")
async def starting(ctx: SagaContext, order: Order) -> Result:
    """Starts others that are nobody's children, between its steps."""
    reserved = await ctx.call(reserve(order=order.order))
    first = ctx.start(receipt.of(order))
    charged = await ctx.call(charge(order=order.order))
    return Result(refs=[reserved.ref, first, charged.ref, ctx.start(receipt.of(order), id=f"{order.order}-receipt")])


@saga("saga")
async def changed(ctx: SagaContext, order: Order) -> Result:
    """Its code was changed under open sagas: at its start, in a loop, and in two tasks at once."""
    refs = [(await ctx.call(reserve(order=order.order))).ref] if ctx.patched("reserve-first") else []

    async def paid_for(number: int) -> str:
        if ctx.patched("count-before"):
            await ctx.call(count(order=f"{order.order}-{number}"))
        return (await ctx.call(charge(order=f"{order.order}-{number}"))).ref

    refs += await asyncio.gather(*(paid_for(number) for number in range(2)))
    await asyncio.sleep(3600)
    if ctx.patched("ship-late") and ctx.patched("count-before"):
        refs.append((await ctx.call(ship(order=order.order))).ref)
    return Result(refs=refs)


ALL = (
    choosy, refusing,
    sequential, gathered, grouped, impatient, in_a_hurry, forgiving, sleepy, awaiting, labelled, tidy, racing,
    starting, changed, *undo_shapes.ALL,
)  # fmt: skip
