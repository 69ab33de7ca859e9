"""What the shell reads of sagas: by ids, for many at once; and a shard's timers and early requests when it is taken.

Each read is one statement, whatever the number of ids, and its cost does not grow with the sagas that it is not about.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from itertools import starmap
from typing import Any, Final

from sagabus.contracts.names import RunId, SagaId
from sagabus.coordinator.core.saga.history import Kind, Row
from sagabus.coordinator.core.saga.status import SagaStatus
from sagabus.coordinator.store.columns import EARLY, HISTORY, SAGA, STARTED, TIMER
from sagabus.coordinator.store.rows import EarlyRequest, SagaKey, SagaRow, StartedId, TimerRow
from sagabus.coordinator.store.tables import IS_OPEN
from sagabus.coordinator.store.wire import read
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

    async def open_ids(self, connection: Connection, shard: int) -> list[SagaId]:
        """All open sagas of a shard: of each, something may have been lost before a take (S6)."""
        return [SagaId(row["id"]) for row in await connection.fetch(self._sql["saga.open_ids"], shard)]

    async def blocked_ids(self, connection: Connection, shard: int) -> list[SagaId]:
        """Open sagas of a shard whose code could not go on: after a take it may be another code."""
        found = await connection.fetch(self._sql["saga.blocked_ids"], shard)
        return [SagaId(row["id"]) for row in found]

    async def histories(self, connection: Connection, keys: Sequence[SagaKey]) -> dict[SagaKey, list[Row]]:
        """All rows of each run, in order. Of a run without rows: an empty list."""
        made: dict[SagaKey, list[Row]] = {key: [] for key in keys}
        lists = list(made.values())
        for place, *values in await connection.fetch(self._sql["history.load"], *_columns(made)):
            lists[place - 1].append(history_row(values))
        return made

    async def timers(self, connection: Connection, shard: int) -> list[TimerRow]:
        """All of a shard, the first due first; among equals the lower number (H3)."""
        return list(starmap(TimerRow, await connection.fetch(self._sql["timer.load"], shard)))

    async def early(self, connection: Connection, shard: int) -> list[EarlyRequest]:
        """All of a shard, in the order in which they came."""
        return list(starmap(EarlyRequest, await connection.fetch(self._sql["early_request.load"], shard)))

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
    return {
        # A saga may continue as a new one within a turn: both have started at the same time, the older one is closed.
        "saga.load": f"""
            SELECT DISTINCT ON (row.id) {read(SAGA, "row")} FROM {saga} AS row WHERE row.id = ANY ($1::text[])
            ORDER BY row.id, row.{IS_OPEN} DESC, row.started_at DESC, row.status = '{SagaStatus.CONTINUED}'""",
        "saga.runs": f"SELECT {read(SAGA, 'row')} FROM {wanted} JOIN {saga} AS row ON {same_run}",
        "saga.open_ids": f"SELECT row.id FROM {saga} AS row WHERE row.{IS_OPEN} AND row.shard = $1",
        # attention is what the index knows; who is blocked is always on attention
        "saga.blocked_ids": f"""
            SELECT row.id FROM {saga} AS row WHERE row.attention IS NOT NULL AND row.decided IS NOT NULL
            AND row.{IS_OPEN} AND row.shard = $1""",
        "history.load": f"""
            SELECT wanted.place, {read(HISTORY, "row")} FROM {wanted} JOIN {history} AS row ON {same_run}
            ORDER BY wanted.place, row.seq""",
        "timer.load": f"""
            SELECT {read(TIMER, "row")} FROM {timer} AS row WHERE row.shard = $1
            ORDER BY row.due, row.number, row.id, row.run, row.kind""",
        "early_request.load": f"""
            SELECT {read(EARLY, "row")} FROM {early} AS row WHERE row.shard = $1 ORDER BY row.number, row.saga_id""",
        "started_id.load": f"SELECT {read(STARTED, 'row')} FROM {started} AS row WHERE row.id = ANY ($1::text[])",
    }
