"""The outbox: messages written in the transaction of the state that they follow from, published after it.

A row holds the bytes of its record, those that go to Kafka. Rows become bytes for COPY before the transaction begins,
where that can be: nothing is left to be computed in it then (S4). People read the view `outbox_plain`, which has key,
value and headers in columns.

Rows are appended, deleted in bulk once published, and never changed. Positions come from the shard row (S5): counted
from the rows that are left, a position would be given again once its row is deleted.

What can never be published stands in `outbox_parked` (S8), with all that follows of its saga. When a person has
released a saga's rows there, the owner's next turn sends them as new messages and deletes them, in one transaction.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from functools import cache, lru_cache
from typing import Final, NamedTuple

import asyncpg

from sagabus.contracts.envelope import Message, unpack_headers
from sagabus.messaging.postgres import binary_copy
from sagabus.messaging.postgres.database import Connection
from sagabus.messaging.postgres.statements import named_statements
from sagabus.messaging.postgres.tables import qualified
from sagabus.messaging.publishing.relay import Parking, Positioned

COLUMNS: Final = ("shard", "position", "saga_id", "topic", "partition", "record")

OLDER: Final = ("key", "headers", "value")
"""What releases before had in the place of `record`. Their rows may still be there, and are published as they are."""

RELEASES: Final = 200
"""Sagas that one turn brings back from `outbox_parked`; the next turn follows within a second."""


class Published(NamedTuple):
    """Rows of one shard that have been published: those behind `after`, up to `position`. Those up to `after` have been
    deleted before."""

    shard: int
    after: int
    position: int


class Released(NamedTuple):
    """A row of `outbox_parked`: where it stands there, and the word of the person who released it."""

    shard: int
    position: int
    word: str
    message: Message


_SHARD_POSITION_SAGA: Final = struct.Struct(">hiiiqi")
_PARTITION: Final = struct.Struct(">ii")


@lru_cache(maxsize=4096)
def _address(topic: str, partition: int | None) -> bytes:
    """Of a row: topic and partition. Many messages have the same."""
    return binary_copy.text(topic) + (binary_copy.NULL if partition is None else _PARTITION.pack(4, partition))


def encoded(rows: Iterable[tuple[int, int, Message]]) -> memoryview:
    """Rows for `append`: of each its shard, its position and its message."""
    parts: list[bytes] = []
    start, length = _SHARD_POSITION_SAGA.pack, binary_copy.LENGTH.pack
    for shard, position, message in rows:
        saga, record = message.saga_id.encode(), message.record
        parts += (
            start(len(COLUMNS), 4, shard, 8, position, len(saga)), saga,
            _address(message.topic, message.partition), length(len(record)), record,
        )  # fmt: skip
    return binary_copy.rows(parts)


async def append(connection: Connection, schema: str, rows: memoryview) -> None:
    """All rows by one COPY. rows: as `encoded` has made them."""
    await binary_copy.copy(connection, schema, "outbox", COLUMNS, rows)


TYPES: Final = ("int", "bigint", "text", "text", "int", "bytea")
"""Of COLUMNS."""


def values(shard: int, position: int, message: Message) -> tuple[int, int, str, str, int | None, bytes]:
    """A row as values, in the order of COLUMNS."""
    return (shard, position, message.saga_id, message.topic, message.partition, message.record)


def insertion(schema: str, rows: str) -> str:
    """SQL that inserts these rows, a table of their columns: for a statement that does more."""
    return f"INSERT INTO {qualified(schema, 'outbox')} ({', '.join(COLUMNS)}) SELECT {', '.join(COLUMNS)} FROM {rows}"


def deletion(schema: str, done: str) -> str:
    """SQL that deletes these rows. done: a table of that name, with the columns of `Published`.

    Without the lower bound it would go through all that was deleted since the last VACUUM: with a hundred thousand
    such rows 60 ms in place of one. And a session that may scan a whole table would do so.
    """
    return f"""
        DELETE FROM {qualified(schema, "outbox")} AS row USING {done}
        WHERE row.shard = done.shard AND row.position > done.after AND row.position <= done.position"""


async def unpublished(connection: Connection, schema: str, shard: int, after: int) -> list[Positioned]:
    """What may not have been published yet, in order. Read by a new tenure, once."""
    rows = await connection.fetch(_statements(schema)["outbox.unpublished"], shard, after)
    return [(row["position"], _message(row)) for row in rows]


async def delete_published(connection: Connection, schema: str, done: Sequence[Published]) -> None:
    """Delete these rows: of a shard one entry. There must be one."""
    await connection.execute(_statements(schema)["outbox.delete"], *map(list, zip(*done, strict=True)))


async def park(connection: Connection, schema: str, shard: int, parkings: Iterable[Parking]) -> None:
    """Move rows that cannot be published, and what follows of their sagas, to `outbox_parked` (S8)."""
    first = {one.saga_id: one for one in reversed([*parkings])}
    if first:
        rows = [(one.saga_id, one.position, one.reason) for one in first.values()]
        await connection.execute(_statements(schema)["outbox.park"], shard, *zip(*rows, strict=True))


async def parked_sagas(connection: Connection, schema: str, shard: int) -> list[str]:
    """The sagas whose messages have to wait behind a parked one."""
    rows = await connection.fetch(_statements(schema)["outbox_parked.sagas"], shard)
    return [row["saga_id"] for row in rows]


async def released(connection: Connection, schema: str, shards: Sequence[int]) -> list[Released]:
    """All parked rows of sagas that a person has released, in order of positions.

    Of at most RELEASES sagas; a row that was parked after the word was given belongs to them as well.
    """
    rows = await connection.fetch(_statements(schema)["outbox_parked.released"], shards, RELEASES)
    return [Released(row["shard"], row["position"], row["word"], _message(row)) for row in rows]


async def unpark(connection: Connection, schema: str, shard: int, positions: Sequence[int]) -> None:
    """Delete these parked rows: they have been sent again, in this transaction."""
    await connection.execute(_statements(schema)["outbox_parked.delete"], shard, positions)


def _message(row: asyncpg.Record) -> Message:
    topic, saga_id, partition = row["topic"], row["saga_id"], row["partition"]
    if row["record"] is not None:
        return Message(topic, saga_id, partition, row["record"])
    return Message.of(topic, row["key"], row["value"], unpack_headers(row["headers"]), saga_id, partition)


DONE: Final = f"done ({', '.join(Published._fields)})"

DONE_TYPES: Final = ("int", "bigint", "bigint")


@cache
@named_statements
def _statements(schema: str) -> dict[str, str]:
    outbox, parked = qualified(schema, "outbox"), qualified(schema, "outbox_parked")
    columns = ", ".join((*COLUMNS, *OLDER))
    return {
        "outbox.unpublished": f"SELECT {columns} FROM {outbox} WHERE shard = $1 AND position > $2 ORDER BY position",
        "outbox.delete": deletion(schema, f"unnest($1::int[], $2::bigint[], $3::bigint[]) AS {DONE}"),
        "outbox.park": f"""
            WITH moved AS (
                DELETE FROM {outbox} AS row
                USING unnest($2::text[], $3::bigint[], $4::text[]) AS first (saga_id, position, reason)
                WHERE row.shard = $1 AND row.saga_id = first.saga_id AND row.position >= first.position
                RETURNING row.*, first.reason AS reason
            )
            INSERT INTO {parked} ({columns}, reason) SELECT {columns}, reason FROM moved""",
        "outbox_parked.sagas": f"SELECT DISTINCT saga_id FROM {parked} WHERE shard = $1",
        "outbox_parked.released": f"""
            WITH wanted AS (
                SELECT shard, saga_id, coalesce(max(release_reason), '') AS word FROM {parked}
                WHERE shard = ANY ($1::int[]) AND released_at IS NOT NULL
                GROUP BY shard, saga_id ORDER BY min(position) LIMIT $2
            )
            SELECT {columns}, word FROM {parked} JOIN wanted USING (shard, saga_id) ORDER BY shard, position""",
        "outbox_parked.delete": f"DELETE FROM {parked} WHERE shard = $1 AND position = ANY ($2::bigint[])",
    }
