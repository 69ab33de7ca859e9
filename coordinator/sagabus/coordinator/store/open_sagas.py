"""What is known of the open sagas as a whole, for whoever looks for faults. Reads only, in the caller's transaction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sagabus.coordinator.store.columns import SAGA
from sagabus.coordinator.store.read import saga_row
from sagabus.coordinator.store.rows import SagaRow
from sagabus.coordinator.store.tables import IS_OPEN
from sagabus.coordinator.store.wire import read
from sagabus.messaging.postgres.database import Connection
from sagabus.messaging.postgres.tables import qualified

EXAMPLES: Final = 3

EXAMINED: Final = 10_000
"""Sagas that are flagged for attention, of which the reasons are counted: some hundred milliseconds."""

OLDEST: Final = 1_000
"""Open sagas, those that were started first, whose latest rows of history are looked at."""

LONG_SECONDS: Final = 3_600
"""As long as a saga may be silent before it is flagged (see `forward.SILENCE_MICROSECONDS`)."""


@dataclass(frozen=True, slots=True)
class Running:
    """Open sagas of one definition."""

    definition: str
    version: int
    count: int


@dataclass(frozen=True, slots=True)
class Flagged:
    """Sagas that are flagged for attention by a concern of this kind. examples: (id, words), the oldest first."""

    kind: str
    count: int
    examples: list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Attention:
    """Sagas that are flagged for attention, closed ones among them. by_kind: the most frequent first.

    is_complete: False if there are more than `EXAMINED`; the oldest of them are counted then.
    """

    count: int
    by_kind: list[Flagged]

    @property
    def is_complete(self) -> bool:
        return self.count < EXAMINED


@dataclass(frozen=True, slots=True)
class Quiet:
    """Open sagas with which nothing happens. paused: ids of paused sagas, the oldest first, at most `EXAMPLES`.

    without_news: of the `OLDEST` open sagas, how many had no new row of history for `LONG_SECONDS`.
    """

    paused_count: int
    paused: list[str]
    without_news: int


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
    """What it costs is bounded, however many there are."""
    saga = qualified(schema, "saga")
    flagged = f"SELECT * FROM {saga} WHERE attention IS NOT NULL ORDER BY started_at LIMIT {EXAMINED}"
    count = await connection.fetchval(f"SELECT count(*) FROM ({flagged}) AS row")
    # Concerns of one kind count once for a saga. An older release stored the words alone.
    rows = await connection.fetch(f"""
        WITH flagged AS ({flagged}), each AS (
            SELECT DISTINCT ON (row.id, row.run, one.kind) row.id, row.started_at, one.kind, one.words
            FROM flagged AS row CROSS JOIN LATERAL jsonb_to_recordset(coalesce(
                row.concerns, jsonb_build_array(jsonb_build_object('kind', 'other', 'words', row.attention))
            )) AS one (kind text, words text)
            ORDER BY row.id, row.run, one.kind
        )
        SELECT kind, count(*) AS count, (array_agg(id ORDER BY started_at, id))[1:{EXAMPLES}] AS ids,
            (array_agg(words ORDER BY started_at, id))[1:{EXAMPLES}] AS words
        FROM each GROUP BY kind ORDER BY count DESC, kind""")
    by_kind = [Flagged(row["kind"], int(row["count"]), [*zip(row["ids"], row["words"], strict=True)]) for row in rows]
    return Attention(int(count), by_kind)


async def oldest(connection: Connection, schema: str) -> list[SagaRow]:
    """The `OLDEST` open sagas."""
    rows = await connection.fetch(f"""
        SELECT {read(SAGA, "row")} FROM {qualified(schema, "saga")} AS row WHERE {IS_OPEN}
        ORDER BY started_at, id LIMIT {OLDEST}""")
    return [saga_row(row) for row in rows]


async def quiet(connection: Connection, schema: str) -> Quiet:
    """Reads the open sagas once, and the latest row of the `OLDEST` of them."""
    saga, history = qualified(schema, "saga"), qualified(schema, "history")
    paused = await connection.fetchrow(f"""
        SELECT count(*) AS count, (array_agg(id ORDER BY started_at, id))[1:{EXAMPLES}] AS ids
        FROM {saga} WHERE {IS_OPEN} AND paused""")
    assert paused is not None
    without_news = await connection.fetchval(f"""
        SELECT count(*) FROM (SELECT id, run FROM {saga} WHERE {IS_OPEN} ORDER BY started_at LIMIT {OLDEST}) AS row
        WHERE (
            SELECT last.at FROM {history} AS last WHERE last.id = row.id AND last.run = row.run
            ORDER BY last.seq DESC LIMIT 1
        ) < clock_timestamp() - interval '{LONG_SECONDS} seconds'""")
    return Quiet(int(paused["count"]), paused["ids"] or [], int(without_news))
