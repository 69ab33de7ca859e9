"""Sagas with their histories, for whoever tries other code on them. Reads only, in the caller's transaction.

A sample is the same each time as long as the sagas are: it is drawn by a hash of their ids, so that it holds sagas of
all ages.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from sagabus.contracts.names import RunId, SagaId
from sagabus.coordinator.core.saga.recorded import Recorded
from sagabus.coordinator.core.saga.status import CLOSED, SagaStatus
from sagabus.coordinator.store.read import Reads
from sagabus.coordinator.store.rows import SagaKey, head_of
from sagabus.coordinator.store.tables import IS_OPEN
from sagabus.messaging.postgres.database import Connection
from sagabus.messaging.postgres.statements import named_statements
from sagabus.messaging.postgres.tables import qualified

ROWS_AT_A_TIME: Final = 1_000
"""Of one history."""

LATEST_CLOSED: Final = 1_000
"""Of each status, those that were started last, among which closed sagas are looked for."""

_ENDS: Final = tuple(status for status in SagaStatus if status in CLOSED and status is not SagaStatus.TERMINATED)
"""What a terminated saga did not do says nothing of its code."""


class SampleReads:
    """The reading side of one schema, for a check of changed code."""

    def __init__(self, schema: str) -> None:
        self._reads = Reads(schema)
        self._sql = _statements(schema)

    async def open_sample(self, connection: Connection, *, most: int) -> list[SagaKey]:
        """At most so many open sagas of each version of each definition. It looks at all open sagas once."""
        return _keys(await connection.fetch(self._sql["saga.sample"], most))

    async def closed_sample(self, connection: Connection, *, most: int) -> list[SagaKey]:
        """At most so many of each version of each definition, of the LATEST_CLOSED of each status."""
        found: list[SagaKey] = []
        for status in _ENDS:
            found += _keys(await connection.fetch(self._sql["saga.closed_sample"], status.value, LATEST_CLOSED, most))
        return found

    async def open_page(self, connection: Connection, *, after: str, most: int) -> list[SagaKey]:
        """The next open sagas, by id."""
        return _keys(await connection.fetch(self._sql["saga.next_open"], after, most))

    async def recorded(self, connection: Connection, keys: Sequence[SagaKey]) -> list[Recorded]:
        """Their histories, in order. Those that are gone, or whose history somebody has deleted, are left out."""
        rows = await self._reads.runs(connection, keys)
        histories = await self._reads.histories(connection, [*rows], most=ROWS_AT_A_TIME)
        made: list[Recorded] = []
        for key, row in rows.items():
            history = histories[key]
            while history and len(history) % ROWS_AT_A_TIME == 0:
                page = await self._reads.history_page(connection, key, after=history[-1].seq, most=ROWS_AT_A_TIME)
                if not page:
                    break
                history += page
            if history:
                made.append(Recorded(head_of(row), history))
        return made


def _keys(found: Iterable[Iterable[Any]]) -> list[SagaKey]:
    return [SagaKey(SagaId(id), RunId(run)) for id, run in found]


@named_statements
def _statements(schema: str) -> dict[str, str]:
    saga = qualified(schema, "saga")
    place = "row_number() OVER (PARTITION BY definition, version ORDER BY md5(id))"
    return {
        "saga.sample": f"""
            SELECT id, run FROM (SELECT id, run, {place} AS place FROM {saga} WHERE {IS_OPEN}) AS row
            WHERE place <= $1 ORDER BY id""",
        "saga.closed_sample": f"""
            SELECT id, run FROM (
                SELECT id, run, {place} AS place FROM (
                    SELECT id, run, definition, version FROM {saga}
                    WHERE status = $1 ORDER BY started_at DESC LIMIT $2) AS latest) AS row
            WHERE place <= $3 ORDER BY id""",
        "saga.next_open": f"SELECT id, run FROM {saga} WHERE {IS_OPEN} AND id > $1 ORDER BY id LIMIT $2",
    }
