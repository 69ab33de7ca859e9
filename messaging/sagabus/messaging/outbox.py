"""The outbox: messages written in the transaction of the state that they follow from, published after it.

Rows are appended, deleted in bulk once published, and never changed. Positions come from the shard row (S5): counted
from the rows that are left, a position would be given again once its row is deleted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Final

import asyncpg

from sagabus.contracts.envelope import Message, pack_headers, unpack_headers
from sagabus.messaging.database import Connection
from sagabus.messaging.relay import Parking, Positioned
from sagabus.messaging.tables import qualified

COLUMNS: Final = ("shard", "position", "saga_id", "topic", "partition", "key", "headers", "value")

Row = tuple[int, int, str, str, int | None, bytes | None, bytes, bytes | None]


def row_of(shard: int, position: int, message: Message) -> Row:
    """The row of a message, headers packed: made before the transaction begins (S4)."""
    m = message
    return (shard, position, m.saga_id, m.topic, m.partition, m.key, pack_headers(m.headers), m.value)


async def append(connection: Connection, schema: str, rows: Sequence[Row]) -> None:
    """All rows by one COPY."""
    await connection.copy_records_to_table("outbox", schema_name=schema, columns=COLUMNS, records=rows)


async def unpublished(connection: Connection, schema: str, shard: int, after: int) -> list[Positioned]:
    """What may not have been published yet, in order. Read by a new tenure, once."""
    rows = await connection.fetch(_statements(schema)["unpublished"], shard, after)
    return [(row["position"], _message(row)) for row in rows]


async def delete_published(connection: Connection, schema: str, positions: Mapping[int, int]) -> None:
    """Delete the rows up to these positions: shard to the last position that is published."""
    await connection.execute(_statements(schema)["delete"], list(positions), list(positions.values()))


async def park(connection: Connection, schema: str, shard: int, parkings: Iterable[Parking]) -> None:
    """Move rows that cannot be published, and what follows of their sagas, to `outbox_parked` (S8)."""
    for saga_id, position, reason in parkings:
        await connection.execute(_statements(schema)["park"], shard, saga_id, position, reason)


async def parked_sagas(connection: Connection, schema: str, shard: int) -> list[str]:
    """The sagas whose messages have to wait behind a parked one."""
    rows = await connection.fetch(_statements(schema)["parked_sagas"], shard)
    return [row["saga_id"] for row in rows]


def _message(row: asyncpg.Record) -> Message:
    return Message(
        topic=row["topic"],
        key=row["key"],
        value=row["value"],
        headers=unpack_headers(row["headers"]),
        saga_id=row["saga_id"],
        partition=row["partition"],
    )


@cache
def _statements(schema: str) -> dict[str, str]:
    outbox, parked = qualified(schema, "outbox"), qualified(schema, "outbox_parked")
    columns = ", ".join(COLUMNS)
    return {
        "unpublished": f"SELECT {columns} FROM {outbox} WHERE shard = $1 AND position > $2 ORDER BY position",
        "delete": f"""
            DELETE FROM {outbox} AS row USING unnest($1::int[], $2::bigint[]) AS done (shard, position)
            WHERE row.shard = done.shard AND row.position <= done.position""",
        "park": f"""
            WITH moved AS (
                DELETE FROM {outbox} WHERE shard = $1 AND saga_id = $2 AND position >= $3 RETURNING {columns}
            )
            INSERT INTO {parked} ({columns}, reason) SELECT {columns}, $4 FROM moved""",
        "parked_sagas": f"SELECT DISTINCT saga_id FROM {parked} WHERE shard = $1",
    }
