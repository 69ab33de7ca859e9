"""Waiting for events: `sagabus dev waiting` in this folder runs these sagas; `sagabus event` sends them events."""

import asyncio

from pydantic import BaseModel

from sagabus.contracts import Service
from sagabus.coordinator import Refused, SagaContext, saga


class Order(BaseModel):
    order: str
    price: int = 0


class Payment(BaseModel):
    order: str
    amount: int


class Part(BaseModel):
    part: str
    weight: int


class Cancellation(BaseModel):
    reason: str


class Total(BaseModel):
    total: int


bank = Service("bank")
paid = bank.event("paid", Payment)
withdrawn = bank.event("withdrawn", Cancellation)
depot = Service("depot")
packed = depot.event("packed", Part)


@saga("payment")
async def payment(ctx: SagaContext, order: Order) -> Total:
    """The payment of this order, within five minutes."""
    try:
        async with asyncio.timeout(300):
            payment = await ctx.event(paid, where=lambda payment: payment.order == order.order)
    except TimeoutError:
        raise Refused("not_paid", f"nobody has paid {order.order} within 5 minutes") from None
    return Total(total=payment.amount)


@saga("instalments")
async def instalments(ctx: SagaContext, order: Order) -> Total:
    """One payment after the other, until all is paid."""
    total = 0
    async for payment in ctx.events(paid, where=lambda payment: payment.order == order.order):
        total += payment.amount
        if total >= order.price:
            break
    return Total(total=total)


@saga("parcel")
async def parcel(ctx: SagaContext, order: Order) -> Total:
    """Parts A, B and C, in whichever order they come."""

    async def part(name: str) -> int:
        return (await ctx.event(packed, where=lambda part: part.part == name)).weight

    weights = await asyncio.gather(part("A"), part("B"), part("C"))
    return Total(total=sum(weights))


@saga("paid_or_withdrawn")
async def paid_or_withdrawn(ctx: SagaContext, order: Order) -> Total:
    """Whichever comes first."""
    payment = asyncio.create_task(ctx.event(paid))
    withdrawal = asyncio.create_task(ctx.event(withdrawn))
    await asyncio.wait([payment, withdrawal], return_when=asyncio.FIRST_COMPLETED)
    if not payment.done():
        payment.cancel()
        raise Refused("withdrawn", withdrawal.result().reason)
    withdrawal.cancel()
    return Total(total=payment.result().amount)
