"""What retention removes of a coordinator's shard, and what it never touches: on a real PostgreSQL, without Kafka."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from sagabus.coordinator.shard.purging import SAGAS
from sagabus.coordinator.store.migrations import migrate
from sagabus.coordinator.store.tables import coordinator_tables
from sagabus.messaging.postgres.database import Database
from sagabus.messaging.shards import retention
from sagabus.messaging.shards.fence import Fenced
from sagabus.messaging.shards.retention import ROWS, Pruning, Retention, prune_dead_letters
from sagabus.messaging.shards.tenure import Tenure
from sagabus.shop.order_processing import order_processing
from tests.coordinator.shard_desk import Given, ShardDesk, of_shard, types
from tests.support.postgres import PostgresServer

SHARD = 1
ORDER = of_shard(SHARD, "ORD-")
HOUR, DAY = 3_600.0, 86_400.0
KEPT = Retention(sagas=30 * DAY, started_ids=14 * DAY, dead_letters=30 * DAY, parked=30 * DAY)
NO_STOCK = {"code": "out_of_stock", "message": "none left"}
GROWING = ("saga", "history", "timer")


@pytest.fixture(scope="module")
def migrated(postgres: PostgresServer) -> Any:
    with postgres.database() as url:
        asyncio.run(migrate(url, "sagabus"))
        yield url


@pytest.fixture
async def desk(migrated: str) -> AsyncIterator[ShardDesk]:
    pool = Database(migrated)
    names = [table.fullname for table in coordinator_tables("sagabus").sorted_tables]
    async with pool.transaction() as connection:
        await connection.execute(f"TRUNCATE {', '.join(names)}")
    yield ShardDesk(pool, (order_processing,), SHARD, retention=KEPT)
    await pool.stop()


def start(desk: ShardDesk, id: str = ORDER, *, produced: float | None = None, **changes: Any) -> Given:
    """produced: when, in seconds since 1970; now unless told otherwise."""
    address = {"street": "s", "city": "c", "postal_code": "p", "country": "Japan"}
    items = [{"product_id": "PROD-1", "quantity": 1, "unit_price": "29.99"}]
    order = {"order_id": "ORD-1", "customer_email": "c@example.com", "items": items, "shipping_address": address}
    order |= changes
    given = desk.request(id, type="start", saga="order_processing", input=order)
    return replace(given, timestamp=round((produced or desk.now) * 1_000))


async def closed(desk: ShardDesk, tenure: Tenure, *ids: str) -> list[Given]:
    """Sagas that have ended; the replies that ended them."""
    left = await desk.turn(tenure, *(start(desk, id) for id in ids))
    replies = [desk.reply(m, "refused", NO_STOCK) for m in left if m.topic == "inventory.commands"]
    await desk.turn(tenure, *replies)
    assert len(replies) == len(ids)
    return replies


async def count(desk: ShardDesk, table: str) -> int:
    (row,) = await desk.rows(f"SELECT count(*) AS n FROM sagabus.{table}")
    return int(row["n"])


async def letters(desk: ShardDesk) -> list[str]:
    return [row["reason"] for row in await desk.rows("SELECT reason FROM sagabus.dead_letter ORDER BY id")]


async def dead(desk: ShardDesk, tenure: Tenure, record: Given) -> bool:
    """Whether this record becomes a dead letter, and does nothing else."""
    return [message.topic for message in await desk.turn(tenure, record)] == ["sagabus.dead-letters"]


async def removed(desk: ShardDesk) -> tuple[Tenure, list[Given]]:
    """A saga that has ended and is gone."""
    tenure = await desk.take()
    replies = await closed(desk, tenure, ORDER)
    desk.now += 30 * DAY + 1
    await desk.turn(tenure)
    assert [await count(desk, table) for table in GROWING] == [0, 0, 0]
    return tenure, replies


async def test_h2_an_id_outlives_its_row_an_equal_start_is_the_same_saga(desk: ShardDesk) -> None:
    tenure, _ = await removed(desk)
    assert await desk.turn(tenure, start(desk)) == []
    left = await desk.turn(tenure, start(desk, customer_email="other@example.com"))
    assert types(left) == ["dead letter", "sagabus.start.rejected"]
    assert await letters(desk) == ["start.other_input"]
    assert desk.side.counts["start.same"] == 1
    assert await count(desk, "saga") == 0


async def test_h2_the_id_is_stored_in_the_transaction_that_removes_the_row(desk: ShardDesk) -> None:
    tenure = await desk.take()
    await closed(desk, tenure, ORDER)
    (before,) = await desk.rows("SELECT id, run, input_hash FROM sagabus.saga")
    assert await count(desk, "started_id") == 0
    await desk.rows("ALTER TABLE sagabus.started_id ADD CONSTRAINT broken CHECK (false) NOT VALID")
    desk.now += 31 * DAY
    await desk.turn(tenure)
    assert await count(desk, "saga") == 1
    await desk.rows("ALTER TABLE sagabus.started_id DROP CONSTRAINT broken")
    desk.now += HOUR
    await desk.turn(tenure)
    (after,) = await desk.rows("SELECT id, run, input_hash FROM sagabus.started_id")
    assert after == before
    assert await count(desk, "saga") == 0


async def test_h2_a_forgotten_id_is_free_and_a_start_from_before_is_a_dead_letter(desk: ShardDesk) -> None:
    tenure, _ = await removed(desk)
    gone_at = desk.now
    desk.now += 14 * DAY + 1
    await desk.turn(tenure)
    assert await count(desk, "started_id") == 0
    left = await desk.turn(tenure, start(desk, produced=gone_at - 1))
    assert types(left) == ["dead letter", "sagabus.start.rejected"]
    tenure = await desk.crash()
    left = await desk.turn(tenure, start(desk, produced=gone_at - 1))
    assert types(left) == ["dead letter", "sagabus.start.rejected"]
    assert await letters(desk) == ["start.expired", "start.expired"]
    left = await desk.turn(tenure, start(desk, produced=gone_at + HOUR + 1))
    assert types(left) == ["sagabus.saga.started", "inventory.reserve_inventory"]


async def test_h2_a_copy_that_was_seen_is_known_for_as_long_again(desk: ShardDesk) -> None:
    tenure, _ = await removed(desk)
    desk.now += 10 * DAY
    copy = start(desk)
    await desk.turn(tenure, copy)
    desk.now += 10 * DAY
    await desk.turn(tenure)
    assert await desk.turn(tenure, replace(copy, offset=copy.offset + 1)) == []
    assert await count(desk, "saga") == 0


async def test_h2_where_nothing_was_forgotten_an_old_start_is_carried_out(desk: ShardDesk) -> None:
    """A coordinator that was away for a month: its requests have waited, and none of them is a copy."""
    tenure = await desk.take()
    left = await desk.turn(tenure, start(desk, produced=desk.now - 40 * DAY))
    assert types(left)[-1] == "inventory.reserve_inventory"


async def test_what_comes_for_a_removed_saga_is_no_sign_of_lost_history(desk: ShardDesk) -> None:
    """U9 is about what this history never sent. A copy to a saga that was removed is kept, and calls nobody."""
    tenure, (reply,) = await removed(desk)
    late = replace(reply, offset=reply.offset + 1)
    assert await dead(desk, tenure, late)
    event = desk.request(ORDER, type="event", name="payment.confirmed", data={})
    assert await dead(desk, tenure, event)
    cancel = desk.request(ORDER, type="cancel", reason="no")
    assert types(await desk.turn(tenure, cancel)) == ["sagabus.cancel.rejected"]
    headers = {**dict(late.headers), "ce_causationid": f"{ORDER}:another:1".encode()}
    assert await dead(desk, tenure, replace(late, offset=late.offset + 1, headers=tuple(headers.items())))
    assert await letters(desk) == ["reply.purged", "saga.closed", "reply.no_saga"]
    assert [await count(desk, table) for table in ("saga", "early_request")] == [0, 0]


async def test_an_open_saga_stays_and_so_does_one_that_waits_for_a_person(desk: ShardDesk) -> None:
    ids = _ids(5)
    tenure = await desk.take()
    await desk.turn(tenure, start(desk, ids[0]))
    await closed(desk, tenure, *ids[1:])
    run = (await desk.saga(ids[0]))["run"]
    await desk.rows(f"UPDATE sagabus.saga SET closed_at = started_at WHERE id = '{ids[0]}'")  # its status counts
    await desk.rows(f"UPDATE sagabus.saga SET attention = 'look' WHERE id = '{ids[1]}'")
    await desk.rows(f"UPDATE sagabus.saga SET parent_id = '{ids[0]}', parent_run = '{run}' WHERE id = '{ids[2]}'")
    await desk.rows(
        "INSERT INTO sagabus.outbox_parked (shard, position, saga_id, topic, headers, reason) "
        f"VALUES ({SHARD}, 1, '{ids[3]}', 't', '', 'too large')"
    )
    desk.now += 100 * DAY
    await desk.turn(tenure)
    assert {row["id"] for row in await desk.rows("SELECT id FROM sagabus.saga")} == set(ids[:4])
    assert {row["id"] for row in await desk.rows("SELECT id FROM sagabus.history")} == set(ids[:4])
    assert {row["id"] for row in await desk.rows("SELECT id FROM sagabus.started_id")} == {ids[4]}


async def test_a_saga_stays_until_its_time_is_up(desk: ShardDesk) -> None:
    tenure = await desk.take()
    await closed(desk, tenure, ORDER)
    desk.now += 30 * DAY - 1
    await desk.turn(tenure)
    assert await count(desk, "saga") == 1


async def test_off_keeps_everything(desk: ShardDesk) -> None:
    desk.retention = Retention()
    tenure = await desk.crash()
    await closed(desk, tenure, ORDER)
    desk.now += 10_000 * DAY
    await desk.turn(tenure)
    assert await count(desk, "saga") == 1


async def test_a_busy_shard_is_purged_too_a_batch_at_a_time(desk: ShardDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "MOST_STEPS", 1)
    tenure = await desk.take()
    await closed(desk, tenure, *_ids(SAGAS + 10))
    desk.now += 31 * DAY
    await desk.turn(tenure, start(desk, of_shard(SHARD, "ORD-busy-1-")))
    assert await count(desk, "saga") == 10 + 1
    await desk.turn(tenure, start(desk, of_shard(SHARD, "ORD-busy-2-")))
    assert await count(desk, "saga") == 2
    assert await count(desk, "started_id") == SAGAS + 10


async def test_nothing_is_purged_before_the_topics_have_been_caught_up_with(desk: ShardDesk) -> None:
    await closed(desk, await desk.take(), ORDER)
    desk.now += 31 * DAY
    waiting = [start(desk, one) for one in _ids(2)]
    tenure = await desk.crash()
    await desk.turn(tenure, waiting[0])
    assert await count(desk, "saga") == 2
    await desk.turn(tenure, waiting[1])
    assert await count(desk, "saga") == 2, "the two new ones"


async def test_s1_who_has_lost_the_shard_removes_nothing(desk: ShardDesk) -> None:
    old = await desk.take()
    await closed(desk, old, ORDER)
    pruning = _pruning(desk)
    await desk.crash()
    desk.now += 31 * DAY
    with pytest.raises(Fenced):
        await pruning.after({old: ()})
    assert await count(desk, "saga") == 1


async def test_a_purge_that_cannot_be_done_stops_no_turn(desk: ShardDesk, caplog: pytest.LogCaptureFixture) -> None:
    tenure = await desk.take()
    await closed(desk, tenure, ORDER)
    desk.now += 31 * DAY
    async with desk.database.transaction() as person:
        await person.execute("SELECT * FROM sagabus.history FOR UPDATE")
        with caplog.at_level(logging.WARNING):
            await desk.turn(tenure)
        left = await desk.turn(tenure, start(desk, of_shard(SHARD, "ORD-next-")))
    assert types(left)[-1] == "inventory.reserve_inventory"
    assert "is not pruned now" in caplog.text
    assert await count(desk, "saga") == 2
    desk.now += HOUR
    await desk.turn(tenure)
    assert await count(desk, "saga") == 1


async def test_a_row_that_somebody_holds_is_passed_over(desk: ShardDesk) -> None:
    tenure = await desk.take()
    ids = _ids(2)
    await closed(desk, tenure, *ids)
    desk.now += 31 * DAY
    async with desk.database.transaction() as person:
        await person.execute(f"SELECT * FROM sagabus.saga WHERE id = '{ids[0]}' FOR UPDATE")
        await desk.turn(tenure)
    assert [row["id"] for row in await desk.rows("SELECT id FROM sagabus.saga")] == [ids[0]]


async def test_dead_letters_go_after_their_time_whoever_removes_them(desk: ShardDesk) -> None:
    await desk.rows(
        'INSERT INTO sagabus.dead_letter (shard, reason, message, topic, partition, "offset", timestamp, headers, at) '
        "SELECT n % 4, 'r', 'm', 't', 0, n, 0, '', clock_timestamp() - n * interval '1 hour' "
        f"FROM generate_series({ROWS + 40}, 1, -1) AS n"
    )

    async def prune() -> bool:
        async with desk.database.transaction() as connection:
            return await prune_dead_letters(connection, "sagabus", 30 * HOUR + 60)

    await asyncio.gather(prune(), prune(), prune())
    await prune()
    assert await count(desk, "dead_letter") == 30


async def test_s8_parked_messages_go_after_their_time_unless_their_saga_is_open(desk: ShardDesk) -> None:
    tenure = await desk.take()
    open_one, ended = _ids(2)
    await desk.turn(tenure, start(desk, open_one))
    await closed(desk, tenure, ended)
    await desk.rows(
        "INSERT INTO sagabus.outbox_parked (shard, position, saga_id, topic, headers, reason, parked_at) "
        "SELECT 1, row_number() OVER (), saga, 't', '', 'too large', clock_timestamp() - days * interval '1 day' "
        f"FROM unnest(ARRAY['{open_one}', '{ended}', '{ended}'], ARRAY[40, 40, 20]) AS parked (saga, days)"
    )
    desk.now += HOUR
    await desk.turn(tenure)
    rows = await desk.rows("SELECT saga_id FROM sagabus.outbox_parked ORDER BY position")
    assert [row["saga_id"] for row in rows] == [open_one, ended]


async def test_the_migrated_tables_have_the_storage_settings_of_the_tables(
    desk: ShardDesk, postgres: PostgresServer
) -> None:
    found = await desk.rows("SELECT relname, reloptions FROM pg_class WHERE relnamespace = 'sagabus'::regnamespace")
    given = {row["relname"]: sorted(row["reloptions"] or ()) for row in found}
    for table in coordinator_tables("sagabus").sorted_tables:
        wanted = table.dialect_options["postgresql"]["with"] or {}
        assert given[table.name] == sorted(f"{name}={value}" for name, value in wanted.items()), table.name


def _ids(number: int) -> list[str]:
    return [of_shard(SHARD, f"ORD-{n}-") for n in range(number)]


def _pruning(desk: ShardDesk) -> Pruning:
    purging = desk.side._purging
    assert purging is not None
    return purging.pruning
