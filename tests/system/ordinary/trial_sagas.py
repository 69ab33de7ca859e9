"""Sagas of a first day that are hard on a coordinator: very long, very wide, never ending."""

from __future__ import annotations

import asyncio
from typing import Literal
from uuid import UUID, uuid4

from pydantic import BaseModel, Field

from sagabus.contracts import RetryPolicy, SagaType, Service
from sagabus.coordinator import SagaContext, saga
from tests.system.ordinary import loop_watch

loop_watch.install_if_asked()

BRIEF = RetryPolicy(first=0.1, attempts=3)

NAP_SECONDS = 7 * 24 * 3600.0
"""Longer than any test."""


class Size(BaseModel):
    size: int = 1


class Entry(BaseModel):
    number: int


class Entered(BaseModel):
    number: int


class Odd(BaseModel):
    kind: Literal["panic", "surrogate", "exit"]


class Hold(BaseModel):
    """An input that is another one each time it is validated."""

    token: UUID = Field(default_factory=uuid4)


class Held(BaseModel):
    place: int


trial = Service("trial")
enter = trial.activity("enter", Entry, Entered)
release = trial.compensation("release", Hold)
hold = trial.activity("hold", Hold, Held, compensation=release)
strange = trial.activity("strange", Odd, retry=BRIEF)
strange_outside = trial.activity("strange_outside", Odd, retry=BRIEF)
fail = trial.activity("fail", Entry, refusals=("no",))

crowd = Service("crowd")
join = crowd.activity("join", Entry, Entered)


@saga(SagaType("march", Size, Entered))
async def march(ctx: SagaContext, given: Size) -> Entered:
    """One step after the other."""
    entered = Entered(number=0)
    for number in range(given.size):
        entered = await ctx.call(enter(number=number))
    return entered


@saga(SagaType("fan", Size, Entered))
async def fan(ctx: SagaContext, given: Size) -> Entered:
    """All steps at once, at a service of their own: nobody else's commands stand behind them."""
    done = await asyncio.gather(*(ctx.call(join(number=number)) for number in range(given.size)))
    return Entered(number=len(done))


@saga(SagaType("one", Size, Entered))
async def one(ctx: SagaContext, given: Size) -> Entered:
    return await ctx.call(enter(number=given.size))


@saga(SagaType("spin", Size, Entered))
async def spin(ctx: SagaContext, given: Size) -> Entered:
    """The mistake of the day."""
    while True:
        pass


@saga(SagaType("nap", Size, Entered))
async def nap(ctx: SagaContext, given: Size) -> Entered:
    """A step, then a timer that is far away."""
    entered = await ctx.call(enter(number=given.size))
    await asyncio.sleep(NAP_SECONDS)
    return entered


@saga(SagaType("odd", Odd, Entered))
async def odd(ctx: SagaContext, given: Odd) -> Entered:
    await ctx.call(strange(kind=given.kind))
    return Entered(number=0)


@saga(SagaType("odd_outside", Odd, Entered))
async def odd_outside(ctx: SagaContext, given: Odd) -> Entered:
    await ctx.call(strange_outside(kind=given.kind))
    return Entered(number=0)


@saga(SagaType("tokened", Hold, Entered))
async def tokened(ctx: SagaContext, given: Hold) -> Entered:
    """Holds, naps until it is cancelled, and is undone."""
    await ctx.call(hold(token=given.token))
    await asyncio.sleep(NAP_SECONDS)
    return Entered(number=0)
