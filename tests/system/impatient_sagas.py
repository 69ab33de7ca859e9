"""The shop's sagas with less patience, so that a test need not wait for half a minute, or a day.

Commands without an answer are sent again after some seconds. An approver called Hasty is given two seconds.
"""

from __future__ import annotations

import asyncio

from sagabus.coordinator import SagaContext, saga
from sagabus.shop import approval, contracts
from sagabus.shop.approval import Expense, Outcome, ask, decided
from sagabus.shop.contracts import Order, OrderResult, process_payment, reserve_inventory, ship_order

AGAIN = 4
"""Seconds until an unanswered command is sent again."""

HASTY = "Hasty"
HASTE, PATIENCE = 2.0, 24 * 3600.0
"""Seconds until the manager is asked."""


@saga(contracts.order_processing)
async def order_processing(ctx: SagaContext, order: Order) -> OrderResult:
    reservation = await ctx.call(reserve_inventory(order_id=order.order_id, items=order.items), resend_after=AGAIN)
    paid = await ctx.call(
        process_payment(order_id=order.order_id, amount=reservation.total_amount, customer_email=order.customer_email),
        resend_after=AGAIN,
    )
    shipment = await ctx.call(ship_order(order_id=order.order_id, address=order.shipping_address), resend_after=AGAIN)
    return OrderResult(
        order_id=order.order_id, status="completed", total_amount=paid.amount,
        confirmation_number=shipment.tracking_number,
    )  # fmt: skip


@saga(approval.expense_approval)
async def expense_approval(ctx: SagaContext, expense: Expense) -> Outcome:
    await ctx.call(ask(expense_id=expense.expense_id, who=expense.approver), resend_after=AGAIN)
    try:
        async with asyncio.timeout(HASTE if expense.approver == HASTY else PATIENCE):
            decision = await ctx.event(decided)
    except TimeoutError:
        await ctx.call(ask(expense_id=expense.expense_id, who=expense.manager), resend_after=AGAIN)
        decision = await ctx.event(decided)
        return Outcome(approved=decision.approved, escalated=True)
    return Outcome(approved=decision.approved, escalated=False)
