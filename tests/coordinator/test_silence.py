"""A command or a reply that was lost before a shard was taken again is asked for again, though nothing brings it up."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from sagabus.contracts.names import SagaId
from sagabus.coordinator.shard.silence import PATIENCE, PORTION, Silence
from sagabus.coordinator.store.migrations import migrate
from sagabus.messaging.postgres.database import Database
from sagabus.shop.order_processing import order_processing
from tests.coordinator.shard_desk import ShardDesk, headers_of, types
from tests.coordinator.test_side import INPUT, ORDER, SHARD


@pytest.fixture
async def desk(database: str) -> AsyncIterator[ShardDesk]:
    await migrate(database, "sagabus")
    pool = Database(database)
    yield ShardDesk(pool, (order_processing,), SHARD)
    await pool.stop()


async def test_what_was_lost_before_a_take_is_sent_again(desk: ShardDesk) -> None:
    tenure = await desk.take()
    start = desk.request(ORDER, type="start", saga="order_processing", input=INPUT)
    _, command = await desk.turn(tenure, start)

    tenure = await desk.crash()
    assert await desk.turn(tenure) == []
    desk.now += 30
    left: list[str] = []
    for _ in range(3):  # one loads it, a later one finds its resend due
        messages = await desk.turn(tenure)
        left += types(messages)
        assert all(headers_of(copy)["ce_id"] == headers_of(command)["ce_id"] for copy in messages)
        assert all(headers_of(copy)["ce_attempt"] == "1" for copy in messages)
    assert left == ["inventory.reserve_inventory"]


async def test_who_gets_no_answer_for_an_hour_is_shown_in_its_row(desk: ShardDesk) -> None:
    tenure = await desk.take()
    await desk.turn(tenure, desk.request(ORDER, type="start", saga="order_processing", input=INPUT))
    desk.now += 3_590
    assert types(await desk.turn(tenure)) == ["inventory.reserve_inventory"]
    assert (await desk.saga(ORDER))["attention"] is None
    desk.now += 31
    assert types(await desk.turn(tenure)) == ["inventory.reserve_inventory", "sagabus.saga.attention"]
    row = await desk.saga(ORDER)
    assert row["status"] == "running"
    assert row["attention"].startswith("step 1 (inventory.reserve_inventory): no answer for 60 min")


def test_everybody_is_named_once_and_a_few_at_a_time() -> None:
    ids = [SagaId(f"ORD-{number:04}") for number in range(2 * PORTION + 1)]
    silence = Silence(ids, taken=0)
    assert silence.portion((), PATIENCE - 1) == []
    heard = {ids[0]}
    named = [silence.portion(heard, PATIENCE) for _ in range(4)]
    assert [len(some) for some in named] == [PORTION, PORTION, 0, 0]
    assert [id for some in named for id in some] == ids[1:]
