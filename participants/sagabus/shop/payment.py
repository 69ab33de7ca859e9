"""The cashier: charges a card and gives the money back. Its bank is a ledger of its own, open to be looked into."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from sqlalchemy import BigInteger, DateTime, Identity, Numeric, func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sagabus.participants import ActivityContext, Participant, Refused
from sagabus.shop.contracts import (
    Payment,
    ProcessPayment,
    RefundPayment,
    payment,
    payment_processed,
    process_payment,
    refund_payment,
)

CARD_LIMIT = Decimal("5000.00")
"""What the bank lends on any card."""


class Base(DeclarativeBase): ...


class Entry(Base):
    """Money taken (amount above 0) and given back (below 0). Rows are only added."""

    __tablename__ = "payment_ledger"
    number: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    transaction_id: Mapped[str] = mapped_column(index=True)
    order_id: Mapped[str] = mapped_column(index=True)
    amount: Mapped[Decimal] = mapped_column(Numeric(18, 2))
    reason: Mapped[str]
    command_id: Mapped[str]
    at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.clock_timestamp())


WRITE = """
    INSERT INTO payment_ledger (transaction_id, order_id, amount, reason, command_id) VALUES ($1, $2, $3, $4, $5)"""


@dataclass
class Bank:
    """delay: seconds until it answers."""

    delay: float = 0.0

    async def answers(self) -> None:
        if self.delay:
            await asyncio.sleep(self.delay)


bank = Bank()


@asynccontextmanager
async def lifespan() -> AsyncGenerator[Bank]:
    """What all handlers share; a real one would open and close a connection here."""
    yield bank


service = Participant(payment, lifespan=lifespan, tables=Base.metadata)


@service.handles(process_payment)
async def charge(command: ProcessPayment, ctx: ActivityContext[Bank]) -> Payment:
    await ctx.resources.answers()
    if command.amount > CARD_LIMIT:
        raise Refused("card_declined", f"{command.amount} is over the limit of {CARD_LIMIT}")
    transaction_id = f"TXN-{ctx.idempotency_key}"
    reason = f"charged {command.customer_email}"
    entry = (transaction_id, command.order_id, command.amount, reason, ctx.idempotency_key)
    await ctx.connection.execute(WRITE, *entry)
    ctx.publish(payment_processed(order_id=command.order_id, transaction_id=transaction_id, amount=command.amount))
    ctx.log.info("charged %s for %s", command.amount, command.order_id)
    return Payment(transaction_id=transaction_id, amount=command.amount, status="completed")


@service.handles(refund_payment)
async def refund(command: RefundPayment, ctx: ActivityContext[Bank]) -> None:
    await ctx.resources.answers()
    charges = select(Entry).where(Entry.transaction_id == command.transaction_id, Entry.amount > 0)
    charged = (await ctx.session.scalars(charges)).first()
    if charged is None:
        raise Refused("unknown_transaction", f"there is no charge {command.transaction_id}")
    ctx.session.add(
        Entry(
            transaction_id=command.transaction_id,
            order_id=charged.order_id,
            amount=-command.amount,
            reason=command.reason,
            command_id=ctx.idempotency_key,
        )
    )
    ctx.log.info("refunded %s for %s", command.amount, charged.order_id)
