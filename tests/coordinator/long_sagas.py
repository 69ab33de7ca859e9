"""Sagas with a history as long as a test wishes, by events that they wait for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sagabus.contracts.envelope import Message
from sagabus.coordinator import SagaContext, saga
from sagabus.coordinator.shard.loading import ReplayLimits
from sagabus.messaging.shards.tenure import Tenure
from tests.coordinator.shard_fixture import Given, ShardFixture
from tests.core.services import Order, Result, paid

LIMITS = ReplayLimits(short_history=10, rows_within_turn=50, rows_behind_turn=20, page=7, portion=3)
"""Small: a saga of twenty events is a long one."""


@saga("collects")
async def collects(ctx: SagaContext, order: Order) -> Result:
    """Ends by an event of 0; its result is what came, in its order."""
    amounts: list[str] = []
    while amount := (await ctx.event(paid)).amount:
        amounts.append(str(amount))
    return Result(refs=amounts)


def started(fixture: ShardFixture, id: str) -> Given:
    return fixture.request(id, type="start", saga="collects", input={"order": id})


def event(fixture: ShardFixture, id: str, amount: int) -> Given:
    return fixture.request(id, type="event", name="payment.confirmed", data={"amount": amount}, event_id=str(amount))


async def lengthen(fixture: ShardFixture, tenure: Tenure, id: str, amounts: Sequence[int]) -> None:
    """Start it, and give it these."""
    await fixture.turn(tenure, started(fixture, id), *(event(fixture, id, amount) for amount in amounts))


async def single_turn(fixture: ShardFixture, tenure: Tenure, *records: Any) -> list[Message]:
    """One turn alone, without those that follow it at once."""
    fixture.follows = False
    try:
        return await fixture.turn(tenure, *records)
    finally:
        fixture.follows = True
