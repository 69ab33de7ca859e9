"""The first saga of the README, in one file: `sagabus dev dinner` in this folder runs it."""

from pydantic import BaseModel

from sagabus.contracts import Service
from sagabus.coordinator import SagaContext, saga
from sagabus.participants import ActivityContext, Participant, Refused


# The messages. In a deployment, both sides import them.
class Dinner(BaseModel):
    guest: str
    card: str


class Table(BaseModel):
    table: int


restaurant = Service("restaurant")
free_table = restaurant.compensation("free_table", Table)
book_table = restaurant.activity("book_table", Dinner, Table, compensation=free_table)
take_deposit = restaurant.activity("take_deposit", Dinner, refusals=("card_declined",))


# The saga. It runs in the coordinator.
@saga("dinner")
async def dinner(ctx: SagaContext, dinner: Dinner) -> Table:
    table = await ctx.call(book_table.of(dinner))
    await ctx.call(take_deposit.of(dinner))  # raises when the card is declined; then the table is freed
    return table


# The participant. It runs in the service that has the tables.
service = Participant(restaurant)


@service.handles(book_table)
async def book(command: Dinner, ctx: ActivityContext) -> Table:
    ctx.log.info("table 7 is booked for %s", command.guest)
    return Table(table=7)


@service.handles(free_table)
async def free(command: Table, ctx: ActivityContext) -> None:
    ctx.log.info("table %d is free again", command.table)


@service.handles(take_deposit)
async def charge(command: Dinner, ctx: ActivityContext) -> None:
    if command.card == "expired":
        raise Refused("card_declined", f"the card of {command.guest} has expired")  # a business rejection
    ctx.log.info("%s has paid a deposit", command.guest)
