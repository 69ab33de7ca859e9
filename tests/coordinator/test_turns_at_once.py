"""Turns over different shards, under way at once: none waits for what another waits for in the database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from sagabus.coordinator.store.migrations import migrate
from sagabus.messaging.postgres.database import Database
from sagabus.shop.order_processing import order_processing
from tests.coordinator.shard_fixture import Given, ShardFixture, of_shard
from tests.support.conditions import until

ADDRESS = {"street": "s", "city": "c", "postal_code": "p", "country": "Japan"}
ITEMS = [{"product_id": "PROD-1", "quantity": 1, "unit_price": "29.99"}]


@pytest.fixture
async def fixture(database: str) -> AsyncIterator[ShardFixture]:
    await migrate(database, "sagabus")
    pool = Database(database)
    yield ShardFixture(pool, (order_processing,), 0)
    await pool.stop()


def start(fixture: ShardFixture) -> Given:
    order = {"order_id": "ORD-1", "customer_email": "a@example.com", "items": ITEMS, "shipping_address": ADDRESS}
    return fixture.request(of_shard(fixture.shard, "ORD-"), type="start", saga="order_processing", input=order)


async def test_s1_a_turn_is_decided_and_committed_while_another_waits_for_its_shard(
    fixture: ShardFixture, database: str
) -> None:
    first, record = await fixture.take(), start(fixture)
    fixture.shard = 1
    second, other_record = await fixture.take(), start(fixture)
    stranger = await asyncpg.connect(database)
    try:
        held = stranger.transaction()
        await held.start()
        await stranger.execute("SELECT FROM sagabus.shard WHERE shard = 0 FOR UPDATE")
        waiting = asyncio.create_task(fixture.processor.turn({first: [record]}))
        await until(lambda: _waits(stranger), what="the first turn waits for its shard")
        await fixture.processor.turn({second: [other_record]})
        assert [row["shard"] for row in await fixture.rows("SELECT shard FROM sagabus.saga")] == [1]
        assert not waiting.done()
        await held.rollback()
        await waiting
    finally:
        await stranger.close()
    assert [row["shard"] for row in await fixture.rows("SELECT shard FROM sagabus.saga ORDER BY shard")] == [0, 1]


async def _waits(connection: asyncpg.Connection[asyncpg.Record]) -> bool:
    return bool(await connection.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"))
