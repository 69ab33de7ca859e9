"""A saga that waits for a person, declared by name: its input and result are its annotations."""

import asyncio
from datetime import timedelta

from pydantic import BaseModel

from sagabus.contracts import Service
from sagabus.coordinator import SagaContext, saga


class Expense(BaseModel):
    expense_id: str
    approver: str
    manager: str


class Ask(BaseModel):
    expense_id: str
    who: str


class Decision(BaseModel):
    approved: bool
    by: str


class Outcome(BaseModel):
    approved: bool
    escalated: bool


approvals = Service("approvals")
ask = approvals.activity("ask", Ask)
decided = approvals.event("decided", Decision)
A_DAY = timedelta(hours=24)


@saga("expense_approval")
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
