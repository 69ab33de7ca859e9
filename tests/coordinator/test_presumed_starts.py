"""Ids that are started are presumed new, and looked for only once one was not (docs/decisions/0017)."""

from __future__ import annotations

import itertools
import json
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from random import Random
from typing import Any
from uuid import UUID

import pytest

from sagabus.coordinator.shard.batch import Batch
from sagabus.coordinator.shard.memory import LOOK_FOR_STARTS_MICROSECONDS, ShardMemory
from sagabus.coordinator.store.migrations import migrate
from sagabus.coordinator.store.read import Reads
from sagabus.coordinator.store.tables import coordinator_tables
from sagabus.messaging.postgres.database import Database
from sagabus.messaging.shards.retention import Retention
from sagabus.messaging.shards.tenure import Tenure
from sagabus.shop.order_processing import order_processing
from tests.coordinator.shard_fixture import Given, ShardFixture, headers_of, ids_of_shard, types

SHARD = 1
IDS = ids_of_shard(SHARD, "ORD-", 12)
DAY = 86_400
BEGUN = 1_800_000_000.0
KEPT = Retention(sagas=30 * DAY, started_ids=60 * DAY)
ADDRESS = {"street": "s", "city": "c", "postal_code": "p", "country": "Japan"}
ITEMS = [{"product_id": "PROD-1", "quantity": 1, "unit_price": "29.99"}]
NO_STOCK = {"code": "inventory.insufficient_stock", "message": "…", "detail": {"product_id": "PROD-1"}}
STARTED = ["sagabus.saga.started", "inventory.reserve_inventory"]


@pytest.fixture
async def fixture(database: str) -> AsyncIterator[ShardFixture]:
    await migrate(database, "sagabus")
    pool = Database(database)
    yield side(pool)
    await pool.stop()


def side(pool: Database) -> ShardFixture:
    numbers = itertools.count(1)
    made = lambda: UUID(int=next(numbers) << 80)  # noqa: E731
    return ShardFixture(pool, (order_processing,), SHARD, retention=KEPT, ids=made, now=BEGUN)


def start(fixture: ShardFixture, id: str, *, mail: str = "a@example.com") -> Given:
    order = {"order_id": "ORD-1", "customer_email": mail, "items": ITEMS, "shipping_address": ADDRESS}
    return fixture.request(id, type="start", saga="order_processing", input=order)


async def close(fixture: ShardFixture, tenure: Tenure, *ids: str) -> None:
    left = await fixture.turn(tenure, *(start(fixture, id) for id in ids))
    asked = [message for message in left if message.topic == "inventory.commands"]
    await fixture.turn(tenure, *(fixture.reply(one, "refused", NO_STOCK) for one in asked))


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """When sagas are looked for, and when a turn is written."""
    done: list[str] = []
    look, write = Reads.sagas, Batch._write

    def looked(self: Reads, *args: Any, **options: Any) -> Any:
        done.append("look")
        return look(self, *args, **options)

    def written(self: Batch, *args: Any) -> Any:
        done.append("write")
        return write(self, *args)

    monkeypatch.setattr(Reads, "sagas", looked)
    monkeypatch.setattr(Batch, "_write", written)
    return done


async def test_what_is_new_is_written_without_having_been_looked_for(fixture: ShardFixture, work: list[str]) -> None:
    tenure = await fixture.take()
    await fixture.processor.turn({tenure: [start(fixture, id) for id in IDS]})
    assert work == ["write"]
    assert len(await fixture.rows("SELECT FROM sagabus.saga")) == len(IDS)


async def test_a_replayed_topic_has_no_turn_decided_twice_but_the_first(fixture: ShardFixture, work: list[str]) -> None:
    tenure = await fixture.take()
    await close(fixture, tenure, *IDS)
    times: list[list[str]] = []
    for turn in range(4):
        fixture.now += LOOK_FOR_STARTS_MICROSECONDS / 1_000_000 - 1
        work.clear()
        await fixture.processor.turn({tenure: [start(fixture, id) for id in IDS[turn::4]]})
        times.append([*work])
    assert times == [["write", "look", "write"], *[["look", "write"]] * 3]
    fixture.now += LOOK_FOR_STARTS_MICROSECONDS / 1_000_000
    work.clear()
    await fixture.processor.turn({tenure: [start(fixture, ids_of_shard(SHARD, "NEW-", 1)[0])]})
    assert work == ["write"], "none that was known has come for a while"


async def test_what_is_decided_in_vain_leaves_nothing_behind(
    fixture: ShardFixture, caplog: pytest.LogCaptureFixture
) -> None:
    tenure = await fixture.take()
    known, other, new, twice = IDS[:4]
    await close(fixture, tenure, known)
    await fixture.turn(tenure, start(fixture, other))
    fixture.processor.counts.clear()
    with caplog.at_level(logging.WARNING):
        left = await fixture.turn(
            tenure, start(fixture, new), start(fixture, known), start(fixture, twice),
            start(fixture, twice, mail="b@example.com"), start(fixture, twice), start(fixture, other),
        )  # fmt: skip
    assert sorted(types(left)) == sorted([*STARTED, *STARTED, "dead letter", "sagabus.start.rejected"])
    assert fixture.processor.counts == {"applied": 2, "start.same": 3, "start.other_input": 1}
    assert [record.levelname for record in caplog.records] == ["WARNING"], "one dead letter, told once"
    rows = await fixture.rows(
        "SELECT id, count(*) AS rows, count(DISTINCT run) AS runs FROM sagabus.history GROUP BY 1"
    )
    assert {row["id"]: row["rows"] for row in rows if row["id"] != known} == dict.fromkeys((other, new, twice), 2)
    assert {row["runs"] for row in rows} == {1}
    (memory,) = fixture.processor._memories.values()
    assert set(memory.loaded) == {other, new, twice}
    stored = {row["run"] for row in await fixture.rows("SELECT run FROM sagabus.saga")}
    assert {memory.saga(id).state.run for id in (other, new, twice)} <= stored  # type: ignore[arg-type, union-attr]


async def test_h2_an_id_whose_saga_has_closed_or_was_removed_is_never_begun_again(fixture: ShardFixture) -> None:
    """The key of a saga's row has its run in it: that alone would let a second one in."""
    tenure = await fixture.take()
    await close(fixture, tenure, IDS[0])
    fixture.now += 30 * DAY + 1
    await fixture.turn(tenure)
    assert not await fixture.rows("SELECT FROM sagabus.saga")
    await close(fixture, tenure, IDS[1])
    tenure = await fixture.crash()
    assert await fixture.turn(tenure, start(fixture, IDS[0])) == []
    tenure = await fixture.crash()
    assert await fixture.turn(tenure, start(fixture, IDS[1])) == []
    assert [row["id"] for row in await fixture.rows("SELECT id FROM sagabus.saga")] == [IDS[1]]


async def test_h2_a_known_start_from_before_starts_are_known_is_no_unknown_one(fixture: ShardFixture) -> None:
    """What is presumed new would be refused as forgotten."""
    tenure = await fixture.take()
    await close(fixture, tenure, IDS[0])
    tenure = await fixture.crash()
    tenure.pruned_before = datetime.fromtimestamp(fixture.now, tz=UTC)
    copy, unknown = (replace(start(fixture, id), timestamp=round((fixture.now - 1) * 1_000)) for id in IDS[:2])
    assert await fixture.turn(tenure, copy) == []
    assert types(await fixture.turn(tenure, unknown)) == ["dead letter", "sagabus.start.rejected"]


@pytest.mark.parametrize("seed", range(10))
async def test_whatever_comes_ends_as_if_every_id_had_been_looked_for(
    fixture: ShardFixture, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    presumed = await _told(fixture, seed)
    async with fixture.database.transaction() as connection:
        names = [table.fullname for table in coordinator_tables("sagabus").sorted_tables]
        await connection.execute(f"TRUNCATE {', '.join(names)}")
    monkeypatch.setattr(ShardMemory, "looks_for_starts", lambda self, now: True)
    assert await _told(side(fixture.database), seed) == presumed


async def _told(fixture: ShardFixture, seed: int) -> dict[str, Any]:
    """What has come of it. Open, closed, removed and new ids; none is in memory at the beginning."""
    tenure = await fixture.take()
    await close(fixture, tenure, *IDS[:2])
    fixture.now += 30 * DAY + 1
    await fixture.turn(tenure)
    await close(fixture, tenure, *IDS[2:4])
    await fixture.turn(tenure, *(start(fixture, id) for id in IDS[4:6]))
    tenure = await fixture.crash()
    counts: dict[str, int] = defaultdict(int)
    left: dict[str, list[tuple[str, ...]]] = defaultdict(list)
    for turn in _turns(Random(seed)):
        fixture.now += 1
        records = [_record(fixture, *one) for one in turn]
        if not records:
            tenure = await fixture.crash()
        for message in await fixture.turn(tenure, *records):
            headers = headers_of(message)
            left[message.saga_id].append((headers.get("ce_type", headers.get("x-dlt-reason", "")),))
        for reason, number in (fixture.processor.counts + fixture.processor.kept_counts).items():
            counts[reason] += number
        fixture.processor.counts.clear()
        fixture.processor.kept_counts.clear()
    return {
        "counts": dict(counts),
        "left": dict(left),
        **{name: [tuple(row) for row in await fixture.rows(sql)] for name, sql in _ROWS.items()},
    }


_ROWS = {
    "sagas": "SELECT id, status, input_hash, started_at, decided, attention FROM sagabus.saga ORDER BY id",
    "history": "SELECT id, seq, at, kind, step, name FROM sagabus.history ORDER BY id, seq",
    "timers": "SELECT id, kind, number, due FROM sagabus.timer ORDER BY id, kind, number",
    "letters": 'SELECT reason, message, topic, "offset" FROM sagabus.dead_letter ORDER BY topic, "offset"',
    "early": 'SELECT saga_id, topic, "offset" FROM sagabus.early_request ORDER BY saga_id, number',
    "removed": "SELECT id, input_hash, until FROM sagabus.started_id ORDER BY id",
}


def _turns(random: Random) -> Iterator[list[tuple[str, str]]]:
    """Of each turn what comes for whom; an empty one: the process dies."""
    for _ in range(8):
        kinds = random.choices(("same", "other", "cancel", "event"), (8, 2, 1, 1), k=random.randrange(8))
        yield [(kind, random.choice(IDS)) for kind in kinds]


def _record(fixture: ShardFixture, kind: str, id: str) -> Given:
    match kind:
        case "cancel":
            return fixture.request(id, type="cancel", reason="…")
        case "event":
            return fixture.request(id, type="event", name="nobody_waits", data=json.loads("{}"))
        case _:
            return start(fixture, id, mail="a@example.com" if kind == "same" else "b@example.com")
