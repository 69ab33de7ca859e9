"""The courier, and the mail room of the expense saga."""

from __future__ import annotations

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from sagabus.participants import Refused
from sagabus.participants.testing import carried
from sagabus.shop import approvals, shipping
from sagabus.shop.approval import ask
from sagabus.shop.contracts import Address, order_shipped, ship_order


def address(country: str) -> Address:
    return Address(street="1-2-3 Dogenzaka", city="Shibuya", postal_code="150-0001", country=country)


async def parcels(engine: AsyncEngine) -> list[str]:
    async with engine.connect() as connection:
        rows = await connection.scalars(select(shipping.Entry.tracking_number).order_by(shipping.Entry.number))
        return [*rows]


async def test_an_order_is_shipped_and_told(engine: AsyncEngine) -> None:
    async with carried(shipping.service, database=engine) as courier:
        shipment = await courier.handle(ship_order(order_id="ORD-12345", address=address("Japan")))
        assert (shipment.tracking_number, shipment.status) == ("TRACK-ORD-12345", "shipped")
        assert courier.published == [order_shipped(order_id="ORD-12345", tracking_number="TRACK-ORD-12345")]
    assert await parcels(engine) == ["TRACK-ORD-12345"]


async def test_an_address_that_is_not_served_is_refused(engine: AsyncEngine) -> None:
    async with carried(shipping.service, database=engine) as courier:
        with pytest.raises(Refused, match="address_not_served") as refusal:
            await courier.handle(ship_order(order_id="ORD-1", address=address("Atlantis")))
        assert refusal.value.details == {"country": "Atlantis"}
        assert courier.published == []
    assert await parcels(engine) == []


async def test_somebody_is_asked(engine: AsyncEngine) -> None:
    async with carried(approvals.service, database=engine) as mail:
        await mail.handle(ask(expense_id="EXP-1", who="ann"))
    async with engine.connect() as connection:
        rows = (await connection.execute(select(approvals.Entry.expense_id, approvals.Entry.who))).all()
    assert [tuple(row) for row in rows] == [("EXP-1", "ann")]
