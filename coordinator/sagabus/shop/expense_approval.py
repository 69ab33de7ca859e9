"""The expense saga: ask somebody, wait for the decision, and after a day ask the manager. The wait costs nothing."""

import asyncio
from datetime import timedelta

from sagabus.coordinator import SagaContext, saga
from sagabus.shop import approval
from sagabus.shop.approval import Expense, Outcome, ask, decided

A_DAY = timedelta(hours=24)


@saga(approval.expense_approval)
async def expense_approval(ctx: SagaContext, expense: Expense) -> Outcome:
    escalated = False
    await ctx.call(ask(expense_id=expense.expense_id, who=expense.approver))
    try:
        async with asyncio.timeout(A_DAY.total_seconds()):
            decision = await ctx.event(decided)
    except TimeoutError:
        escalated = True
        await ctx.call(ask(expense_id=expense.expense_id, who=expense.manager))
        decision = await ctx.event(decided)
    return Outcome(approved=decision.approved, escalated=escalated)
