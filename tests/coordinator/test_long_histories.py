"""A saga with a long history comes back behind the turns: others go on, and nothing that came for it is lost."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import thread_time
from typing import Any

import pytest

from sagabus.coordinator.core.saga.replay import Replay
from sagabus.coordinator.core.saga.saga import Saga
from sagabus.coordinator.shard.loading import ReplayLimits
from sagabus.coordinator.shard.pace import BREATH_SECONDS
from sagabus.coordinator.store.migrations import migrate
from sagabus.coordinator.store.write import Writes
from sagabus.messaging.postgres.database import Connection, Database
from tests.coordinator.long_sagas import LIMITS, collects, event, lengthen, single_turn, started
from tests.coordinator.shard_fixture import ShardFixture, of_shard, types
from tests.support.processor_time import collector_off

SHARD = 1
LONG, SHORT, NEW = (of_shard(SHARD, prefix) for prefix in ("LONG-", "SHORT-", "NEW-"))
ENDED = ["sagabus.saga.completed"]


@pytest.fixture
async def fixture(database: str) -> AsyncIterator[ShardFixture]:
    await migrate(database, "sagabus")
    pool = Database(database)
    yield ShardFixture(pool, (collects,), SHARD, limits=LIMITS)
    await pool.stop()


async def refs(fixture: ShardFixture, id: str) -> list[str]:
    found: list[str] = json.loads((await fixture.saga(id))["result"])["refs"]
    return found


async def kept(fixture: ShardFixture) -> int:
    return len(await fixture.rows("SELECT * FROM sagabus.early_request"))


async def test_others_end_while_a_long_history_is_replayed(fixture: ShardFixture) -> None:
    tenure = await fixture.take()
    await lengthen(fixture, tenure, LONG, range(1, 200))
    await lengthen(fixture, tenure, SHORT, [1])
    tenure = await fixture.crash()
    left = await single_turn(fixture, tenure, event(fixture, LONG, 0), event(fixture, SHORT, 0))
    assert types(left) == ENDED
    assert (await fixture.saga(SHORT))["status"] == "completed"
    assert (await fixture.saga(LONG))["status"] == "running"
    left = await single_turn(fixture, tenure, started(fixture, NEW), event(fixture, NEW, 0))
    assert types(left) == ["sagabus.saga.started", *ENDED]
    assert types(await fixture.turn(tenure)) == ENDED
    assert await refs(fixture, LONG) == [str(n) for n in range(1, 200)]
    assert await kept(fixture) == 0


async def test_h1_what_came_during_a_replay_is_taken_in_afterwards_in_its_order(fixture: ShardFixture) -> None:
    tenure = await fixture.take()
    await lengthen(fixture, tenure, LONG, range(1, 100))
    tenure = await fixture.crash()
    for amount in (100, 101, 102):
        assert await single_turn(fixture, tenure, event(fixture, LONG, amount)) == []
    assert await kept(fixture) == 3
    left = await fixture.turn(tenure, event(fixture, LONG, 103), event(fixture, LONG, 0))
    assert types(left) == ENDED
    assert await refs(fixture, LONG) == [str(n) for n in range(1, 104)]
    assert fixture.processor.counts["saga.replayed"] == 5
    assert (fixture.processor.counts["applied"], fixture.processor.kept_counts["applied"]) == (0, 5)


async def test_h1_a_crash_during_a_replay_loses_nothing_that_was_taken_in(fixture: ShardFixture) -> None:
    tenure = await fixture.take()
    await lengthen(fixture, tenure, LONG, range(1, 100))
    tenure = await fixture.crash()
    await single_turn(fixture, tenure, event(fixture, LONG, 100))
    await single_turn(fixture, tenure, event(fixture, LONG, 101))
    tenure = await fixture.crash()
    assert types(await fixture.turn(tenure, event(fixture, LONG, 0))) == ENDED
    assert await refs(fixture, LONG) == [str(n) for n in range(1, 102)]
    assert await kept(fixture) == 0


async def test_a_copy_of_a_kept_record_changes_nothing(fixture: ShardFixture) -> None:
    tenure = await fixture.take()
    await lengthen(fixture, tenure, LONG, range(1, 50))
    tenure = await fixture.crash()
    again = [event(fixture, LONG, 50), event(fixture, LONG, 50), event(fixture, LONG, 3)]
    await single_turn(fixture, tenure, *again)
    assert types(await fixture.turn(tenure, event(fixture, LONG, 0))) == ENDED
    assert await refs(fixture, LONG) == [str(n) for n in range(1, 51)]
    assert fixture.processor.kept_counts["duplicate"] == 2


async def test_h2_a_copy_of_its_start_needs_no_replay(fixture: ShardFixture) -> None:
    tenure = await fixture.take()
    await lengthen(fixture, tenure, LONG, range(1, 100))
    tenure = await fixture.crash()
    assert await fixture.turn(tenure, started(fixture, LONG)) == []
    assert fixture.processor.counts == {"start.same": 1}
    assert await kept(fixture) == 0
    await single_turn(fixture, tenure, event(fixture, LONG, 100))
    await single_turn(fixture, tenure, started(fixture, LONG))
    assert fixture.processor.counts["start.same"] == 2, "nor does one that comes during a replay"


async def test_more_than_fits_into_a_turn_is_replayed_behind_it(fixture: ShardFixture) -> None:
    tenure = await fixture.take()
    ids = [of_shard(SHARD, f"{letter}-") for letter in "ABCDEFGHIJKL"]
    for id in ids:
        await lengthen(fixture, tenure, id, range(1, 8))
    tenure = await fixture.crash()
    left = await single_turn(fixture, tenure, *(event(fixture, id, 0) for id in ids))
    assert 0 < len(left) < len(ids)
    left += await fixture.turn(tenure)
    assert types(left) == ENDED * len(ids)


async def test_no_transaction_is_open_while_sagas_are_replayed_or_decided_upon(
    fixture: ShardFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever short or long: PostgreSQL ends a session that computes within its transaction."""
    opened, computed = 0, Counter[str]()
    begin = fixture.database.transaction

    @asynccontextmanager
    async def transaction() -> AsyncIterator[Connection]:
        nonlocal opened
        async with begin() as connection:
            opened += 1
            try:
                yield connection
            finally:
                opened -= 1

    def computes(name: str, original: Any) -> Any:
        def watched(*args: Any, **options: Any) -> Any:
            computed[name if opened == 0 else "within a transaction"] += 1
            return original(*args, **options)

        return watched

    tenure = await fixture.take()
    await lengthen(fixture, tenure, LONG, range(1, 50))
    await lengthen(fixture, tenure, SHORT, [1])
    tenure = await fixture.crash()
    monkeypatch.setattr(fixture.database, "transaction", transaction)
    for owner, name in ((Replay, "go_on"), (Saga, "take"), (Saga, "drain"), (Writes, "encoded")):
        monkeypatch.setattr(owner, name, computes(name, getattr(owner, name)))
    left = await fixture.turn(tenure, event(fixture, LONG, 0), event(fixture, SHORT, 0))
    assert types(left) == ENDED * 2
    assert computed.keys() == {"go_on", "take", "drain", "encoded"}
    assert computed["go_on"] > 50 / LIMITS.portion


async def test_a_saga_whose_history_was_deleted_stops_no_other(
    fixture: ShardFixture, caplog: pytest.LogCaptureFixture
) -> None:
    tenure = await fixture.take()
    await lengthen(fixture, tenure, LONG, [1])
    await lengthen(fixture, tenure, SHORT, [1])
    await fixture.rows(f"DELETE FROM sagabus.history WHERE id = '{LONG}'")
    tenure = await fixture.crash()
    left = await fixture.turn(tenure, event(fixture, LONG, 0), event(fixture, SHORT, 0))
    assert types(left) == ENDED
    assert f"saga {LONG} " in caplog.text
    assert "has a row and no history" in caplog.text
    assert await kept(fixture) == 1, "what came for it waits, and is a dead letter in the end"
    fixture.now += 3_601 + 11
    assert types(await fixture.turn(tenure)) == ["dead letter"]


async def test_a_long_replay_lets_the_loop_go_on(database: str) -> None:
    """Whatever else is ready runs between any two portions. In processor time: a busy machine does not change it."""
    await migrate(database, "sagabus")
    pool = Database(database)
    fixture = ShardFixture(pool, (collects,), SHARD, limits=ReplayLimits(short_history=100_000))
    tenure = await fixture.take()
    await lengthen(fixture, tenure, LONG, range(1, 4_000))
    tenure = await fixture.crash()
    gaps = [0.0]

    async def others() -> None:
        while True:
            last = thread_time()
            await asyncio.sleep(0)
            gaps.append(thread_time() - last)

    with collector_off():
        other = asyncio.create_task(others())
        assert types(await fixture.turn(tenure, event(fixture, LONG, 0))) == ENDED
        other.cancel()
    assert max(gaps) < 3 * BREATH_SECONDS
    await pool.stop()
