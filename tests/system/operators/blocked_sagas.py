"""Sagas that come to a stand when some steps are done: their code changes or spins, or nobody reads an answer."""

from __future__ import annotations

import os
from typing import Final

from sagabus.contracts import SagaType, Service
from sagabus.coordinator import SagaContext, saga
from tests.system.operators.desk_sagas import Place, Ticket, called, hold, take

CHANGED_VARIABLE: Final = "MOODY_IS_CHANGED"
"""In the environment of a coordinator whose code of `moody` has another second step."""

AGAIN_SECONDS: Final = 2.0

abroad = Service("abroad", resend_after=AGAIN_SECONDS)
bring_back = abroad.compensation("bring_back", Ticket)
send_off = abroad.activity("send_off", Place, Ticket, compensation=bring_back)


@saga(SagaType("moody", Place, Place))
async def moody(ctx: SagaContext, given: Place) -> Place:
    await ctx.call(take(place=1))
    await ctx.call(hold(place=2) if CHANGED_VARIABLE in os.environ else take(place=2))
    await ctx.event(called)
    return given


@saga(SagaType("spinning", Place, Place))
async def spinning(ctx: SagaContext, given: Place) -> Place:
    await ctx.call(take(place=1))
    await ctx.call(take(place=2))
    await ctx.event(called)
    while True:
        pass


@saga(SagaType("abroad", Place, Place))
async def goes_abroad(ctx: SagaContext, given: Place) -> Place:
    await ctx.call(take(place=1))
    await ctx.call(take(place=2))
    await ctx.call(send_off(place=3))
    return given
