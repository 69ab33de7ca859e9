"""H7 in the tables: which code a saga was last decided with, over restarts with another code and back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from itertools import count

import pytest

from sagabus.coordinator import SagaContext, saga
from sagabus.coordinator.store.migrations import migrate
from sagabus.messaging.postgres.database import Database
from tests.coordinator.shard_fixture import ShardFixture, ids_of_shard, of_shard
from tests.core.services import Order, Result, charge, paid, reserve

SHARD = 1
ID = of_shard(SHARD, "S-")


@saga("saga")
async def first(ctx: SagaContext, order: Order) -> Result:
    await ctx.event(paid)
    return Result(refs=[(await ctx.call(reserve(order=order.order))).ref])


@saga("saga")
async def reworded(ctx: SagaContext, order: Order) -> Result:
    await ctx.event(paid)
    reserved = await ctx.call(reserve(order=order.order))
    return Result(refs=[reserved.ref])


@saga("saga")
async def other(ctx: SagaContext, order: Order) -> Result:
    return Result(refs=[(await ctx.call(charge(order=order.order))).ref])


@pytest.fixture
async def fixture(database: str) -> AsyncIterator[ShardFixture]:
    await migrate(database, "sagabus")
    pool = Database(database)
    yield ShardFixture(pool, (first,), SHARD)
    await pool.stop()


async def test_h7_the_fingerprint_of_the_last_deciding_code_is_stored_and_told(fixture: ShardFixture) -> None:
    tenure = await fixture.take()
    await fixture.turn(tenure, fixture.request(ID, type="start", saga="saga", input={"order": "O"}))
    assert (await fixture.saga(ID))["fingerprint"] == first.fingerprint

    tenure = await fixture.crash(other)
    await fixture.turn(tenure, fixture.request(ID, type="event", name="payment.confirmed", data={"amount": 1}))
    blocked = await fixture.saga(ID)
    changed = f"its code has changed ({first.fingerprint[-16:]} → {other.fingerprint[-16:]})"
    assert (
        blocked["attention"]
        == f"history has nothing more, the code now makes command bank.charge (number 1); {changed}"
    )
    assert blocked["fingerprint"] == first.fingerprint

    tenure = await fixture.crash(reworded)
    left = await fixture.turn(tenure)
    assert "stock.reserve" in {dict(message.headers)["ce_type"].decode() for message in left}
    saga = await fixture.saga(ID)
    assert (saga["attention"], saga["fingerprint"]) == (None, reworded.fingerprint)


NUMBERS = count()


@saga("saga")
async def careless(ctx: SagaContext, order: Order) -> Result:
    steady = [ctx.call(reserve(order="the same"))] if order.order == "second step" else []
    await asyncio.gather(*steady, ctx.call(reserve(order=str(next(NUMBERS)))))
    return Result(refs=[])


async def test_h7_of_all_sagas_of_a_careless_definition_the_log_names_one(
    fixture: ShardFixture, caplog: pytest.LogCaptureFixture
) -> None:
    tenure = await fixture.crash(careless)
    sagas = ids_of_shard(SHARD, "C-", 3)
    orders = dict(zip(sagas, ("O", "second step", "O"), strict=True))
    starts = (fixture.request(id, type="start", saga="saga", input={"order": order}) for id, order in orders.items())
    await fixture.turn(tenure, *starts)
    tenure = await fixture.crash()
    with caplog.at_level(logging.WARNING):
        await fixture.turn(
            tenure, *(fixture.request(id, type="event", name="payment.confirmed", data={"amount": 1}) for id in sagas)
        )
    said = [message for message in caplog.messages if "(stock.reserve) was sent with another order" in message]
    assert len(said) == 1
    assert said[0].startswith(f"saga {sagas[0]}, and perhaps others: definition saga: ")
