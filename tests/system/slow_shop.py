"""The shop's cashier and courier as services that take their time: 50 to 750 ms, seeded by the command's id.

Their effects lie outside the transaction of their replies, so a killed one runs again with the same idempotency key,
and must find out by it what it has done already.
"""

from __future__ import annotations

import asyncio
import zlib
from decimal import Decimal

from sqlalchemy import select

from sagabus.participants import ExternalContext, Participant, Refused
from sagabus.shop import payment as cashier
from sagabus.shop import shipping as courier
from sagabus.shop.contracts import (
    Payment,
    ProcessPayment,
    RefundPayment,
    Shipment,
    ShipOrder,
    order_shipped,
    payment,
    payment_processed,
    process_payment,
    refund_payment,
    ship_order,
    shipping,
)

SHORTEST, SPREAD = 50, 700
"""Milliseconds."""

slow_payment = Participant(payment, tables=cashier.Base.metadata)
slow_shipping = Participant(shipping, tables=courier.Base.metadata)


@slow_payment.handles(process_payment, transaction=False)
async def charge(command: ProcessPayment, ctx: ExternalContext) -> Payment:
    await pause(ctx)
    if command.amount > cashier.CARD_LIMIT:
        raise Refused("card_declined", "over the limit")
    transaction_id = f"TXN-{ctx.idempotency_key}"
    await enter_payment(ctx, transaction_id, command.order_id, command.amount)
    ctx.publish(payment_processed(order_id=command.order_id, transaction_id=transaction_id, amount=command.amount))
    return Payment(transaction_id=transaction_id, amount=command.amount, status="completed")


@slow_payment.handles(refund_payment, transaction=False)
async def refund(command: RefundPayment, ctx: ExternalContext) -> None:
    await pause(ctx)
    await enter_payment(ctx, command.transaction_id, ctx.saga_id, -command.amount)


@slow_shipping.handles(ship_order, transaction=False)
async def ship(command: ShipOrder, ctx: ExternalContext) -> Shipment:
    await pause(ctx)
    if command.address.country not in courier.SERVED:
        raise Refused("address_not_served", "no courier goes there")
    tracking_number = f"TRACK-{command.order_id}"
    async with ctx.transaction() as session:
        known = select(courier.Entry.number).where(courier.Entry.command_id == ctx.idempotency_key)
        if await session.scalar(known) is None:
            session.add(
                courier.Entry(
                    tracking_number=tracking_number, order_id=command.order_id, country=command.address.country,
                    command_id=ctx.idempotency_key,
                )
            )  # fmt: skip
    ctx.publish(order_shipped(order_id=command.order_id, tracking_number=tracking_number))
    return Shipment(tracking_number=tracking_number, status="shipped")


async def enter_payment(ctx: ExternalContext, transaction_id: str, order_id: str, amount: Decimal) -> None:
    async with ctx.transaction() as session:
        known = select(cashier.Entry.number).where(cashier.Entry.command_id == ctx.idempotency_key)
        if await session.scalar(known) is None:
            session.add(
                cashier.Entry(
                    transaction_id=transaction_id, order_id=order_id, amount=amount, reason="slowly",
                    command_id=ctx.idempotency_key,
                )
            )  # fmt: skip


async def pause(ctx: ExternalContext) -> None:
    await asyncio.sleep((SHORTEST + zlib.crc32(ctx.idempotency_key.encode()) % SPREAD) / 1_000)
