"""What the shell reads of sagas: by ids, for many at once; and page by page what it has to know of a whole shard.

Each read is one statement, and its cost does not grow with the rows that it is not about: a page is found by an index
from the last key of the page before. Nothing is computed between two reads of one transaction.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from itertools import starmap
from typing import Any, Final

from sagabus.contracts.names import RunId, SagaId
from sagabus.coordinator.core.saga.history import Kind, Row
from sagabus.coordinator.core.saga.status import SagaStatus
from sagabus.coordinator.store.columns import EARLY, HISTORY, SAGA, STARTED, TIMER
from sagabus.coordinator.store.open_page import OpenPage, open_page_sql
from sagabus.coordinator.store.rows import (
    EarlyCount,
    EarlyRequest,
    SagaKey,
    SagaRow,
    StartedId,
    TimerCursor,
    TimerRow,
)
from sagabus.coordinator.store.tables import IS_OPEN
from sagabus.coordinator.store.wire import TIME, read
from sagabus.messaging.postgres.database import Connection
from sagabus.messaging.postgres.statements import named_statements
from sagabus.messaging.postgres.tables import qualified


class Reads:
    """The reading side of one schema, for the shell. In whatever transaction the connection is in."""

    def __init__(self, schema: str) -> None:
        self.schema = schema
        self._sql = _statements(schema)

    async def sagas(self, connection: Connection, ids: Collection[SagaId]) -> dict[SagaId, SagaRow]:
        """The open run of each id, else its newest. Ids that nobody has started are not in the answer."""
        found = await connection.fetch(self._sql["saga.load"], list(ids))
        return {row.id: row for row in map(saga_row, found)}

    async def runs(self, connection: Connection, keys: Collection[SagaKey]) -> dict[SagaKey, SagaRow]:
        """These very runs, as far as they are there."""
        found = await connection.fetch(self._sql["saga.runs"], *_columns(keys))
        return {row.key: row for row in map(saga_row, found)}

    async def open_page(
        self, connection: Connection, shard: int, *, after: str, most: int, fingerprints: Sequence[str]
    ) -> OpenPage:
        """The next open sagas of a shard, by id. fingerprints: of the code with which those that are at rest were
        decided last; with none of them none is."""
        ((count, last, restless),) = await connection.fetch(
            self._sql["saga.open_page"], shard, after, most, fingerprints
        )
        return OpenPage(count, last, restless)

    async def blocked_ids(self, connection: Connection, shard: int, *, after: str, most: int) -> list[SagaId]:
        """The next open sagas of a shard whose code could not go on: after a take it may be another code."""
        found = await connection.fetch(self._sql["saga.blocked_ids"], shard, after, most)
        return [SagaId(row["id"]) for row in found]

    async def histories(
        self, connection: Connection, keys: Sequence[SagaKey], *, most: int
    ) -> dict[SagaKey, list[Row]]:
        """The first rows of each run, in order, at most so many. Of a run without rows: an empty list."""
        made: dict[SagaKey, list[Row]] = {key: [] for key in keys}
        lists = list(made.values())
        for place, *values in await connection.fetch(self._sql["history.load"], *_columns(made), most):
            lists[place - 1].append(history_row(values))
        return made

    async def history_page(self, connection: Connection, key: SagaKey, *, after: int, most: int) -> list[Row]:
        """The rows of one run after that number, in order, at most so many."""
        found = await connection.fetch(self._sql["history.page"], key.id, key.run, after, most)
        return [history_row(list(values)) for values in found]

    async def steps(self, connection: Connection, wanted: Sequence[tuple[SagaKey, int]]) -> list[list[Row]]:
        """The rows of these steps of these runs, in order: of each a list, which may be empty."""
        made: list[list[Row]] = [[] for _ in wanted]
        keys, numbers = _columns(key for key, _ in wanted), [step for _, step in wanted]
        for place, *values in await connection.fetch(self._sql["history.steps"], *keys, numbers):
            made[place - 1].append(history_row(values))
        return made

    async def timers(
        self, connection: Connection, shard: int, *, after: TimerCursor, until: int, most: int
    ) -> list[TimerRow]:
        """The next of a shard that are due by then, the first due first (H3)."""
        found = await connection.fetch(self._sql["timer.page"], shard, *after, until, most)
        return list(starmap(TimerRow, found))

    async def early_counts(self, connection: Connection, shard: int, *, after: str, most: int) -> list[EarlyCount]:
        """The next saga ids of a shard for which requests are kept."""
        return list(starmap(EarlyCount, await connection.fetch(self._sql["early_request.counts"], shard, after, most)))

    async def early(
        self, connection: Connection, shard: int, ids: Collection[SagaId], *, most: int
    ) -> list[EarlyRequest]:
        """What is kept for these ids, in the order in which it came; at most so many."""
        found = await connection.fetch(self._sql["early_request.load"], shard, list(ids), most)
        return list(starmap(EarlyRequest, found))

    async def started_ids(self, connection: Connection, ids: Collection[SagaId]) -> dict[SagaId, StartedId]:
        """Which of these ids have been used, by sagas whose rows may be gone (H2)."""
        found = starmap(StartedId, await connection.fetch(self._sql["started_id.load"], list(ids)))
        return {one.id: one for one in found}


_STATUSES: Final = {status.value: status for status in SagaStatus}
_KINDS: Final = {kind.value: kind for kind in Kind}
_STATUS_AT: Final = list(SAGA).index("status")
_KIND_AT: Final = list(HISTORY).index("kind")
_NAME_AT: Final = list(HISTORY).index("name")


def saga_row(record: Iterable[Any]) -> SagaRow:
    """From the columns `SAGA`."""
    values = list(record)
    values[_STATUS_AT] = _STATUSES[values[_STATUS_AT]]
    return SagaRow(*values)


def history_row(values: list[Any]) -> Row:
    """From the columns `HISTORY`. A kind of a later release is `unknown`, and stops its own saga alone."""
    word = values[_KIND_AT]
    values[_KIND_AT] = kind = _KINDS.get(word, Kind.UNKNOWN)
    if kind is Kind.UNKNOWN:
        values[_NAME_AT] = word
    return Row(*values)


def _columns(keys: Iterable[SagaKey]) -> tuple[list[SagaId], list[RunId]]:
    listed = list(keys)
    return [key.id for key in listed], [key.run for key in listed]


@named_statements
def _statements(schema: str) -> dict[str, str]:
    saga, history, timer, early, started = (
        qualified(schema, name) for name in ("saga", "history", "timer", "early_request", "started_id")
    )
    wanted = "unnest($1::text[], $2::text[]) WITH ORDINALITY AS wanted (id, run, place)"
    same_run = "row.id = wanted.id AND row.run = wanted.run"
    moment = TIME.write.format
    return {
        # A saga may continue as a new one within a turn: both have started at the same time, the older one is closed.
        "saga.load": f"""
            SELECT DISTINCT ON (row.id) {read(SAGA, "row")} FROM {saga} AS row WHERE row.id = ANY ($1::text[])
            ORDER BY row.id, row.{IS_OPEN} DESC, row.started_at DESC, row.status = '{SagaStatus.CONTINUED}'""",
        "saga.runs": f"SELECT {read(SAGA, 'row')} FROM {wanted} JOIN {saga} AS row ON {same_run}",
        "saga.open_page": open_page_sql(saga, history, timer),
        "saga.blocked_ids": f"""
            SELECT row.id FROM {saga} AS row
            WHERE row.decided IS NOT NULL AND row.{IS_OPEN} AND row.shard = $1 AND row.id > $2
            ORDER BY row.id LIMIT $3""",
        "history.load": f"""
            SELECT wanted.place, {read(HISTORY, "row")} FROM {wanted} JOIN {history} AS row ON {same_run}
            WHERE row.seq <= $3 ORDER BY wanted.place, row.seq""",
        "history.steps": f"""
            SELECT wanted.place, {read(HISTORY, "row")}
            FROM unnest($1::text[], $2::text[], $3::int[]) WITH ORDINALITY AS wanted (id, run, step, place)
            JOIN {history} AS row ON {same_run} AND row.step = wanted.step ORDER BY wanted.place, row.seq""",
        "history.page": f"""
            SELECT {read(HISTORY, "row")} FROM {history} AS row
            WHERE row.id = $1 AND row.run = $2 AND row.seq > $3 ORDER BY row.seq LIMIT $4""",
        # `due` again beside the row that it is part of: by it alone the index is entered at the right place.
        "timer.page": f"""
            SELECT {read(TIMER, "row")} FROM {timer} AS row
            WHERE row.shard = $1 AND row.due >= {moment("$2::bigint")} AND row.due <= {moment("$7::bigint")}
            AND (row.due, row.id, row.run, row.kind, row.number)
                > ({moment("$2::bigint")}, $3::text, $4::text, $5::text, $6::int)
            ORDER BY row.due, row.id, row.run, row.kind, row.number LIMIT $8""",
        "early_request.counts": f"""
            SELECT row.saga_id, count(*), max(row.number), {TIME.read.format("min(row.at)")},
                EXISTS (SELECT FROM {saga} AS saga WHERE saga.id = row.saga_id)
            FROM {early} AS row WHERE row.shard = $1 AND row.saga_id > $2
            GROUP BY row.saga_id ORDER BY row.saga_id LIMIT $3""",
        "early_request.load": f"""
            SELECT {read(EARLY, "row")} FROM {early} AS row
            WHERE row.shard = $1 AND row.saga_id = ANY ($2::text[]) ORDER BY row.number, row.saga_id LIMIT $3""",
        "started_id.load": f"SELECT {read(STARTED, 'row')} FROM {started} AS row WHERE row.id = ANY ($1::text[])",
    }
