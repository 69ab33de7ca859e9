"""A shard with very many sagas is acquired page by page: what is read at a time does not grow with what is there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import pytest

from sagabus.coordinator.shard import saga_processor
from sagabus.coordinator.shard.memory import ShardMemory
from sagabus.coordinator.shard.replaying import Replaying
from sagabus.coordinator.store.migrations import migrate
from sagabus.messaging.postgres.database import Database
from sagabus.messaging.postgres.statements import name_of
from sagabus.messaging.shards.shard_row import Fenced
from sagabus.messaging.shards.tenure import Tenure
from sagabus.shop.expense_approval import expense_approval
from sagabus.shop.order_processing import order_processing
from tests.coordinator.long_sagas import single_turn
from tests.coordinator.shard_fixture import ShardFixture, headers_of, ids_of_shard, types
from tests.coordinator.test_saga_processor import INPUT, SHARD

MANY = 3_000


@pytest.fixture
async def fixture(database: str) -> AsyncIterator[ShardFixture]:
    await migrate(database, "sagabus")
    pool = Database(database)
    yield ShardFixture(pool, (order_processing, expense_approval), SHARD)
    await pool.stop()


async def sleeping(fixture: ShardFixture, count: int) -> None:
    """Open sagas with a timer each, as rows."""
    async with fixture.database.transaction() as connection:
        await connection.execute(
            """
            INSERT INTO sagabus.saga (id, run, definition, version, fingerprint, status, shard, sequence, last_now,
                input_hash, started_at, paused, trace)
            SELECT 'SLEEP-' || n, 'r', 'sleeps', 1, '', 'running', $1, 1, to_timestamp($3), '', to_timestamp($3),
                false, '' FROM generate_series(1, $2) AS n""",
            SHARD, count, fixture.now,
        )  # fmt: skip
        await connection.execute(
            """
            INSERT INTO sagabus.timer (shard, id, run, kind, number, due)
            SELECT $1, 'SLEEP-' || n, 'r', 'sleep', 1, to_timestamp($3 + n) FROM generate_series(1, $2) AS n""",
            SHARD, count, fixture.now + 3_600,
        )  # fmt: skip
        await connection.execute("ANALYZE sagabus.saga, sagabus.timer")


async def test_open_sagas_and_their_timers_are_not_read_to_acquire_their_shard(fixture: ShardFixture) -> None:
    await sleeping(fixture, MANY)
    tenure = await fixture.take()
    left = await fixture.turn(
        tenure, fixture.request("ORD-6", type="start", saga="order_processing", input={**INPUT, "order_id": "ORD-6"})
    )
    assert types(left) == ["sagabus.saga.started", "inventory.reserve_inventory"]
    memory = fixture.processor._memories[tenure]
    assert len(memory) == 1
    assert len(memory.timers) == 1, "its resend; the others' timers are hours ahead"


@pytest.mark.parametrize("name", ["timer.page", "saga.open_page", "saga.blocked_ids", "early_request.counts"])
async def test_a_page_is_found_by_an_index(fixture: ShardFixture, name: str) -> None:
    """And read in its order: nothing is sorted, nothing is passed over."""
    await sleeping(fixture, MANY)
    sql = fixture.processor._loading.reads._sql[name]
    assert name_of(sql) == name
    after = {"timer.page": [0, "", "", "", 0, 2**52]}.get(name, [""])
    more = {"saga.open_page": [["fingerprint"]]}.get(name, [])
    async with fixture.database.transaction() as connection:
        plan = "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN {sql}", SHARD, *after, 50, *more))
    assert "Index" in plan
    assert "Sort" not in plan, plan
    assert "Seq Scan" not in plan.partition("SubPlan")[0], plan


async def test_h1_all_blocked_sagas_are_tried_again_page_by_page(
    fixture: ShardFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saga_processor, "IDS_OF_A_PAGE", 2)
    ids = ids_of_shard(SHARD, "ORD-", 7)
    tenure = await fixture.crash(expense_approval)
    await fixture.turn(tenure, *(
        fixture.request(id, type="start", saga="order_processing", input={**INPUT, "order_id": id}) for id in ids
    ))  # fmt: skip
    tenure = await fixture.crash(order_processing)
    left = await fixture.turn(tenure)
    assert types(left).count("inventory.reserve_inventory") == len(ids)
    assert len(await fixture.rows("SELECT * FROM sagabus.saga WHERE attention IS NULL")) == len(ids)


async def test_early_requests_are_found_again_page_by_page(
    fixture: ShardFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saga_processor, "IDS_OF_A_PAGE", 2)
    ids = ids_of_shard(SHARD, "ORD-", 5)
    tenure = await fixture.take()
    await fixture.turn(tenure, *(fixture.request(id, type="cancel", reason="no") for id in ids))
    tenure = await fixture.crash()
    for id in ids:
        await fixture.turn(
            tenure, fixture.request(id, type="start", saga="order_processing", input={**INPUT, "order_id": id})
        )
    assert await fixture.rows("SELECT * FROM sagabus.early_request") == []
    cancelled = await fixture.rows("SELECT id FROM sagabus.history WHERE kind = 'cancel'")
    assert sorted(row["id"] for row in cancelled) == sorted(ids)


async def _started(fixture: ShardFixture) -> tuple[Sequence[str], Tenure]:
    """The ids of 120 sagas that wait for the answer of their first step."""
    ids = ids_of_shard(SHARD, "ORD-", 120)
    tenure = await fixture.take()
    await fixture.turn(tenure, *(
        fixture.request(id, type="start", saga="order_processing", input={**INPUT, "order_id": id}) for id in ids
    ))  # fmt: skip
    return ids, tenure


async def test_s6_after_a_loss_of_the_bus_all_is_sent_again_a_portion_behind_each_turn(fixture: ShardFixture) -> None:
    ids, tenure = await _started(fixture)
    fixture.ends.clear()
    tenure = await fixture.crash(ids="another log")
    first = await single_turn(fixture, tenure)
    again = first + await fixture.turn(tenure)
    assert len(first) < len(ids)
    assert sorted(message.saga_id for message in again) == sorted(ids)
    assert {headers_of(message)["ce_attempt"] for message in again} == {"1"}
    assert await fixture.turn(tenure) == [], "each once"


async def test_s6_what_is_left_to_be_done_after_a_loss_outlives_a_crash(fixture: ShardFixture) -> None:
    ids, tenure = await _started(fixture)
    fixture.processor = fixture.new_side()
    fixture.starts_at = 1_000  # retention was faster than the shard
    tenure = await fixture.take()
    await single_turn(fixture, tenure)
    tenure = await fixture.crash()
    await fixture.turn(tenure)
    notices = await fixture.rows("SELECT DISTINCT id FROM sagabus.history WHERE kind = 'notice'")
    assert sorted(row["id"] for row in notices) == sorted(ids)
    assert await fixture.rows("SELECT * FROM sagabus.shard_owner WHERE lost_records IS NOT NULL") == []


async def test_s1_the_end_of_a_loss_is_written_behind_the_fence(
    fixture: ShardFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is fenced after the last commit for a loss changes nothing of the next owner's."""
    id = ids_of_shard(SHARD, "ORD-", 1)[0]
    tenure = await fixture.take()
    await fixture.turn(
        tenure, fixture.request(id, type="start", saga="order_processing", input={**INPUT, "order_id": id})
    )
    fixture.processor = fixture.new_side()
    fixture.starts_at = 1_000
    tenure = await fixture.take()
    fenced, go_on = fixture.processor, Replaying.go_on

    async def fence_at_rest(self: Replaying, memories: Sequence[ShardMemory], *, now: int) -> None:
        await go_on(self, memories, now=now)
        is_through = memories[0].has_gone_through_all or memories[0].lost_records is None
        if fixture.processor is fenced and is_through:
            fixture.starts_at = 2_000
            await fixture.crash()

    monkeypatch.setattr(Replaying, "go_on", fence_at_rest)
    while fixture.processor is fenced:
        await fenced.turn({tenure: ()})
    with pytest.raises(Fenced):
        await fenced.turn({tenure: ()})
    (owner,) = await fixture.rows("SELECT lost_records FROM sagabus.shard_owner WHERE lost_records IS NOT NULL")
    assert "sagabus.requests" in owner["lost_records"]
