"""A saga, its participant and what they say to each other in one file: two bookings at once, then the money.

    sagabus dev trip
    sagabus start trip --id TRIP-1 --input '{"trip_id": "TRIP-1", "city": "Kyoto", "budget": 500}' --wait
    sagabus start trip --id TRIP-2 --input '{"trip_id": "TRIP-2", "city": "Kyoto", "budget": 100}' --wait

The second one costs more than its budget: both bookings are cancelled, the later one first.
"""

import asyncio
from datetime import datetime

from pydantic import BaseModel, Field
from sqlalchemy import BigInteger, DateTime, Identity, func
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sagabus.contracts import Service
from sagabus.coordinator import SagaContext, saga
from sagabus.participants import ActivityContext, Participant, Refused

# What is said


class Trip(BaseModel):
    trip_id: str = Field(pattern=r"^TRIP-[0-9]{1,20}$")
    city: str = Field(min_length=1, max_length=100)
    budget: int = Field(ge=0)


class Book(BaseModel):
    trip_id: str
    city: str


class Booking(BaseModel):
    booking_id: str
    price: int


class Cancel(BaseModel):
    booking_id: str


class Charge(BaseModel):
    trip_id: str
    amount: int
    budget: int


class Itinerary(BaseModel):
    trip_id: str
    bookings: list[str]
    cost: int


travel = Service("travel")
cancel_flight = travel.compensation("cancel_flight", Cancel)
book_flight = travel.activity("book_flight", Book, Booking, compensation=cancel_flight)
cancel_hotel = travel.compensation("cancel_hotel", Cancel)
book_hotel = travel.activity("book_hotel", Book, Booking, compensation=cancel_hotel)
charge_card = travel.activity("charge_card", Charge, refusals=("over_budget",))


# Who decides


@saga("trip")
async def trip(ctx: SagaContext, trip: Trip) -> Itinerary:
    where = Book(trip_id=trip.trip_id, city=trip.city)
    flight, hotel = await asyncio.gather(ctx.call(book_flight.of(where)), ctx.call(book_hotel.of(where)))
    cost = flight.price + hotel.price
    await ctx.call(charge_card(trip_id=trip.trip_id, amount=cost, budget=trip.budget))
    return Itinerary(trip_id=trip.trip_id, bookings=[flight.booking_id, hotel.booking_id], cost=cost)


# Who does


class Base(DeclarativeBase): ...


class Entry(Base):
    """What the agency did. Rows are only added."""

    __tablename__ = "travel_ledger"
    number: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    what: Mapped[str]
    booking_id: Mapped[str]
    at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.clock_timestamp())


agency = Participant(travel, tables=Base.metadata)


@agency.handles(book_flight)
async def fly(command: Book, ctx: ActivityContext) -> Booking:
    return note("flight", f"FLIGHT-{ctx.idempotency_key}", ctx, price=300)


@agency.handles(book_hotel)
async def stay(command: Book, ctx: ActivityContext) -> Booking:
    return note("hotel", f"HOTEL-{ctx.idempotency_key}", ctx, price=150)


@agency.handles(cancel_flight)
async def do_not_fly(command: Cancel, ctx: ActivityContext) -> None:
    note("flight cancelled", command.booking_id, ctx)


@agency.handles(cancel_hotel)
async def do_not_stay(command: Cancel, ctx: ActivityContext) -> None:
    note("hotel cancelled", command.booking_id, ctx)


@agency.handles(charge_card)
async def charge(command: Charge, ctx: ActivityContext) -> None:
    if command.amount > command.budget:
        raise Refused("over_budget", f"{command.amount} is more than {command.budget}")
    note("charged", command.trip_id, ctx)


def note(what: str, booking_id: str, ctx: ActivityContext, *, price: int = 0) -> Booking:
    ctx.session.add(Entry(what=what, booking_id=booking_id))
    ctx.log.info("%s: %s", what, booking_id)
    return Booking(booking_id=booking_id, price=price)
