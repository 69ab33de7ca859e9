"""What an expense that waits for a person's approval says, and hears."""

from typing import Annotated

from pydantic import BaseModel, StringConstraints

from sagabus.contracts import SagaType, Service

ExpenseId = Annotated[str, StringConstraints(pattern=r"^EXP-[0-9]{1,20}$")]
Person = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class Expense(BaseModel):
    expense_id: ExpenseId
    approver: Person
    manager: Person


class Ask(BaseModel):
    expense_id: ExpenseId
    who: Person


class Decision(BaseModel):
    approved: bool
    by: Person


class Outcome(BaseModel):
    approved: bool
    escalated: bool


expense_approval = SagaType("expense_approval", Expense, Outcome)

approvals = Service("approvals")
ask = approvals.activity("ask", Ask)
decided = approvals.event("decided", Decision)
