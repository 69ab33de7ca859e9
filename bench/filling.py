"""Very many sagas in the tables of a product that stands still, as if they had been run.

One saga of each kind is run for real. Its rows are then copied under other ids, and its id is replaced wherever it
stands in them: in references, and in the payloads of history. So a copy is replayed as any other saga is; `answer` has
some of them go on, as a proof. One thing is not right in a copy: the hash of its start's input.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import asyncpg

from bench.batches import by_partition, publish
from bench.product import Product, request
from bench.program import tell
from bench.stage import PARTITIONS
from sagabus.messaging.bus.partition import partition_of
from tests.support.conditions import until
from tests.system.orders import REQUESTS, Answer, Approval

APPROVALS: Final = "sagabus.shop.approvals"
TABLES: Final = ("saga", "history", "timer")
PORTION: Final = 20_000
"""Sagas that one statement makes."""

OPEN_PATTERN: Final = 10**9
CLOSED_PATTERN: Final = 5 * 10**9
"""Numbers of the sagas that are copied: all copies have ids of the same length."""

WAITS: Final = (
    "SELECT count(*) FROM sagabus.saga s JOIN sagabus.timer t USING (id, run) "
    "WHERE s.id = $1 AND s.events::text LIKE '%decided%'"
)
COLUMNS: Final = """
SELECT attname AS name, format_type(atttypid, atttypmod) AS type FROM pg_attribute
WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = '' AND attidentity = ''
ORDER BY attnum
"""
"""Of a table: those that an INSERT gives."""

ENDED: Final = "SELECT count(*) FROM sagabus.saga WHERE id = ANY($1) AND closed_at IS NOT NULL"


@dataclass(frozen=True)
class Filled:
    """open: sagas that wait for an event and for a timer. closed: of these also. rows: of history, in all."""

    open: int
    closed: int
    rows: int


async def run_patterns(product: Product) -> None:
    """One saga that waits for an answer and has a timer, and one that has completed."""
    waiting = Approval(OPEN_PATTERN, Answer.PROMPT)
    await _send(product, waiting.id, waiting.request)
    key, value, headers = request(CLOSED_PATTERN)
    await publish(product.producer, by_partition(REQUESTS, PARTITIONS, [(key, value, headers)]))

    async def so() -> bool:
        waits = await product.connection.fetchval(WAITS, waiting.id)
        closed = await product.connection.fetchval(ENDED, [key.decode()])
        return bool(waits == closed == 1)

    await until(so, what="a saga waits, and one has completed")


async def fill(connection: asyncpg.Connection[asyncpg.Record], open: int, rows: int) -> Filled:
    """So many open sagas, and closed ones until there are so many rows of history. No coordinator may run."""
    waiting, completed = Approval(OPEN_PATTERN, Answer.PROMPT).id, f"ORD-{CLOSED_PATTERN}"
    await _copy(connection, waiting, open)
    here, each = [await connection.fetchval(*query) for query in (
        ("SELECT count(*) FROM sagabus.history",),
        ("SELECT count(*) FROM sagabus.history WHERE id = $1", completed),
    )]  # fmt: skip
    closed = max(0, -(-(rows - here) // each))
    await _copy(connection, completed, closed)
    for table in TABLES:
        await connection.execute(f"VACUUM ANALYZE sagabus.{table}")
    await connection.execute("CHECKPOINT")  # else what was filled in is written to the disk while others are measured
    return Filled(open, closed, await connection.fetchval("SELECT count(*) FROM sagabus.history"))


async def answer(product: Product, numbers: Sequence[int]) -> None:
    """These copies of the open one get the event for which they wait; returns when they have completed."""
    answered = [Approval(OPEN_PATTERN + number, Answer.PROMPT) for number in numbers]
    for one in answered:
        await _send(product, one.id, one.reply)

    async def ended() -> bool:
        found = await product.connection.fetchval(ENDED, [one.id for one in answered])
        return bool(found == len(answered))

    await until(ended, within=120, what=f"{len(answered)} sagas that were filled in have completed")


async def _copy(connection: asyncpg.Connection[asyncpg.Record], pattern: str, count: int) -> None:
    """Of all rows of one saga."""
    statements = [await _statement(connection, table, pattern) for table in TABLES]
    await connection.execute("CREATE TEMP TABLE IF NOT EXISTS copies (number int PRIMARY KEY, id text, shard int)")
    for first in range(1, count + 1, PORTION):
        numbers = range(first, min(count, first + PORTION - 1) + 1)
        prefix, _, base = pattern.partition("-")
        ids = [f"{prefix}-{int(base) + number}" for number in numbers]
        made = [(number, id, partition_of(id.encode(), PARTITIONS)) for number, id in zip(numbers, ids, strict=True)]
        await connection.execute("TRUNCATE copies")
        await connection.copy_records_to_table("copies", records=made)
        for statement in statements:
            await connection.execute(statement, timeout=600)
        if numbers.stop - 1 == count or first // PORTION % 10 == 9:
            tell(f"{numbers.stop - 1} of {count} copies of {pattern} are made")


async def _statement(connection: asyncpg.Connection[asyncpg.Record], table: str, pattern: str) -> str:
    """Copies this saga's rows of one table for all of `copies`."""
    rows = await connection.fetch(COLUMNS, f"sagabus.{table}")
    types = {row["name"]: row["type"] for row in rows}
    rows = await connection.fetch(f"SELECT * FROM sagabus.{table} WHERE id = $1", pattern)
    given = [column_of_copy(name, type, pattern, [row[name] for row in rows]) for name, type in types.items()]
    names = ", ".join(f'"{name}"' for name in types)
    return (
        f"INSERT INTO sagabus.{table} ({names}) SELECT {', '.join(given)} "
        f"FROM sagabus.{table} AS pattern, copies WHERE pattern.id = '{pattern}'"
    )


def column_of_copy(name: str, type: str, pattern: str, values: Sequence[object]) -> str:
    """SQL for what stands in a copy. values: what the pattern has in this column."""
    if name in ("id", "shard"):
        return f"copies.{name}"
    if any(isinstance(value, bytes) and pattern.encode() in value for value in values):
        found, put = pattern.encode().hex(), "encode(convert_to(copies.id, 'UTF8'), 'hex')"
        return f"decode(replace(encode(pattern.\"{name}\", 'hex'), '{found}', {put}), 'hex')"
    if any(isinstance(value, str) and pattern in value for value in values):
        return f"replace(pattern.\"{name}\"::text, '{pattern}', copies.id)::{type}"
    return f'pattern."{name}"'


async def _send(product: Product, id: str, body: dict[str, object]) -> None:
    message = (id.encode(), json.dumps(body).encode(), list[tuple[str, bytes]]())
    await publish(product.producer, by_partition(REQUESTS, PARTITIONS, [message]))
