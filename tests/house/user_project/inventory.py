"""A participant with a business rule and a domain event: all in one transaction."""

from decimal import Decimal

from sqlalchemy import update
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sagabus.participants import ActivityContext, Participant, Refused

from .contracts import (
    CancelReservation,
    Reservation,
    ReserveInventory,
    cancel_reservation,
    inventory,
    reserve_inventory,
    stock_reserved,
)


class Base(DeclarativeBase): ...


class Stock(Base):
    __tablename__ = "stock"
    product_id: Mapped[str] = mapped_column(primary_key=True)
    free: Mapped[int]


service = Participant(inventory, tables=Base.metadata)


@service.handles(reserve_inventory)
async def reserve(command: ReserveInventory, ctx: ActivityContext) -> Reservation:
    total = Decimal(0)
    for item in command.items:
        enough = Stock.product_id == item.product_id, Stock.free >= item.quantity
        taken = update(Stock).where(*enough).values(free=Stock.free - item.quantity).returning(Stock.free)
        if await ctx.session.scalar(taken) is None:
            raise Refused("out_of_stock", f"no {item.product_id} left", product_id=item.product_id)
        total += item.quantity * item.unit_price
    reservation = Reservation(reservation_id=f"RES-{command.order_id}", total_amount=total)
    ctx.publish(stock_reserved(order_id=command.order_id, reservation_id=reservation.reservation_id))
    return reservation


@service.handles(cancel_reservation)
async def cancel(command: CancelReservation, ctx: ActivityContext) -> None:
    await ctx.session.execute(update(Stock).values(free=Stock.free + 1))
    ctx.log.info("cancelled %s", command.order_id)
