"""The rows of `outbox_parked`, for people: whose they are, and the word that the cause is cured (S8).

Nothing here sends: a released saga's rows are taken up by the next turn of the shard's owner, which alone may write to
its outbox (S1, S5, S7). So their order is kept, and what follows of the saga stays behind them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache

from sagabus.messaging.postgres.database import Database
from sagabus.messaging.postgres.statements import named_statements
from sagabus.messaging.postgres.tables import qualified


@dataclass(frozen=True, slots=True)
class Parked:
    """One saga's parked rows. reason, topic: of the first, for which the others wait. released_at: asked for."""

    saga_id: str
    shard: int
    rows: int
    topic: str
    reason: str
    parked_at: datetime
    released_at: datetime | None


class ParkedRows:
    """Of one schema. Every call raises DatabaseUnreachable, and what asyncpg raises where there are no such tables."""

    def __init__(self, database: Database, schema: str) -> None:
        self._database = database
        self._sql = _statements(schema)

    async def sagas(self, *, topic: str | None = None, limit: int) -> list[Parked]:
        """The longest parked first. topic: which the first parked row is for."""
        async with self._database.transaction() as connection:
            rows = await connection.fetch(self._sql["outbox_parked.list"], topic, limit)
        return [Parked(**dict(row)) for row in rows]

    async def release(self, sagas: Sequence[str] | None, *, topic: str | None = None, reason: str) -> list[str]:
        """Ask the owners to send these sagas' parked rows again, or all. Gives those that have any. May be repeated."""
        async with self._database.transaction() as connection:
            rows = await connection.fetch(self._sql["outbox_parked.release"], sagas, topic, reason)
        return sorted({row["saga_id"] for row in rows})


@cache
@named_statements
def _statements(schema: str) -> dict[str, str]:
    table = qualified(schema, "outbox_parked")
    first = f"""
        SELECT DISTINCT ON (shard, saga_id) shard, saga_id, topic, reason, parked_at,
            count(*) OVER whole AS rows, max(released_at) OVER whole AS released_at
        FROM {table} WINDOW whole AS (PARTITION BY shard, saga_id) ORDER BY shard, saga_id, position"""
    return {
        "outbox_parked.list": f"""
            SELECT saga_id, shard, rows, topic, reason, parked_at, released_at FROM ({first}) AS first
            WHERE $1::text IS NULL OR topic = $1 ORDER BY parked_at, saga_id LIMIT $2""",
        "outbox_parked.release": f"""
            UPDATE {table} AS row SET released_at = coalesce(row.released_at, clock_timestamp()), release_reason = $3
            FROM ({first}) AS first
            WHERE row.shard = first.shard AND row.saga_id = first.saga_id
                AND ($1::text[] IS NULL OR row.saga_id = ANY ($1)) AND ($2::text IS NULL OR first.topic = $2)
            RETURNING row.saga_id""",
    }
