"""The mail room: tells people that an expense waits for them. Their answer goes to the saga as an event."""

from datetime import datetime

from sqlalchemy import BigInteger, DateTime, Identity, func
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sagabus.participants import ActivityContext, Participant
from sagabus.shop.approval import Ask, approvals, ask


class Base(DeclarativeBase): ...


class Entry(Base):
    """Who was asked about what. Rows are only added."""

    __tablename__ = "approvals_ledger"
    number: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    expense_id: Mapped[str] = mapped_column(index=True)
    who: Mapped[str]
    command_id: Mapped[str]
    at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.clock_timestamp())


service = Participant(approvals, tables=Base.metadata)


@service.handles(ask)
async def write(command: Ask, ctx: ActivityContext) -> None:
    ctx.session.add(Entry(expense_id=command.expense_id, who=command.who, command_id=ctx.idempotency_key))
    ctx.log.info("asked %s about %s", command.who, command.expense_id)
