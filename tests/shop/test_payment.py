"""The cashier: charged once, refunded what was charged."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from sagabus.participants import Refused
from sagabus.participants.testing import carried
from sagabus.shop import payment
from sagabus.shop.contracts import payment_processed, process_payment, refund_payment
from sagabus.shop.payment import CARD_LIMIT, Entry, service

AMOUNT = Decimal("109.97")


async def ledger(engine: AsyncEngine) -> list[tuple[str, Decimal]]:
    async with engine.connect() as connection:
        rows = await connection.execute(select(Entry.order_id, Entry.amount).order_by(Entry.number))
        return [(order, amount) for order, amount in rows]


async def test_a_card_is_charged_and_told(engine: AsyncEngine) -> None:
    async with carried(service, database=engine) as cashier:
        paid = await cashier.handle(process_payment(order_id="ORD-1", amount=AMOUNT, customer_email="a@b"))
        assert (paid.amount, paid.status) == (AMOUNT, "completed")
        told = payment_processed(order_id="ORD-1", transaction_id=paid.transaction_id, amount=AMOUNT)
        assert cashier.published == [told]
    assert await ledger(engine) == [("ORD-1", AMOUNT)]


async def test_a_refund_balances_its_charge(engine: AsyncEngine) -> None:
    async with carried(service, database=engine) as cashier:
        paid = await cashier.handle(process_payment(order_id="ORD-1", amount=AMOUNT, customer_email="a@b"))
        refund = refund_payment(transaction_id=paid.transaction_id, amount=AMOUNT, reason="undone")
        await cashier.handle(refund)
    assert await ledger(engine) == [("ORD-1", AMOUNT), ("ORD-1", -AMOUNT)]


async def test_a_card_over_its_limit_is_declined(engine: AsyncEngine) -> None:
    over = CARD_LIMIT + Decimal("0.01")
    async with carried(service, database=engine) as cashier:
        with pytest.raises(Refused, match="card_declined"):
            await cashier.handle(process_payment(order_id="ORD-1", amount=over, customer_email="a@b"))
        assert cashier.published == []
        await cashier.handle(process_payment(order_id="ORD-2", amount=CARD_LIMIT, customer_email="a@b"))
    assert await ledger(engine) == [("ORD-2", CARD_LIMIT)]


async def test_what_was_never_charged_cannot_be_refunded(engine: AsyncEngine) -> None:
    async with carried(service, database=engine) as cashier:
        with pytest.raises(Refused, match="unknown_transaction"):
            await cashier.handle(refund_payment(transaction_id="TXN-9", amount=AMOUNT, reason="undone"))
    assert await ledger(engine) == []


@pytest.fixture
def slow_bank() -> Iterator[None]:
    payment.bank.delay = 0.01
    yield
    payment.bank.delay = 0.0


@pytest.mark.usefixtures("slow_bank")
async def test_a_slow_bank_answers_too(engine: AsyncEngine) -> None:
    async with carried(service, database=engine) as cashier:
        await cashier.handle(process_payment(order_id="ORD-1", amount=AMOUNT, customer_email="a@b"))
    assert await ledger(engine) == [("ORD-1", AMOUNT)]
