"""What the simulated deployment does: two services, one saga of many shapes, and ledgers of what really happened.

Handlers are moody: which attempt fails is not decided by the attempt alone, as in real life. Each effect is entered in
its service's ledger within the handler's transaction; what an external handler does stands outside of any database.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final, cast

from pydantic import BaseModel

from sagabus.contracts import RetryPolicy, SagaType, Service, event
from sagabus.contracts.errors import ActivityError
from sagabus.coordinator import SagaContext, saga
from sagabus.participants import ActivityContext, ExternalContext, Participant, Refused, TryAgain
from tests.simulation.postgres import SimulatedConnection

PROGRAMS: Final = ("line", "forgiving", "together", "group", "waits", "sleeps", "quits", "hasty", "tells")
MOODS: Final = ("fine", "fine", "fine", "shaky", "shaky", "refused", "broken", "busy", "unsure")


class Work(BaseModel):
    """saga: also the business key. number: of the leg. mood: how the handler feels about it."""

    saga: str
    number: int
    mood: str


class Done(BaseModel):
    """stamp: the id of the step that did it; its undo must bring it back."""

    stamp: str


class Back(BaseModel):
    saga: str
    number: int
    stamp: str
    mood: str


class Told(BaseModel):
    saga: str
    number: int


class Leg(BaseModel):
    """service: alpha or beta. outside: by a handler without transaction. timeout: seconds until it is given up."""

    service: str
    mood: str
    outside: bool = False
    timeout: float | None = None


class Plan(BaseModel):
    program: str
    legs: list[Leg]


class Result(BaseModel):
    stamps: list[str]


_RETRY: Final = RetryPolicy(first=0.2, longest=0.8, attempts=3)
_UNDO: Final = RetryPolicy(first=0.2, longest=0.8)


class _Contracts:
    """Of one service."""

    def __init__(self, name: str) -> None:
        self.service = Service(name, retry=_RETRY, resend_after=4.0)
        self.free = self.service.compensation("free", Back, retry=_UNDO)
        self.hold = self.service.activity("hold", Work, Done, compensation=self.free, refusals=("no",))
        self.call_back = self.service.compensation("call_back", Back, retry=_UNDO)
        self.call_out = self.service.activity("call_out", Work, Done, compensation=self.call_back, refusals=("no",))
        self.told = self.service.event("told", Told)


SERVICES: Final = {name: _Contracts(name) for name in ("alpha", "beta")}
JOURNEY: Final = SagaType("journey", Plan, Result)
GO: Final = event("go", Told)


@saga(JOURNEY)
async def journey(ctx: SagaContext, plan: Plan) -> Result:
    """Each shape stands for a way in which people write sagas."""
    stamps: list[str] = []

    async def leg(number: int) -> None:
        one = plan.legs[number]
        contracts = SERVICES[one.service]
        activity = contracts.call_out if one.outside else contracts.hold
        command = activity(saga=ctx.id, number=number, mood=one.mood)
        stamps.append((await ctx.call(command, timeout=one.timeout)).stamp)

    numbers = range(len(plan.legs))
    match plan.program:
        case "together":
            await asyncio.gather(*(leg(number) for number in numbers))
        case "group":
            async with asyncio.TaskGroup() as group:
                for number in numbers:
                    group.create_task(leg(number))
        case "forgiving" | "hasty":
            for number in numbers:
                with suppress(ActivityError):
                    await leg(number)
        case "waits":
            await leg(0)
            rest = numbers[1:]
            try:
                await asyncio.wait_for(ctx.event(GO), 3.0)
            except TimeoutError:
                rest = rest[::-1]
            for number in rest:
                await leg(number)
        case "sleeps":
            for number in numbers:
                await asyncio.sleep(0.7)
                with suppress(TimeoutError):
                    async with asyncio.timeout(1.0):
                        await leg(number)
        case _:
            for number in numbers:
                await leg(number)
                if plan.program == "tells":
                    ctx.publish(SERVICES["alpha"].told(saga=ctx.id, number=number))
            if plan.program == "quits":
                raise RuntimeError("this saga changes its mind at the end")
    return Result(stamps=sorted(stamps))


@saga(JOURNEY)
async def other_journey(ctx: SagaContext, plan: Plan) -> Result:
    """What was deployed in its place, and does not follow its histories: it begins with another step."""
    first = SERVICES["beta" if plan.legs[0].service == "alpha" else "alpha"]
    await ctx.call(first.hold(saga=ctx.id, number=len(plan.legs), mood="fine"))
    return await journey._body(ctx, plan)


CODES: Final = {one.fingerprint: one for one in (journey, other_journey)}


@dataclass
class Effect:
    """What really happened. step: the id of the step's own command, for an undo as well."""

    service: str
    undo: bool
    step: str
    saga: str
    at: float


@dataclass
class Ground:
    """What handlers stand on, of one service. random: their moods. shaky: whether moods still change."""

    service: str
    random: Random
    now: Callable[[], float]
    calm: Callable[[], bool]
    outside: dict[str, Effect] = field(default_factory=dict)
    """By idempotency key."""

    def fails(self, mood: str, chance: float = 0.45) -> bool:
        return mood == "broken" or (mood in ("shaky", "unsure") and not self.calm() and self.random.random() < chance)


class SimulatedSession:
    """What a handler gets as its session: it can enter effects, within the transaction of its inbox row."""

    def __init__(self, connection: Callable[[], Awaitable[SimulatedConnection]]) -> None:
        self._connection = connection

    async def enter(self, effect: Effect) -> None:
        connection = await self._connection()
        tx = connection.tx
        await connection.reach()
        schema = f"business_{effect.service}"
        number = tx.server.number()
        tx.insert((schema, "effect"), (number,), {"number": number, "effect": effect})
        slot = None if effect.undo else {"step": effect.step}
        tx.put((schema, "slot"), (effect.saga,), slot)  # by business key: what the rule U4 protects authors from
        await connection.reach()

    async def run_sync(self, _: Callable[[Any], None]) -> None:
        """Nothing is pending."""


def participant(name: str) -> Participant[Ground]:
    """The handlers of one service."""
    contracts = SERVICES[name]
    service: Participant[Ground] = Participant(contracts.service, lifespan=_unused)

    @service.handles(contracts.hold)
    async def hold(work: Work, ctx: ActivityContext[Ground]) -> Done:
        await _moody(work, ctx.resources, ctx.attempt)
        await _enter(ctx, undo=False, step=ctx.idempotency_key)
        if ctx.resources.fails(work.mood, 0.2):
            raise RuntimeError("too late: what it has written goes as well")
        if work.mood == "shaky":
            ctx.publish(contracts.told(saga=work.saga, number=work.number))
        return Done(stamp=ctx.idempotency_key)

    @service.handles(contracts.free)
    async def free(back: Back, ctx: ActivityContext[Ground]) -> None:
        await _undo(back, ctx)

    @service.handles(contracts.call_back)
    async def call_back(back: Back, ctx: ActivityContext[Ground]) -> None:
        await _undo(back, ctx)

    @service.handles(contracts.call_out, transaction=False)
    async def call_out(work: Work, ctx: ExternalContext[Ground]) -> Done:
        ground = ctx.resources
        await _moody(work, ground, ctx.attempt)
        key = ctx.idempotency_key
        effect = Effect(ground.service, False, key, ctx.saga_id, ground.now())
        ground.outside.setdefault(key, effect)
        await asyncio.sleep(ground.random.choice((0.0, 0.1, 1.5)))
        return Done(stamp=key)

    return service


async def _moody(work: Work, ground: Ground, attempt: int) -> None:
    if work.mood == "refused":
        raise Refused("no", "not today")
    if work.mood == "unsure" and not ground.calm() and ground.random.random() < 0.2:
        raise Refused("no", "not this time")
    if work.mood == "busy" and attempt < 3:
        raise TryAgain("later", after=0.3)
    if work.mood in ("slow", "unsure"):
        await asyncio.sleep(ground.random.choice((0.0, 0.5, 2.0)))
    if ground.fails(work.mood):
        raise RuntimeError("in a mood")


async def _undo(back: Back, ctx: ActivityContext[Ground]) -> None:
    step = ctx.idempotency_key.removesuffix(":undo")
    if back.stamp != step:
        raise RuntimeError(f"the undo of {step} was given the output of {back.stamp!r}")
    if ctx.resources.fails("shaky" if back.mood != "fine" else "fine"):
        raise RuntimeError("cannot undo just now")
    await _enter(ctx, undo=True, step=step)


async def _enter(ctx: ActivityContext[Ground], *, undo: bool, step: str) -> None:
    session = cast("SimulatedSession", ctx.session)
    await session.enter(Effect(ctx.resources.service, undo, step, ctx.saga_id, ctx.resources.now()))


def _unused() -> Any:
    raise AssertionError("the simulation brings the resources itself")
