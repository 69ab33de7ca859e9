"""The courier: ships an order to the countries that it serves. Nothing undoes a shipment, so it comes last."""

from datetime import datetime

from sqlalchemy import BigInteger, DateTime, Identity, func
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sagabus.participants import ActivityContext, Participant, Refused
from sagabus.shop.contracts import Shipment, ShipOrder, order_shipped, ship_order, shipping

SERVED = frozenset({"France", "Germany", "Japan", "Kenya", "United States"})


class Base(DeclarativeBase): ...


class Entry(Base):
    """A parcel that has left. Rows are only added."""

    __tablename__ = "shipping_ledger"
    number: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    tracking_number: Mapped[str] = mapped_column(index=True)
    order_id: Mapped[str] = mapped_column(index=True)
    country: Mapped[str]
    command_id: Mapped[str]
    at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.clock_timestamp())


WRITE = """
    INSERT INTO shipping_ledger (tracking_number, order_id, country, command_id) VALUES ($1, $2, $3, $4)"""

service = Participant(shipping, tables=Base.metadata)


@service.handles(ship_order)
async def ship(command: ShipOrder, ctx: ActivityContext) -> Shipment:
    country = command.address.country
    if country not in SERVED:
        ctx.log.info("cannot ship %s: no courier goes to %s", command.order_id, country)
        raise Refused("address_not_served", f"no courier goes to {country}", country=country)
    tracking_number = f"TRACK-{command.order_id}"
    await ctx.connection.execute(WRITE, tracking_number, command.order_id, country, ctx.idempotency_key)
    ctx.publish(order_shipped(order_id=command.order_id, tracking_number=tracking_number))
    ctx.log.info("shipped %s to %s, %s", command.order_id, command.address.city, country)
    return Shipment(tracking_number=tracking_number, status="shipped")
