"""What it costs to walk over open sagas after an acquisition: python -m bench.walk [SAGAS] [answered|unanswered].

One shard of sagas that wait for an event and for a timer, or for the answer to their first command. Turn follows on
turn at the times that the shard asks for, on a clock of its own, until the walk is through. Told are turns, seconds of
that clock, and microseconds of processor time a saga, of this process and of PostgreSQL's: what they come to beyond so
many turns without a walk, and all together.
"""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from time import process_time
from typing import Any, Final

from bench.filling import TABLES, column_of_copy
from sagabus.coordinator.store.migrations import migrate
from sagabus.messaging.bus.partition import partition_of
from sagabus.messaging.postgres.database import Database
from sagabus.messaging.shards.tenure import Tenure
from sagabus.shop.expense_approval import expense_approval
from tests.coordinator.shard_fixture import PARTITIONS, ShardFixture
from tests.support.postgres import PostgresServer

SAGAS: Final = 20_000

PATTERN: Final = "EXP-1000000000"
SHARD: Final = partition_of(PATTERN.encode(), PARTITIONS)
TICKS: Final = os.sysconf("SC_CLK_TCK")
COPY: Final = (
    "INSERT INTO sagabus.{table} ({names}) SELECT {given} FROM sagabus.{table} AS pattern, "
    "(SELECT 'EXP-' || (1000000000 + n) AS id, {shard} AS shard FROM generate_series(1, {count}) AS n) AS copies "
    "WHERE pattern.id = '{pattern}'"
)


@dataclass(slots=True)
class Walk:
    fixture: ShardFixture
    backend: int

    async def over(self, tenure: Tenure) -> tuple[int, float, float, float]:
        """(turns, seconds that pass for the shard, seconds of processor time of ours, of PostgreSQL's)."""
        fixture, processor = self.fixture, self.fixture.processor
        memory = processor._memories[tenure]
        turns, begun, used, served = 0, fixture.now, process_time(), _processor_time(self.backend)
        while not memory.unloaded.is_done or memory.replays.is_busy:
            await processor.turn({tenure: ()})
            turns += 1
            due = processor.next_due()
            assert due is not None
            fixture.now = max(fixture.now, min(due, fixture.now + 1))
        return turns, fixture.now - begun, process_time() - used, _processor_time(self.backend) - served

    async def stand_still(self, tenure: Tenure, turns: int) -> tuple[float, float]:
        used, served = process_time(), _processor_time(self.backend)
        for _ in range(turns):
            await self.fixture.processor.turn({tenure: ()})
        return process_time() - used, _processor_time(self.backend) - served


async def measure(url: str, sagas: int, *, answered: bool) -> None:
    await migrate(url, "sagabus")
    database = Database(url, connections=1)
    fixture = ShardFixture(database, (expense_approval,), SHARD)
    fixture.follows = False
    try:
        await _fill(fixture, sagas, answered=answered)
        async with database.transaction() as connection:
            backend = await connection.fetchval("SELECT pg_backend_pid()")
        for _ in range(3):
            tenure = await fixture.crash()
            walk = Walk(fixture, backend)
            idle = await walk.stand_still(tenure, 500)
            turns, passed, here, there = await walk.over(tenure)
            each = [1e6 * (spent - one * turns / 500) / sagas for spent, one in zip((here, there), idle, strict=True)]
            whole = [1e6 * spent / sagas for spent in (here, there)]
            print(
                f"{turns} turns in {passed:.0f} s; µs a saga, beyond the turns: {each[0]:.1f} here, "
                f"{each[1]:.1f} PostgreSQL's; all together: {whole[0]:.1f} and {whole[1]:.1f}"
            )
    finally:
        await database.stop()


async def _fill(fixture: ShardFixture, sagas: int, *, answered: bool) -> None:
    tenure = await fixture.take()
    expense = {"expense_id": PATTERN, "approver": "a", "manager": "m"}
    left = await fixture.turn(tenure, fixture.request(PATTERN, type="start", saga="expense_approval", input=expense))
    if answered:
        await fixture.turn(tenure, fixture.reply(left[-1], "completed", None))
    async with fixture.database.transaction() as connection:
        for table in TABLES:
            await _copy(connection, table, sagas)


async def _copy(connection: Any, table: str, count: int) -> None:
    rows = await connection.fetch(f"SELECT * FROM sagabus.{table} WHERE id = $1", PATTERN)
    types = {
        row["name"]: row["type"]
        for row in await connection.fetch(
            "SELECT attname AS name, format_type(atttypid, atttypmod) AS type FROM pg_attribute "
            "WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped",
            f"sagabus.{table}",
        )
    }
    given = [column_of_copy(name, type, PATTERN, [row[name] for row in rows]) for name, type in types.items()]
    names = ", ".join(f'"{name}"' for name in types)
    sql = COPY.format(table=table, names=names, given=", ".join(given), shard=SHARD, count=count, pattern=PATTERN)
    await connection.execute(sql, timeout=600)
    await connection.execute(f"ANALYZE sagabus.{table}")


def _processor_time(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


if __name__ == "__main__":
    number = int(sys.argv[1]) if len(sys.argv) > 1 else SAGAS
    with PostgresServer() as server:
        asyncio.run(measure(server.url(), number, answered="unanswered" not in sys.argv))
