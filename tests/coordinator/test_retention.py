"""What retention removes of a coordinator's shard, and what it never touches: on a real PostgreSQL, without Kafka."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from sagabus.coordinator.shard.retention import SAGAS_OF_A_STEP
from sagabus.coordinator.store.migrations import migrate
from sagabus.coordinator.store.tables import coordinator_tables
from sagabus.messaging.postgres.database import Connection, Database
from sagabus.messaging.shards import retention
from sagabus.messaging.shards.retention import ROWS, Removed, Retention, RetentionSchedule, remove_dead_letters
from sagabus.messaging.shards.shard_row import Fenced
from sagabus.messaging.shards.tenure import Tenure
from sagabus.shop.order_processing import order_processing
from tests.coordinator.shard_fixture import Given, ShardFixture, of_shard, types
from tests.support.conditions import until
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
async def fixture(migrated: str) -> AsyncIterator[ShardFixture]:
    pool = Database(migrated)
    names = [table.fullname for table in coordinator_tables("sagabus").sorted_tables]
    async with pool.transaction() as connection:
        await connection.execute(f"TRUNCATE {', '.join(names)}")
    yield ShardFixture(pool, (order_processing,), SHARD, retention=KEPT)
    await pool.stop()


def start(fixture: ShardFixture, id: str = ORDER, *, produced: float | None = None, **changes: Any) -> Given:
    """produced: when, in seconds since 1970; now unless told otherwise."""
    address = {"street": "s", "city": "c", "postal_code": "p", "country": "Japan"}
    items = [{"product_id": "PROD-1", "quantity": 1, "unit_price": "29.99"}]
    order = {"order_id": "ORD-1", "customer_email": "c@example.com", "items": items, "shipping_address": address}
    order |= changes
    given = fixture.request(id, type="start", saga="order_processing", input=order)
    return replace(given, timestamp=round((produced or fixture.now) * 1_000))


async def closed(fixture: ShardFixture, tenure: Tenure, *ids: str) -> list[Given]:
    """Sagas that have ended; the replies that ended them."""
    left = await fixture.turn(tenure, *(start(fixture, id) for id in ids))
    replies = [fixture.reply(m, "refused", NO_STOCK) for m in left if m.topic == "inventory.commands"]
    await fixture.turn(tenure, *replies)
    assert len(replies) == len(ids)
    return replies


async def count(fixture: ShardFixture, table: str) -> int:
    (row,) = await fixture.rows(f"SELECT count(*) AS n FROM sagabus.{table}")
    return int(row["n"])


async def letters(fixture: ShardFixture) -> list[str]:
    return [row["reason"] for row in await fixture.rows("SELECT reason FROM sagabus.dead_letter ORDER BY id")]


async def dead(fixture: ShardFixture, tenure: Tenure, record: Given) -> bool:
    """Whether this record becomes a dead letter, and does nothing else."""
    return [message.topic for message in await fixture.turn(tenure, record)] == ["sagabus.dead-letters"]


async def removed(fixture: ShardFixture) -> tuple[Tenure, list[Given]]:
    """A saga that has ended and is gone."""
    tenure = await fixture.take()
    replies = await closed(fixture, tenure, ORDER)
    fixture.now += 30 * DAY + 1
    await fixture.turn(tenure)
    assert [await count(fixture, table) for table in GROWING] == [0, 0, 0]
    return tenure, replies


async def test_h2_an_id_outlives_its_row_an_equal_start_is_the_same_saga(fixture: ShardFixture) -> None:
    tenure, _ = await removed(fixture)
    assert await fixture.turn(tenure, start(fixture)) == []
    left = await fixture.turn(tenure, start(fixture, customer_email="other@example.com"))
    assert types(left) == ["dead letter", "sagabus.start.rejected"]
    assert await letters(fixture) == ["start.other_input"]
    assert fixture.processor.counts["start.same"] == 1
    assert await count(fixture, "saga") == 0


async def test_h2_the_id_is_stored_in_the_transaction_that_removes_the_row(fixture: ShardFixture) -> None:
    tenure = await fixture.take()
    await closed(fixture, tenure, ORDER)
    (before,) = await fixture.rows("SELECT id, run, input_hash FROM sagabus.saga")
    assert await count(fixture, "started_id") == 0
    await fixture.rows("ALTER TABLE sagabus.started_id ADD CONSTRAINT broken CHECK (false) NOT VALID")
    fixture.now += 31 * DAY
    await fixture.turn(tenure)
    assert await count(fixture, "saga") == 1
    await fixture.rows("ALTER TABLE sagabus.started_id DROP CONSTRAINT broken")
    fixture.now += HOUR
    await fixture.turn(tenure)
    (after,) = await fixture.rows("SELECT id, run, input_hash FROM sagabus.started_id")
    assert after == before
    assert await count(fixture, "saga") == 0


async def test_h2_a_forgotten_id_is_free_and_a_start_from_before_is_a_dead_letter(fixture: ShardFixture) -> None:
    tenure, _ = await removed(fixture)
    gone_at = fixture.now
    fixture.now += 14 * DAY + 1
    await fixture.turn(tenure)
    assert await count(fixture, "started_id") == 0
    left = await fixture.turn(tenure, start(fixture, produced=gone_at - 1))
    assert types(left) == ["dead letter", "sagabus.start.rejected"]
    tenure = await fixture.crash()
    left = await fixture.turn(tenure, start(fixture, produced=gone_at - 1))
    assert types(left) == ["dead letter", "sagabus.start.rejected"]
    assert await letters(fixture) == ["start.expired", "start.expired"]
    left = await fixture.turn(tenure, start(fixture, produced=gone_at + HOUR + 1))
    assert types(left) == ["sagabus.saga.started", "inventory.reserve_inventory"]


async def test_h2_a_copy_that_was_seen_is_known_for_as_long_again(fixture: ShardFixture) -> None:
    tenure, _ = await removed(fixture)
    fixture.now += 10 * DAY
    copy = start(fixture)
    await fixture.turn(tenure, copy)
    fixture.now += 10 * DAY
    await fixture.turn(tenure)
    assert await fixture.turn(tenure, replace(copy, offset=copy.offset + 1)) == []
    assert await count(fixture, "saga") == 0


async def test_h2_where_nothing_was_forgotten_an_old_start_is_carried_out(fixture: ShardFixture) -> None:
    """A coordinator that was away for a month: its requests have waited, and none of them is a copy."""
    tenure = await fixture.take()
    left = await fixture.turn(tenure, start(fixture, produced=fixture.now - 40 * DAY))
    assert types(left)[-1] == "inventory.reserve_inventory"


async def test_what_comes_for_a_removed_saga_is_no_sign_of_lost_history(fixture: ShardFixture) -> None:
    """U9 is about what this history never sent. A copy to a saga that was removed is kept, and calls nobody."""
    tenure, (reply,) = await removed(fixture)
    late = replace(reply, offset=reply.offset + 1)
    assert await dead(fixture, tenure, late)
    event = fixture.request(ORDER, type="event", name="payment.confirmed", data={})
    assert await dead(fixture, tenure, event)
    cancel = fixture.request(ORDER, type="cancel", reason="no")
    assert types(await fixture.turn(tenure, cancel)) == ["sagabus.cancel.rejected"]
    headers = {**dict(late.headers), "ce_causationid": f"{ORDER}:another:1".encode()}
    assert await dead(fixture, tenure, replace(late, offset=late.offset + 1, headers=tuple(headers.items())))
    assert await letters(fixture) == ["reply.purged", "saga.closed", "reply.no_saga"]
    assert [await count(fixture, table) for table in ("saga", "early_request")] == [0, 0]


async def test_an_open_saga_stays_and_so_does_one_that_waits_for_a_person(fixture: ShardFixture) -> None:
    ids = _ids(5)
    tenure = await fixture.take()
    await fixture.turn(tenure, start(fixture, ids[0]))
    await closed(fixture, tenure, *ids[1:])
    run = (await fixture.saga(ids[0]))["run"]
    await fixture.rows(f"UPDATE sagabus.saga SET closed_at = started_at WHERE id = '{ids[0]}'")  # its status counts
    await fixture.rows(f"UPDATE sagabus.saga SET attention = 'look' WHERE id = '{ids[1]}'")
    await fixture.rows(f"UPDATE sagabus.saga SET parent_id = '{ids[0]}', parent_run = '{run}' WHERE id = '{ids[2]}'")
    await fixture.rows(
        "INSERT INTO sagabus.outbox_parked (shard, position, saga_id, topic, headers, reason) "
        f"VALUES ({SHARD}, 1, '{ids[3]}', 't', '', 'too large')"
    )
    fixture.now += 100 * DAY
    await fixture.turn(tenure)
    assert {row["id"] for row in await fixture.rows("SELECT id FROM sagabus.saga")} == set(ids[:4])
    assert {row["id"] for row in await fixture.rows("SELECT id FROM sagabus.history")} == set(ids[:4])
    assert {row["id"] for row in await fixture.rows("SELECT id FROM sagabus.started_id")} == {ids[4]}


async def test_a_saga_stays_until_its_time_is_up(fixture: ShardFixture) -> None:
    tenure = await fixture.take()
    await closed(fixture, tenure, ORDER)
    fixture.now += 30 * DAY - 1
    await fixture.turn(tenure)
    assert await count(fixture, "saga") == 1


async def test_off_keeps_everything(fixture: ShardFixture) -> None:
    fixture.retention = Retention()
    tenure = await fixture.crash()
    await closed(fixture, tenure, ORDER)
    fixture.now += 10_000 * DAY
    await fixture.turn(tenure)
    assert await count(fixture, "saga") == 1


async def test_a_busy_shard_has_its_retention_too_a_batch_at_a_time(
    fixture: ShardFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "MOST_STEPS", 1)
    tenure = await fixture.take()
    await closed(fixture, tenure, *_ids(SAGAS_OF_A_STEP + 10))
    fixture.now += 31 * DAY
    await fixture.turn(tenure, start(fixture, of_shard(SHARD, "ORD-busy-1-")))
    assert await count(fixture, "saga") == 10 + 1
    await fixture.turn(tenure, start(fixture, of_shard(SHARD, "ORD-busy-2-")))
    assert await count(fixture, "saga") == 2
    assert await count(fixture, "started_id") == SAGAS_OF_A_STEP + 10


async def test_nothing_is_removed_before_the_topics_have_been_caught_up_with(fixture: ShardFixture) -> None:
    await closed(fixture, await fixture.take(), ORDER)
    fixture.now += 31 * DAY
    waiting = [start(fixture, one) for one in _ids(2)]
    tenure = await fixture.crash()
    await fixture.turn(tenure, waiting[0])
    assert await count(fixture, "saga") == 2
    await fixture.turn(tenure, waiting[1])
    assert await count(fixture, "saga") == 2, "the two new ones"


async def test_s1_who_has_lost_the_shard_removes_nothing(fixture: ShardFixture) -> None:
    old = await fixture.take()
    await closed(fixture, old, ORDER)
    schedule = _schedule(fixture)
    await fixture.crash()
    fixture.now += 31 * DAY
    with pytest.raises(Fenced):
        await schedule.after([old])
    assert await count(fixture, "saga") == 1


async def test_a_removal_that_cannot_be_done_stops_no_turn(
    fixture: ShardFixture, caplog: pytest.LogCaptureFixture
) -> None:
    tenure = await fixture.take()
    await closed(fixture, tenure, ORDER)
    fixture.now += 31 * DAY
    async with fixture.database.transaction() as person:
        await person.execute("SELECT * FROM sagabus.history FOR UPDATE")
        with caplog.at_level(logging.WARNING):
            await fixture.turn(tenure)
        left = await fixture.turn(tenure, start(fixture, of_shard(SHARD, "ORD-next-")))
    assert types(left)[-1] == "inventory.reserve_inventory"
    assert "is not pruned now" in caplog.text
    assert await count(fixture, "saga") == 2
    fixture.now += HOUR
    await fixture.turn(tenure)
    assert await count(fixture, "saga") == 1


async def test_a_row_that_somebody_holds_is_passed_over(fixture: ShardFixture) -> None:
    tenure = await fixture.take()
    ids = _ids(2)
    await closed(fixture, tenure, *ids)
    fixture.now += 31 * DAY
    async with fixture.database.transaction() as person:
        await person.execute(f"SELECT * FROM sagabus.saga WHERE id = '{ids[0]}' FOR UPDATE")
        await fixture.turn(tenure)
    assert [row["id"] for row in await fixture.rows("SELECT id FROM sagabus.saga")] == [ids[0]]


async def test_dead_letters_go_after_their_time_whoever_removes_them(fixture: ShardFixture) -> None:
    await fixture.rows(
        'INSERT INTO sagabus.dead_letter (shard, reason, message, topic, partition, "offset", timestamp, headers, at) '
        "SELECT n % 4, 'r', 'm', 't', 0, n, 0, '', clock_timestamp() - n * interval '1 hour' "
        f"FROM generate_series({ROWS + 40}, 1, -1) AS n"
    )

    async def prune() -> bool:
        async with fixture.database.transaction() as connection:
            return await remove_dead_letters(connection, "sagabus", 30 * HOUR + 60)

    await asyncio.gather(prune(), prune(), prune())
    await prune()
    assert await count(fixture, "dead_letter") == 30


async def test_s8_parked_messages_go_after_their_time_unless_their_saga_is_open(fixture: ShardFixture) -> None:
    tenure = await fixture.take()
    open_one, ended = _ids(2)
    await fixture.turn(tenure, start(fixture, open_one))
    await closed(fixture, tenure, ended)
    await fixture.rows(
        "INSERT INTO sagabus.outbox_parked (shard, position, saga_id, topic, headers, reason, parked_at) "
        "SELECT 1, row_number() OVER (), saga, 't', '', 'too large', clock_timestamp() - days * interval '1 day' "
        f"FROM unnest(ARRAY['{open_one}', '{ended}', '{ended}'], ARRAY[40, 40, 20]) AS parked (saga, days)"
    )
    fixture.now += HOUR
    await fixture.turn(tenure)
    rows = await fixture.rows("SELECT saga_id FROM sagabus.outbox_parked ORDER BY position")
    assert [row["saga_id"] for row in rows] == [open_one, ended]


async def test_the_migrated_tables_have_the_storage_settings_of_the_tables(
    fixture: ShardFixture, postgres: PostgresServer
) -> None:
    found = await fixture.rows("SELECT relname, reloptions FROM pg_class WHERE relnamespace = 'sagabus'::regnamespace")
    given = {row["relname"]: sorted(row["reloptions"] or ()) for row in found}
    for table in coordinator_tables("sagabus").sorted_tables:
        wanted = table.dialect_options["postgresql"]["with"] or {}
        assert given[table.name] == sorted(f"{name}={value}" for name, value in wanted.items()), table.name


def _ids(number: int) -> list[str]:
    return [of_shard(SHARD, f"ORD-{n}-") for n in range(number)]


async def test_of_turns_under_way_at_once_one_prunes(fixture: ShardFixture) -> None:
    tenure, pruned, go_on = await fixture.take(), list[Tenure](), asyncio.Event()
    fixture.shard += 1
    other = await fixture.take()

    async def step(_: Connection, tenure: Tenure) -> Removed:
        pruned.append(tenure)
        await go_on.wait()
        return Removed(more=False)

    database = fixture.database
    schedule = RetentionSchedule(schema="sagabus", begin=database.transaction, step=step, look=0.0, clock=lambda: DAY)
    first = asyncio.create_task(schedule.after([tenure]))
    await until(lambda: bool(pruned), what="the first step is under way")
    second = asyncio.create_task(schedule.after([other]))
    await asyncio.wait([second], timeout=1)
    go_on.set()
    await first
    await second
    assert pruned == [tenure]


def _schedule(fixture: ShardFixture) -> RetentionSchedule:
    kept = fixture.processor._retention
    assert kept is not None
    return kept.schedule
