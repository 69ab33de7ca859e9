"""What is known of the open sagas as a whole, for whoever looks for faults. Reads only, in the caller's transaction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sagabus.coordinator.store.tables import IS_OPEN
from sagabus.messaging.postgres.database import Connection
from sagabus.messaging.postgres.tables import qualified

EXAMPLES: Final = 3


@dataclass(frozen=True, slots=True)
class Running:
    """Open sagas of one definition."""

    definition: str
    version: int
    count: int


@dataclass(frozen=True, slots=True)
class Attention:
    """Sagas that are flagged for attention. examples: (id, reason), the longest waiting first."""

    count: int
    examples: list[tuple[str, str]]


async def running(connection: Connection, schema: str) -> list[Running]:
    """By definition and version."""
    rows = await connection.fetch(
        f"SELECT definition, version, count(*) FROM {qualified(schema, 'saga')} WHERE {IS_OPEN} "
        "GROUP BY definition, version ORDER BY definition, version"
    )
    return [Running(*row) for row in rows]


async def their_shards(connection: Connection, schema: str) -> set[int]:
    """The shards that have open sagas."""
    rows = await connection.fetch(f"SELECT DISTINCT shard FROM {qualified(schema, 'saga')} WHERE {IS_OPEN}")
    return {row["shard"] for row in rows}


async def attention(connection: Connection, schema: str) -> Attention:
    """Closed sagas may be among them."""
    saga = qualified(schema, "saga")
    count = await connection.fetchval(f"SELECT count(*) FROM {saga} WHERE attention IS NOT NULL")
    rows = await connection.fetch(
        f"SELECT id, attention FROM {saga} WHERE attention IS NOT NULL ORDER BY started_at LIMIT $1", EXAMPLES
    )
    return Attention(int(count), [(row["id"], row["attention"]) for row in rows])
