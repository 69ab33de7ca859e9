"""The warehouse: sets goods aside for an order, and puts back exactly what a reservation took.

All orders want the same few rows of the stock. So a reservation takes a product by one statement, in plain SQL: it
checks, takes and writes down, and holds the row for as short as can be. Putting back is rare, and goes through the
session.
"""

from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, Connection, DateTime, Identity, event, func, insert, select, update
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sagabus.participants import ActivityContext, Participant, Refused
from sagabus.shop.contracts import (
    CancelReservation,
    Reservation,
    ReserveInventory,
    cancel_reservation,
    inventory,
    reserve_inventory,
    stock_reserved,
)

OPENING_STOCK = {"PROD-1": 1_000, "PROD-2": 1_000}


class Base(DeclarativeBase): ...


class Stock(Base):
    """What is free of each product."""

    __tablename__ = "inventory_stock"
    product_id: Mapped[str] = mapped_column(primary_key=True)
    free: Mapped[int] = mapped_column(CheckConstraint("free >= 0"))


class Entry(Base):
    """What left the shelf for a reservation (quantity above 0) and what came back (below 0). Rows are only added."""

    __tablename__ = "inventory_ledger"
    number: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    reservation_id: Mapped[str] = mapped_column(index=True)
    order_id: Mapped[str] = mapped_column(index=True)
    product_id: Mapped[str]
    quantity: Mapped[int]
    command_id: Mapped[str]
    at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.clock_timestamp())


@event.listens_for(Stock.__table__, "after_create")
def fill_shelves(_table: Any, connection: Connection, **_: Any) -> None:
    """A new warehouse is not empty, so that a first order finds something."""
    connection.execute(insert(Stock), [{"product_id": name, "free": free} for name, free in OPENING_STOCK.items()])


TAKE = """
    WITH taken AS (
        UPDATE inventory_stock SET free = free - $2 WHERE product_id = $1 AND free >= $2 RETURNING product_id
    )
    INSERT INTO inventory_ledger (product_id, quantity, reservation_id, order_id, command_id)
    SELECT product_id, $2, $3, $4, $5 FROM taken RETURNING product_id"""
"""Gives no row if less is free. To read first and then write would be two round trips, and sell a last piece twice."""

service = Participant(inventory, tables=Base.metadata)


@service.handles(reserve_inventory)
async def reserve(command: ReserveInventory, ctx: ActivityContext) -> Reservation:
    # Named after this step and not after the order: its undo must find what this step did, and nothing else.
    reservation_id = f"RES-{ctx.idempotency_key}"
    wanted = Counter[str]()
    for item in command.items:
        wanted[item.product_id] += item.quantity
    for product_id, quantity in sorted(wanted.items()):  # sorted, so that two processes never wait for each other
        took = (product_id, quantity, reservation_id, command.order_id, ctx.idempotency_key)
        if await ctx.connection.fetchval(TAKE, *took) is None:
            raise Refused("out_of_stock", f"fewer than {quantity} of {product_id} are left", product_id=product_id)
    total = sum((item.quantity * item.unit_price for item in command.items), Decimal(0))
    ctx.publish(stock_reserved(order_id=command.order_id, reservation_id=reservation_id))
    ctx.log.info("reserved %s for %s: %s", words(wanted), command.order_id, total)
    return Reservation(reservation_id=reservation_id, total_amount=total)


@service.handles(cancel_reservation)
async def cancel(command: CancelReservation, ctx: ActivityContext) -> None:
    of_this = select(Entry).where(Entry.reservation_id == command.reservation_id, Entry.quantity > 0)
    taken = (await ctx.session.scalars(of_this.order_by(Entry.product_id))).all()
    if not taken:
        raise Refused("unknown_reservation", f"there is no reservation {command.reservation_id}")
    for entry in taken:
        free = Stock.free + entry.quantity
        await ctx.session.execute(update(Stock).where(Stock.product_id == entry.product_id).values(free=free))
        ctx.session.add(
            Entry(
                reservation_id=entry.reservation_id,
                order_id=entry.order_id,
                product_id=entry.product_id,
                quantity=-entry.quantity,
                command_id=ctx.idempotency_key,
            )
        )
    back = {entry.product_id: entry.quantity for entry in taken}
    ctx.log.info("put back %s of %s", words(back), taken[0].order_id)


def words(moved: Mapping[str, int]) -> str:
    return " and ".join(f"{quantity} × {product_id}" for product_id, quantity in sorted(moved.items()))
