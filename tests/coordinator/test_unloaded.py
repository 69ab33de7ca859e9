"""A command or a reply that was lost before a shard was taken again is asked for again, though nothing brings it up."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from sagabus.contracts.names import SagaId
from sagabus.coordinator.shard.unloaded import (
    IDS_READ,
    UNLOADED_PAGE,
    UNLOADED_PAUSE_MICROSECONDS,
    UNLOADED_STEP_MICROSECONDS,
    UnloadedSagas,
)
from sagabus.coordinator.store.migrations import migrate
from sagabus.messaging.postgres.database import Database
from sagabus.shop.order_processing import order_processing
from tests.coordinator.shard_fixture import ShardFixture, headers_of, types
from tests.coordinator.test_saga_processor import INPUT, ORDER, SHARD


@pytest.fixture
async def fixture(database: str) -> AsyncIterator[ShardFixture]:
    await migrate(database, "sagabus")
    pool = Database(database)
    yield ShardFixture(pool, (order_processing,), SHARD)
    await pool.stop()


async def test_what_was_lost_before_a_take_is_sent_again(fixture: ShardFixture) -> None:
    tenure = await fixture.take()
    start = fixture.request(ORDER, type="start", saga="order_processing", input=INPUT)
    _, command = await fixture.turn(tenure, start)

    tenure = await fixture.crash()
    assert await fixture.turn(tenure) == []
    fixture.now += 30
    left: list[str] = []
    for _ in range(3):  # one loads it, a later one finds its resend due
        messages = await fixture.turn(tenure)
        left += types(messages)
        assert all(headers_of(copy)["ce_id"] == headers_of(command)["ce_id"] for copy in messages)
        assert all(headers_of(copy)["ce_attempt"] == "1" for copy in messages)
    assert left == ["inventory.reserve_inventory"]


async def test_who_gets_no_answer_for_an_hour_is_shown_in_its_row(fixture: ShardFixture) -> None:
    tenure = await fixture.take()
    await fixture.turn(tenure, fixture.request(ORDER, type="start", saga="order_processing", input=INPUT))
    fixture.now += 3_590
    assert types(await fixture.turn(tenure)) == ["inventory.reserve_inventory"]
    assert (await fixture.saga(ORDER))["attention"] is None
    fixture.now += 31
    assert types(await fixture.turn(tenure)) == ["inventory.reserve_inventory", "sagabus.saga.attention"]
    row = await fixture.saga(ORDER)
    assert row["status"] == "running"
    assert row["attention"].startswith("step 1 (inventory.reserve_inventory): no answer for 60 min")


def ids(first: int, last: int) -> list[SagaId]:
    return [SagaId(f"ORD-{number:04}") for number in range(first, last)]


def test_the_walk_goes_page_by_page_to_its_end() -> None:
    unloaded = UnloadedSagas(acquired=0)
    assert not unloaded.is_due(UNLOADED_PAUSE_MICROSECONDS - 1)
    now = UNLOADED_PAUSE_MICROSECONDS
    assert unloaded.is_due(now)
    assert unloaded.named(ids(0, IDS_READ), now, loaded=()) == ids(0, UNLOADED_PAGE)
    assert (unloaded.after, unloaded.is_done) == (f"ORD-{UNLOADED_PAGE - 1:04}", False)
    assert not unloaded.is_due(now)
    assert unloaded.is_due(now + UNLOADED_STEP_MICROSECONDS)
    assert unloaded.named(ids(60, 61), now, loaded=()) == ids(60, 61)
    assert unloaded.is_done


def test_sagas_that_have_begun_since_cost_the_walk_one_look_for_a_thousand() -> None:
    unloaded = UnloadedSagas(acquired=0)
    assert unloaded.named(ids(0, IDS_READ), 1, loaded=ids(0, IDS_READ - 1)) == ids(IDS_READ - 1, IDS_READ)
    assert (unloaded.after, unloaded.is_done) == (ids(IDS_READ - 1, IDS_READ)[0], False)
    assert unloaded.named(ids(0, IDS_READ - 1), 1, loaded=ids(0, IDS_READ)) == []
    assert unloaded.is_done


def test_s6_after_a_loss_of_the_bus_the_walk_makes_no_pauses() -> None:
    unloaded = UnloadedSagas(acquired=0)
    unloaded.hurry()
    assert unloaded.is_due(1)
    unloaded.named(ids(0, UNLOADED_PAGE), 1, loaded=())
    assert unloaded.is_due(1)
