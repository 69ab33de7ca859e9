"""Stored timers are in memory up to a horizon: none is forgotten beyond it, and none fires twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from sagabus.contracts.names import RunId, SagaId
from sagabus.coordinator import SagaContext, saga
from sagabus.coordinator.core.saga.effects import TimerKey, TimerKind
from sagabus.coordinator.shard import intake
from sagabus.coordinator.shard.timers import HORIZON_MICROSECONDS, TimerPlace, TimerQueue, everything_until
from sagabus.coordinator.store.migrations import migrate
from sagabus.messaging.postgres.database import Database
from tests.coordinator.shard_fixture import ShardFixture, ids_of_shard
from tests.core.services import Order, Result

SHARD = 1
NOW = 1_800_000_000_000_000


def place(number: int, kind: TimerKind = TimerKind.SLEEP) -> TimerPlace:
    return SagaId("S-1"), RunId("r"), TimerKey(kind, number)


def test_a_timer_beyond_the_horizon_is_not_kept_until_it_is_read() -> None:
    queue = TimerQueue()
    queue.read_on([], everything_until(NOW))
    queue.set(place(1), NOW)
    queue.set(place(2), NOW + 1)
    assert len(queue) == 1
    queue.read_on([(place(2), NOW + 1)], everything_until(NOW + 5))
    assert [one[2].number for one in queue.take_due(NOW + 5, most=9)] == [1, 2]


def test_a_timer_that_is_moved_beyond_the_horizon_leaves_memory() -> None:
    queue = TimerQueue()
    queue.read_on([], everything_until(NOW))
    queue.set(place(1), NOW)
    queue.set(place(1), NOW + 9)
    assert list(queue.take_due(NOW + 9, most=9)) == []


def test_what_is_only_in_memory_knows_no_horizon() -> None:
    queue = TimerQueue()
    queue.set(place(1, TimerKind.RESEND), NOW + 2 * HORIZON_MICROSECONDS)
    assert len(queue) == 1


def test_more_is_read_before_it_is_due_and_after_what_is_due_has_fired() -> None:
    queue = TimerQueue()
    assert queue.wants_more(NOW)
    assert queue.first() == 0
    queue.read_on([(place(1), NOW - 9)], everything_until(NOW - 9))
    assert not queue.wants_more(NOW), "one that is due fires first"
    assert [*queue.take_due(NOW, most=9)] == [place(1)]
    assert queue.wants_more(NOW)
    queue.read_on([], everything_until(NOW + HORIZON_MICROSECONDS))
    assert not queue.wants_more(NOW)
    assert queue.wants_more(queue.first() - 1), "and by the end of the horizon in any case"


@saga("sleeps")
async def sleeps(ctx: SagaContext, order: Order) -> Result:
    await asyncio.sleep(float(order.order.rpartition("/")[2]))
    return Result(refs=[])


@pytest.fixture
async def fixture(database: str) -> AsyncIterator[ShardFixture]:
    await migrate(database, "sagabus")
    pool = Database(database)
    yield ShardFixture(pool, (sleeps,), SHARD)
    await pool.stop()


async def test_h3_all_timers_fire_once_whatever_the_page_and_the_horizon(
    fixture: ShardFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "TIMER_PAGE", 3)
    ids = ids_of_shard(SHARD, "S-", 20)
    tenure = await fixture.take()
    await fixture.turn(tenure, *(
        fixture.request(id, type="start", saga="sleeps", input={"order": f"{id}/{(number // 5) * 100 + 1}"})
        for number, id in enumerate(ids)
    ))  # fmt: skip
    ended: list[int] = []
    for later in (2, 100, 100):
        fixture.now += later
        await fixture.turn(tenure)
        ended.append(await _ended(fixture))
    assert ended == [5, 10, 15]
    tenure = await fixture.crash()
    fixture.now += 100
    await fixture.turn(tenure)
    assert await _ended(fixture) == 20
    assert await fixture.rows("SELECT * FROM sagabus.timer") == []
    fired = await fixture.rows("SELECT id FROM sagabus.history WHERE kind = 'timer'")
    assert sorted(row["id"] for row in fired) == sorted(ids)


async def _ended(fixture: ShardFixture) -> int:
    return len(await fixture.rows("SELECT id FROM sagabus.saga WHERE status = 'completed'"))
