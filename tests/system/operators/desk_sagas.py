"""Sagas that stand in every way in which operators find them: under way, waiting, failing, or without their code.

A saga is named after its shape, and so is its definition. What stands does so until somebody acts: no pause is shorter
than any test, and longer than nothing.
"""

from __future__ import annotations

import asyncio
import os
from enum import StrEnum
from typing import Final

from pydantic import BaseModel

from sagabus.contracts import RetryPolicy, SagaType, Service
from sagabus.coordinator import SagaContext, saga

RETIRED_VARIABLE: Final = "DESK_IS_RETIRED"
"""In the environment of a coordinator that was deployed without the definition of the shape RETIRED."""

RARELY: Final = RetryPolicy(first=1_500, jitter=0)
"""Less than the hour after which a pause needs an operator."""

OFTEN: Final = RetryPolicy(first=0.1, attempts=3)
WEEK_SECONDS: Final = 7 * 24 * 3600.0
SOON_SECONDS: Final = 1.0


class Shape(StrEnum):
    STEADY = "steady"
    """Three steps and two short sleeps: it ends by itself."""
    AWAITING = "awaiting"
    NAPPING = "napping"
    FALTERING = "faltering"
    """Its second step fails once, and is not tried again within a test by itself."""
    FAILING = "failing"
    """Its third step fails for good: it is undone by itself."""
    UNHANDLED = "unhandled"
    """Nobody handles its second step."""
    STUBBORN = "stubborn"
    """The undo of its second step is refused, each time."""
    CONTRADICTED = "contradicted"
    """Somebody says another thing of its first step than its participant."""
    RETIRED = "retired"
    """Its code goes with the first coordinators."""
    MISTYPED = "mistyped"
    """It never had code."""


class Place(BaseModel):
    place: int


class Ticket(BaseModel):
    place: int
    ticket: str


class Called(BaseModel):
    by: str


desk = Service("desk")
give_back = desk.compensation("give_back", Ticket)
take = desk.activity("take", Place, Ticket, compensation=give_back)
never_back = desk.compensation("never_back", Ticket, retry=RARELY)
hold = desk.activity("hold", Place, Ticket, compensation=never_back)
falter = desk.activity("falter", Place, Ticket, compensation=give_back, retry=RARELY)
fail = desk.activity("fail", Place, Ticket, compensation=give_back, retry=OFTEN)
unhandled = desk.activity("unhandled", Place, Ticket, retry=RARELY)
tidy = desk.activity("tidy", Place)
called = desk.event("called", Called)


def shape(one: Shape) -> SagaType[..., Place, Place]:
    return SagaType(one.value, Place, Place)


@saga(shape(Shape.STEADY))
async def steady(ctx: SagaContext, given: Place) -> Place:
    await ctx.call(take(place=1))
    await asyncio.sleep(SOON_SECONDS)
    await ctx.call(take(place=2))
    await asyncio.sleep(SOON_SECONDS)
    await ctx.call(take(place=3))
    return given


async def _waits(ctx: SagaContext, given: Place) -> Place:
    await ctx.call(take(place=1))
    await ctx.call(take(place=2))
    await ctx.event(called)
    await ctx.call(take(place=3))
    return given


@saga(shape(Shape.AWAITING))
async def awaiting(ctx: SagaContext, given: Place) -> Place:
    return await _waits(ctx, given)


@saga(shape(Shape.CONTRADICTED))
async def contradicted(ctx: SagaContext, given: Place) -> Place:
    return await _waits(ctx, given)


@saga(shape(Shape.NAPPING))
async def napping(ctx: SagaContext, given: Place) -> Place:
    await ctx.call(take(place=1))
    await ctx.call(take(place=2))
    await asyncio.sleep(WEEK_SECONDS)
    return given


@saga(shape(Shape.FALTERING))
async def faltering(ctx: SagaContext, given: Place) -> Place:
    await ctx.call(take(place=1))
    await ctx.call(falter(place=2))
    await ctx.call(take(place=3))
    return given


@saga(shape(Shape.FAILING))
async def failing(ctx: SagaContext, given: Place) -> Place:
    await ctx.call(take(place=1))
    await ctx.call(take(place=2))
    await ctx.call(fail(place=3))
    return given


@saga(shape(Shape.UNHANDLED))
async def unhandled_step(ctx: SagaContext, given: Place) -> Place:
    await ctx.call(take(place=1))
    await ctx.call(unhandled(place=2))
    await ctx.call(take(place=3))
    return given


@saga(shape(Shape.STUBBORN))
async def stubborn(ctx: SagaContext, given: Place) -> Place:
    await ctx.call(take(place=1))
    await ctx.call(hold(place=2))
    await ctx.event(called)
    await ctx.call(take(place=3))
    return given


if RETIRED_VARIABLE not in os.environ:

    @saga(shape(Shape.RETIRED))
    async def retired(ctx: SagaContext, given: Place) -> Place:
        try:
            return await _waits(ctx, given)
        finally:
            await ctx.call(tidy(place=0))
