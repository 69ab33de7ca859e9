"""The warehouse: what a reservation takes, its undo gives back, and nothing else."""

from __future__ import annotations

from decimal import Decimal

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from sagabus.participants import Refused
from sagabus.participants.testing import carried
from sagabus.shop.contracts import OrderItem, Reservation, cancel_reservation, reserve_inventory, stock_reserved
from sagabus.shop.inventory import OPENING_STOCK, Entry, Stock, service

TWO_OF_ONE = OrderItem(product_id="PROD-1", quantity=2, unit_price=Decimal("29.99"))
ONE_OF_TWO = OrderItem(product_id="PROD-2", quantity=1, unit_price=Decimal("49.99"))


async def stock(engine: AsyncEngine) -> dict[str, int]:
    async with engine.connect() as connection:
        rows = await connection.execute(select(Stock.product_id, Stock.free))
        return {row.product_id: row.free for row in rows}


async def ledger(engine: AsyncEngine) -> list[tuple[str, str, int]]:
    async with engine.connect() as connection:
        rows = await connection.execute(select(Entry.order_id, Entry.product_id, Entry.quantity).order_by(Entry.number))
        return [(order, product, quantity) for order, product, quantity in rows]


async def test_goods_are_set_aside_and_told(engine: AsyncEngine) -> None:
    async with carried(service, database=engine) as inventory:
        reservation = await inventory.handle(reserve_inventory(order_id="ORD-1", items=[TWO_OF_ONE, ONE_OF_TWO]))
        assert reservation.total_amount == Decimal("109.97")
        told = stock_reserved(order_id="ORD-1", reservation_id=reservation.reservation_id)
        assert inventory.published == [told]
    assert await stock(engine) == {"PROD-1": OPENING_STOCK["PROD-1"] - 2, "PROD-2": OPENING_STOCK["PROD-2"] - 1}
    assert await ledger(engine) == [("ORD-1", "PROD-1", 2), ("ORD-1", "PROD-2", 1)]


async def test_u4_two_reservations_of_one_order_are_undone_one_by_one(engine: AsyncEngine) -> None:
    async with carried(service, database=engine) as inventory:
        first = await inventory.handle(reserve_inventory(order_id="ORD-1", items=[TWO_OF_ONE]))
        second = await inventory.handle(reserve_inventory(order_id="ORD-1", items=[TWO_OF_ONE, ONE_OF_TWO]))
        assert first.reservation_id != second.reservation_id
        await inventory.handle(cancel_reservation(reservation_id=first.reservation_id))
    assert await stock(engine) == {"PROD-1": OPENING_STOCK["PROD-1"] - 2, "PROD-2": OPENING_STOCK["PROD-2"] - 1}
    assert (await ledger(engine))[-1] == ("ORD-1", "PROD-1", -2)


async def test_one_product_in_two_items_comes_back_whole(engine: AsyncEngine) -> None:
    async with carried(service, database=engine) as inventory:
        taken = await inventory.handle(reserve_inventory(order_id="ORD-1", items=[TWO_OF_ONE, TWO_OF_ONE]))
        assert (await stock(engine))["PROD-1"] == OPENING_STOCK["PROD-1"] - 4
        await inventory.handle(cancel_reservation(reservation_id=taken.reservation_id))
    assert await stock(engine) == OPENING_STOCK
    assert await ledger(engine) == [("ORD-1", "PROD-1", 4), ("ORD-1", "PROD-1", -4)]


@pytest.mark.parametrize(
    "item",
    [
        OrderItem(product_id="PROD-2", quantity=OPENING_STOCK["PROD-2"] + 1, unit_price=Decimal(1)),
        OrderItem(product_id="PROD-9", quantity=1, unit_price=Decimal(1)),
    ],
    ids=["too many", "unknown"],
)
async def test_out_of_stock_takes_nothing_of_the_other_items_either(engine: AsyncEngine, item: OrderItem) -> None:
    async with carried(service, database=engine) as inventory:
        with pytest.raises(Refused) as refusal:
            await inventory.handle(reserve_inventory(order_id="ORD-1", items=[TWO_OF_ONE, item]))
        assert refusal.value.code == "out_of_stock"
        assert refusal.value.details == {"product_id": item.product_id}
        assert inventory.published == []
    assert await stock(engine) == OPENING_STOCK
    assert await ledger(engine) == []


async def test_the_last_piece_can_be_had(engine: AsyncEngine) -> None:
    everything = OrderItem(product_id="PROD-1", quantity=OPENING_STOCK["PROD-1"], unit_price=Decimal(1))
    async with carried(service, database=engine) as inventory:
        await inventory.handle(reserve_inventory(order_id="ORD-1", items=[everything]))
    assert (await stock(engine))["PROD-1"] == 0


async def test_the_same_command_again_is_answered_and_takes_nothing(engine: AsyncEngine) -> None:
    async with carried(service, database=engine) as inventory:
        command = reserve_inventory(order_id="ORD-1", items=[TWO_OF_ONE])
        first: Reservation = await inventory.handle(command, command_id="saga:run:1")
        assert await inventory.handle(command, command_id="saga:run:1") == first
        assert len(inventory.published) == 1
    assert await ledger(engine) == [("ORD-1", "PROD-1", 2)]


async def test_what_was_never_reserved_cannot_be_given_back(engine: AsyncEngine) -> None:
    async with carried(service, database=engine) as inventory:
        with pytest.raises(Refused, match="unknown_reservation"):
            await inventory.handle(cancel_reservation(reservation_id="RES-9"))
    assert await stock(engine) == OPENING_STOCK
