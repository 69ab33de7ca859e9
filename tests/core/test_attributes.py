"""Attributes of a running saga: they follow from its code, and stand in its row and in what it tells the world."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from pydantic import BaseModel

from sagabus.contracts import DeclarationError, SagaType
from sagabus.coordinator import SagaContext, saga
from sagabus.coordinator.core.saga.effects import TimerKind
from tests.core.kit import Drive
from tests.core.services import Order, Result, charge, paid, reserve
from tests.core.shapes import sequential


class Stages(BaseModel):
    stage: str = "new"
    amount: int | None = None


@saga("saga", attributes=Stages)
async def staged(ctx: SagaContext, order: Order) -> Result:
    ctx.attribute(stage="reserving", amount=100)
    ctx.attribute(amount=120)
    try:
        await ctx.call(reserve(order=order.order))
        ctx.attribute(stage="waiting for payment")
        await ctx.event(paid)
        ctx.attribute(stage="waiting for payment")
        await asyncio.sleep(60)
        await ctx.call(charge(order=order.order))
    except asyncio.CancelledError:
        ctx.attribute(stage="given up")
        raise
    ctx.attribute(stage="done")
    return Result(refs=[])


def attributes(drive: Drive) -> Any:
    stored = drive.stored.attributes
    return None if stored is None else json.loads(stored)


def told(drive: Drive) -> list[tuple[str, Any]]:
    return [(one.type.removeprefix("sagabus."), one.body.get("attributes")) for one in drive.last.lifecycle]


def test_h9_attributes_stand_in_the_row_and_in_lifecycle_events() -> None:
    drive = Drive(staged).start()
    at_first, then = {"stage": "new", "amount": None}, {"stage": "reserving", "amount": 120}
    assert told(drive) == [("saga.started", at_first), ("saga.attributes", then)]
    assert attributes(drive) == then
    drive.completed(1)
    waiting = {"stage": "waiting for payment", "amount": 120}
    assert told(drive) == [("step.completed", None), ("saga.attributes", waiting)]
    drive.event(paid, {"amount": 1})
    assert told(drive) == []  # set to what it is
    drive.fire(TimerKind.SLEEP, 1)
    drive.completed(2)
    done = {"stage": "done", "amount": 120}
    assert told(drive) == [("step.completed", None), ("saga.attributes", done), ("saga.completed", done)]
    assert attributes(drive) == done
    assert not any("attribute" in kind for kind in drive.kinds)


def test_h9_they_are_set_on_the_way_out_and_stay_while_it_is_undone() -> None:
    drive = Drive(staged).start()
    drive.completed(1)
    drive.cancel()
    given_up = {"stage": "given up", "amount": 120}
    assert attributes(drive) == given_up
    drive.undone(1)
    assert told(drive) == [("compensation.completed", None), ("saga.cancelled", given_up)]


def test_h9_a_saga_that_declares_none_has_none() -> None:
    drive = Drive(sequential).start()
    assert attributes(drive) is None
    assert told(drive) == [("saga.started", None)]


def test_h9_without_its_code_a_saga_keeps_what_its_row_says() -> None:
    drive = Drive(staged).start()
    drive.completed(1)
    before = attributes(drive)
    drive.reload(keep_code=False)
    assert drive.state.blocked or drive.completed(2) is None
    drive.cancel("its code is gone")
    assert attributes(drive) == before
    drive.undone(1)
    assert (drive.status, attributes(drive)) == ("cancelled", before)
    drive.reload(staged)
    assert attributes(drive) == before


@saga("saga", attributes=Stages)
async def staged_otherwise(ctx: SagaContext, order: Order) -> Result:
    ctx.attribute(stage="RESERVING")
    await ctx.call(reserve(order=order.order))
    ctx.attribute(stage="PAYING", amount=120)
    await ctx.event(paid)
    return Result(refs=[])


def test_h9_other_attributes_are_no_divergence_and_the_row_follows_the_code() -> None:
    drive = Drive(staged).start()
    drive.completed(1)
    drive.reload(staged_otherwise)
    assert not drive.attention
    assert attributes(drive) == {"stage": "PAYING", "amount": 120}


class More(Stages):
    vip: bool = False


@saga("saga", attributes=More)
async def with_more(ctx: SagaContext, order: Order) -> Result:
    await ctx.call(reserve(order=order.order))
    return Result(refs=[])


@saga("saga")
async def with_none(ctx: SagaContext, order: Order) -> Result:
    await ctx.call(reserve(order=order.order))
    return Result(refs=[])


def test_h9_an_attribute_that_is_declared_later_has_its_default_in_open_sagas() -> None:
    drive = Drive(with_none).start()
    drive.reload(with_more)
    assert attributes(drive) == {"stage": "new", "amount": None, "vip": False}
    drive.completed(1)
    assert drive.status == "completed"
    drive.reload(with_none)
    assert attributes(drive) == {"stage": "new", "amount": None, "vip": False}, "of a closed one they stay"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"stge": "x"}, "Stages declares no attribute 'stge'; it has stage, amount"),
        ({"amount": "many"}, "attribute amount: Input should be a valid integer"),
        ({"stage": "x" * 10_000_000}, "the limit is 8192"),
    ],
)
def test_h9_what_is_wrong_is_raised_where_it_is_set(values: dict[str, Any], said: str) -> None:
    @saga("saga", attributes=Stages)
    async def wrong(ctx: SagaContext, order: Order) -> Result:
        await ctx.call(reserve(order=order.order))
        ctx.attribute(**values)
        return Result(refs=[])

    drive = Drive(wrong).start()
    drive.completed(1)
    assert said in drive.error["message"]
    assert drive.error["at"].split(":")[0].endswith("test_attributes.py")
    drive.undone(1)
    assert (drive.status, attributes(drive)) == ("compensated", {"stage": "new", "amount": None})


def test_h9_who_declares_none_is_told_how() -> None:
    @saga("saga")
    async def undeclared(ctx: SagaContext, order: Order) -> Result:
        ctx.attribute(stage="x")
        return Result(refs=[])

    drive = Drive(undeclared).start()
    assert "declares no attributes: name their model in its declaration" in drive.error["message"]


def test_they_are_declared_in_one_place() -> None:
    contract = SagaType("saga", Order, Result, attributes=Stages)
    with pytest.raises(DeclarationError, match="declared with its SagaType"):
        saga(contract, attributes=Stages)  # type: ignore[call-overload]  # on purpose

    @saga(contract)
    async def body(ctx: SagaContext, order: Order) -> Result:
        return Result(refs=[])

    assert body.attributes is Stages
