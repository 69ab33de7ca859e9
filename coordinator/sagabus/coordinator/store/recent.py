"""The latest rows of sagas and their timers, for many sagas at once: what tells what a saga waits for.

A look at one costs the same however long its history is, and however many timers it has. A step that fails again and
again fills the latest rows with its attempts: the rows in which the steps began that they name are looked for too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sagabus.coordinator.core.saga.events import Events, read_events
from sagabus.coordinator.core.saga.history import Kind, Row
from sagabus.coordinator.store.columns import HISTORY, SAGA, TIMER
from sagabus.coordinator.store.older_rows import open_steps, their_rows
from sagabus.coordinator.store.read import history_row
from sagabus.coordinator.store.rows import SagaRow, TimerRow
from sagabus.coordinator.store.wire import Columns, read
from sagabus.messaging.postgres.database import Connection
from sagabus.messaging.postgres.statements import named_statements
from sagabus.messaging.postgres.tables import qualified

LONGEST_FAILURE: Final = 4_000
"""Bytes of a failure that are read. A longer one is left out here; the saga's steps and history have it."""

_EVENTS: Final[Columns] = {"events": SAGA["events"]}
_TOLD: Final = (Kind.STEP_FAILED, Kind.UNDO_FAILED, Kind.UNDO_REFUSED, Kind.SETTLE_FAILED, Kind.ROLLBACK)
"""Failures, and plans: rows whose payload is told."""


@dataclass(frozen=True, slots=True)
class Recent:
    """rows: the latest, in order; of payloads failures, plans of undos, and whether an undo has an input.

    is_whole: there are no older rows. timers: by kind and number; has_all_timers: there are no more. events: those of
    its code (`core.saga.events`), as they stood when the last of the rows was the last. older: of steps that the rows
    name, from before them, in order: the command, its undo, and the last two, as far as they were found.
    """

    rows: Sequence[Row]
    is_whole: bool
    timers: Sequence[TimerRow]
    has_all_timers: bool
    events: Events | None = None
    older: Sequence[Row] = ()


class RecentReads:
    """Of one schema."""

    def __init__(self, schema: str) -> None:
        self._sql = _statements(schema)

    async def of(self, connection: Connection, sagas: Sequence[SagaRow], *, most: int) -> list[Recent]:
        """Of each saga at most so many rows, and as many timers."""
        ids, runs, shards = [row.id for row in sagas], [row.run for row in sagas], [row.shard for row in sagas]
        rows: list[list[Row]] = [[] for _ in sagas]
        timers: list[list[TimerRow]] = [[] for _ in sagas]
        older: list[list[Row]] = [[] for _ in sagas]
        events: list[bytes | None] = [None] * len(sagas)
        for place, is_older, of_code, *values in await connection.fetch(self._sql["history.recent"], ids, runs, most):
            events[place - 1] = of_code
            (older if is_older else rows)[place - 1].append(history_row(values))
        for place, *values in await connection.fetch(self._sql["timer.recent"], ids, runs, shards, most):
            timers[place - 1].append(TimerRow(*values))
        return [
            Recent(found, not found or found[0].seq == 1, set_, len(set_) < most, read_events(of_code), before)
            for found, set_, of_code, before in zip(rows, timers, events, older, strict=True)
        ]


@named_statements
def _statements(schema: str) -> dict[str, str]:
    saga, history, timer = (qualified(schema, name) for name in ("saga", "history", "timer"))
    told = ", ".join(f"'{kind}'" for kind in _TOLD)
    payload = f"""CASE WHEN row.kind IN ({told}) AND octet_length(row.payload) <= {LONGEST_FAILURE} THEN row.payload
        WHEN row.kind = '{Kind.UNDO_INPUT}' THEN substring(row.payload FROM 1 FOR 1) END"""
    columns = ", ".join(payload + " AS payload" if name == "payload" else f'row."{name}"' for name in HISTORY)
    names = ", ".join(f'"{name}"' for name in HISTORY)
    return {
        # In one statement with the saga's row, so that the two are of one moment.
        "history.recent": f"""
            WITH wanted AS (SELECT * FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS wanted (id, run, place)),
            latest AS MATERIALIZED (
                SELECT wanted.*, row.* FROM wanted CROSS JOIN LATERAL (
                    SELECT {columns} FROM {history} AS row WHERE row.id = wanted.id AND row.run = wanted.run
                    ORDER BY row.seq DESC LIMIT $3
                ) AS row
            ), open AS MATERIALIZED ({open_steps("latest")}), older AS (
                SELECT DISTINCT open.place, row.* FROM open CROSS JOIN LATERAL ({their_rows(columns, history)}) AS row
            )
            SELECT wanted.place, row.is_older, {read(_EVENTS, "saga")}, {read(HISTORY, "row")}
            FROM (
                SELECT place, false AS is_older, {names} FROM latest
                UNION ALL SELECT place, true, {names} FROM older
            ) AS row JOIN wanted ON wanted.place = row.place
            LEFT JOIN {saga} AS saga ON saga.id = wanted.id AND saga.run = wanted.run
            ORDER BY wanted.place, row.seq""",
        "timer.recent": f"""
            SELECT wanted.place, {read(TIMER, "row")}
            FROM unnest($1::text[], $2::text[], $3::int[]) WITH ORDINALITY AS wanted (id, run, shard, place)
            CROSS JOIN LATERAL (
                SELECT row.* FROM {timer} AS row
                WHERE row.shard = wanted.shard AND row.id = wanted.id AND row.run = wanted.run
                ORDER BY row.kind, row.number LIMIT $4
            ) AS row ORDER BY wanted.place, row.kind, row.number""",
    }
