"""Outbox, inbox and all else that a saga leaves behind do not grow: 30,000 sagas, kept for ten rounds of 250.

Autovacuum looks once a second here: a run of a minute would see one of its rounds otherwise. All else is as delivered.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import NamedTuple

import pytest

from sagabus.messaging.shards.retention import Retention
from sagabus.messaging.shards.turn import PUBLISHED_ROWS_KEPT
from tests.support.postgres import PostgresServer
from tests.system.list_bus import SERVICES, ListWorld, list_world

BATCH = 250
WARM, ALL = 10_000, 30_000
WINDOW = 10
"""Rounds, each a second by its own clock, for which everything is kept."""

KEPT = Retention(sagas=WINDOW, started_ids=WINDOW, inbox=WINDOW, dead_letters=WINDOW, parked=WINDOW)
OUTBOXES = ("sagabus.outbox", *(f"sagabus_{one}.outbox" for one in SERVICES))
INBOXES = tuple(f"sagabus_{one}.inbox" for one in SERVICES)

SHARDS = 4
MOST_ROWS = {
    **dict.fromkeys(OUTBOXES, 12 * BATCH + SHARDS * PUBLISHED_ROWS_KEPT),
    **dict.fromkeys(INBOXES, (WINDOW + 3) * BATCH),
    "sagabus.saga": (WINDOW + 7) * BATCH,
    "sagabus.history": 11 * (WINDOW + 7) * BATCH,
    "sagabus.started_id": (WINDOW + 3) * BATCH,
    "sagabus.timer": 3 * BATCH,
    "sagabus.shard": SHARDS,
}
"""A saga needs five rounds; what is to be removed is looked for once in a round, and a step may be one behind."""

MEGABYTE = 1 << 20
SLACK = {**dict.fromkeys(OUTBOXES, 16 * MEGABYTE)}
"""What is dead until the next vacuum, which depends on how fast this machine is just now. Without retention it were 110
for the coordinator's outbox; for tables not named here it is 3."""


@pytest.fixture
def url() -> Iterator[str]:
    """On a server of its own: the shared one keeps its autovacuum as it is."""
    with PostgresServer() as server:
        server.psql("ALTER SYSTEM SET autovacuum_naptime = '1s'")
        server.psql("SELECT pg_reload_conf()")
        with server.database() as made:
            yield made


@pytest.fixture
async def world(url: str) -> AsyncIterator[ListWorld]:
    async with list_world(url, KEPT) as made:
        yield made


@pytest.mark.ring("faults")
async def test_30000_sagas_leave_tables_as_large_as_10000_do(world: ListWorld) -> None:
    early = await peaks(world, 1, WARM)
    late = await peaks(world, WARM + 1, ALL)
    await world.settle()
    assert world.bus.kinds["sagabus.saga.completed"] == ALL
    for table, before in early.items():
        now = late[table]
        print(f"{table:28} {before.rows:6} {now.rows:6} rows {before.size / 1e6:7.2f} {now.size / 1e6:7.2f} MB")
    for table, most in MOST_ROWS.items():
        assert late[table].rows <= most, table
        assert late[table].size <= 2 * early[table].size + SLACK.get(table, 3 * MEGABYTE), table


class Table(NamedTuple):
    """rows; size: bytes on disk, indexes and free space included."""

    rows: int
    size: int


async def peaks(world: ListWorld, first: int, last: int) -> dict[str, Table]:
    """Start these sagas; the most that was in each table meanwhile."""
    most = dict.fromkeys(MOST_ROWS, Table(0, 0))
    for number in range(first, last, BATCH):
        await world.orders(range(number, number + BATCH))
        if number % (4 * BATCH) == 1:
            seen = await tables(world)
            most = {name: Table(*map(max, seen[name], before)) for name, before in most.items()}
    return most


async def tables(world: ListWorld) -> dict[str, Table]:
    async with world.database.transaction() as connection:
        return {
            name: Table(*await connection.fetchrow(f"SELECT count(*), pg_total_relation_size('{name}') FROM {name}"))  # type: ignore[misc]
            for name in MOST_ROWS
        }
