"""Nineteen mistakes. Each marked line, and no other, must be refused by mypy and by pyright."""

from sagabus.client import SagaClient
from sagabus.coordinator import Refused, SagaContext, saga
from sagabus.participants import ActivityContext, ExternalContext

from . import contracts
from . import payment as pay
from .approval import decided
from .contracts import *
from .inventory import service


@saga("wrong")
async def wrong(ctx: SagaContext, order: Order) -> OrderResult:
    await ctx.call(reserve_inventory(order_id=1, items=[]))  # E1 a field of another type
    await ctx.call(reserve_inventory(ordre_id="1", items=[]))  # E2 a field misspelt
    await ctx.call(reserve_inventory.of(order))  # E3 another activity's model
    await reserve_inventory(order_id="1", items=[])  # E4 ctx.call forgotten
    ctx.publish(decided)  # E5 the type of an event, and no event
    return 1  # E6 not the result that the saga declares


async def outside(client: SagaClient) -> None:
    await client.start(wrong.of(contracts.CancelReservation(order_id="1")), id="1")  # E7 not the saga's input


def unfit(command: ReserveInventory, output: Reservation) -> CancelReservation:
    return CancelReservation(order_id=command.order_id)


inventory.activity("bad", ReserveInventory, Reservation, compensation=refund_payment, compensate_with=unfit)  # E8
inventory.activity("orphan", ReserveInventory, Reservation, compensate_with=unfit)  # E9 it undoes with nothing
inventory.activity("no_undo", ReserveInventory, Reservation, compensation=ship_order)  # E10 no compensation


@service.handles(reserve_inventory)  # E11 another activity's output
async def h1(command: ReserveInventory, ctx: ActivityContext) -> Shipment: raise NotImplementedError


@service.handles(reserve_inventory)  # E12 another activity's input
async def h2(command: ShipOrder, ctx: ActivityContext) -> Reservation: raise NotImplementedError


@service.handles(reserve_inventory)  # E13 not async
def h3(command: ReserveInventory, ctx: ActivityContext) -> Reservation: raise NotImplementedError


@pay.service.handles(process_payment, transaction=False)  # E14 a session, in a handler without a transaction
async def h4(command: ProcessPayment, ctx: ActivityContext[pay.Resources]) -> Payment: raise NotImplementedError


@service.handles(reserve_inventory)  # E15 no session, in a handler with a transaction
async def h5(command: ReserveInventory, ctx: ExternalContext) -> Reservation: raise NotImplementedError


@saga(contracts.order_processing)  # E16 not the result of its contract
async def other(ctx: SagaContext, order: Order) -> Reservation: raise NotImplementedError


def refuse() -> None:
    raise Refused("over_budget")  # E17 a code without words


@service.handles(reserve_inventory, time_limit="30 s")  # E18 a text for seconds
async def h6(command: ReserveInventory, ctx: ActivityContext) -> Reservation: raise NotImplementedError


@saga("picky")
async def picky(ctx: SagaContext, order: Order) -> None:
    await ctx.event(decided, where=lambda one: one.missing)  # E19 a condition on what is no field
