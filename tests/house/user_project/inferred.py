"""What the type checkers infer without a word from the user."""

import asyncio
from collections.abc import Mapping
from typing import assert_type

from pydantic import BaseModel, JsonValue

from sagabus.client import SagaClient, SagaFailed, SagaHandle
from sagabus.contracts import Command, Event, SagaType, Start
from sagabus.coordinator import EventStream, Refused, SagaContext, SagaDefinition, Scope, saga
from sagabus.testing import SagaTest, Simulated, given, simulate

from . import contracts
from .approval import Decision, Expense, Outcome, decided, expense_approval
from .contracts import Order, OrderResult, Reservation, Shipment, notify_customer, reserve_inventory, ship_order


class Progress(BaseModel):
    stage: str = "new"


assert_type(SagaType("s", Order, OrderResult, attributes=Progress).of(Order.model_validate({})), Start[OrderResult])
assert_type(expense_approval, SagaDefinition[Expense, Outcome])
assert_type(reserve_inventory(order_id="1", items=[]), Command[Reservation])
assert_type(notify_customer(order_id="1"), Command[None])
assert_type(decided(approved=True, by="me"), Event[Decision])


@saga("all", version=2)
async def everything(ctx: SagaContext, order: Order) -> None:
    assert_type(await ctx.call(reserve_inventory(order_id="1", items=[])), Reservation)
    assert_type(await ctx.call(notify_customer(order_id="1")), None)
    step, told = await asyncio.gather(ctx.call(reserve_inventory(order_id="", items=[])), ctx.event(decided))
    assert_type(step, Reservation)
    assert_type(told, Decision)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(ctx.call(ship_order(order_id="", address=order.address)))
    assert_type(task.result(), Shipment)
    assert_type(await asyncio.wait_for(ctx.event(decided), 5), Decision)
    ctx.attribute(stage="waiting", amount=5, due=ctx.now(), vip=None)
    assert_type(await ctx.event(decided, where=lambda one: one.approved and one.by == "me"), Decision)
    assert_type(ctx.events(decided), EventStream[Decision])
    async for one in ctx.events(decided, where=lambda one: one.approved):
        assert_type(one, Decision)
    assert_type(await anext(ctx.events(decided)), Decision)
    ctx.publish(contracts.stock_reserved(order_id="", reservation_id=""))
    assert_type(ctx.start(contracts.order_processing.of(order)), str)
    assert_type(ctx.patched("fraud-check"), bool)
    with ctx.unguarded():
        assert_type(ctx.id, str)


assert_type(everything.of(Order.model_validate({})), Start[None])


@saga(SagaType("refusing", Order, OrderResult, refusals=("over_budget",)))
async def refusing(ctx: SagaContext, order: Order) -> OrderResult:
    raise Refused("over_budget", "it is too dear", limit=50, of=["EUR"])


async def ended(handle: SagaHandle[OrderResult]) -> None:
    try:
        await handle.result()
    except SagaFailed as failure:
        assert_type((failure.code, failure.message), tuple[str, str])
        assert_type(failure.details, Mapping[str, JsonValue])


async def undone(ctx: SagaContext) -> None:
    assert_type(ctx.on_rollback(contracts.cancel_reservation(order_id="1")), None)
    assert_type(ctx.pivot(), None)
    assert_type(await ctx.call(notify_customer(order_id="1"), hold=False), None)
    async with ctx.scope() as scope:
        call = ctx.call(reserve_inventory(order_id="1", items=[]))
        assert_type(await call.undo(), None)
        assert_type(await scope.undo(), None)
        assert_type(scope, Scope)


async def outside(client: SagaClient, order: Order) -> None:
    handle = await client.start(contracts.order_processing.of(order), id="1")
    assert_type(handle, SagaHandle[OrderResult])
    assert_type(await handle.result(), OrderResult)
    assert_type(await handle.attributes(), dict[str, JsonValue])
    assert_type(await handle.attributes(Progress), Progress)
    events: list[Event[BaseModel]] = [decided(approved=True, by="me")]
    await client.send("1", events[0])


def in_memory(order: Order) -> None:
    test = SagaTest(everything).answers(reserve_inventory, Reservation.model_validate({}))
    assert_type(test, SagaTest[Order, None])
    assert_type(SagaTest(expense_approval).start(Expense.model_validate({})).result(), Outcome)
    step = given(expense_approval, Expense.model_validate({})).expect(reserve_inventory(order_id="1", items=[]))
    step.reply(Reservation.model_validate({})).returns(Outcome.model_validate({}))
    found = simulate(expense_approval, Expense.model_validate({}), answers={notify_customer: None}, seeds=1)
    assert_type(found, Simulated)
