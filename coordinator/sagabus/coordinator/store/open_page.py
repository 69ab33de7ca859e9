"""A page of a shard's open sagas, by id, and which of them are to be loaded: all that are not at rest for sure.

A saga is at rest if a replay of it would find nothing to do: it runs, with the code that this process has; each command
that it has made has its final answer; nothing else was ever begun, asked for or told; and it waits for an event, or has
a timer. That is looked at in rows of its history, in the statement that finds the page. A saga that has none of these
rows, or a rare one, or very many, may be at rest too. It is loaded, and its replay finds out
(docs/decisions/0023; tests/coordinator/test_at_rest.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from sagabus.contracts.names import SagaId
from sagabus.coordinator.core.saga.history import Kind
from sagabus.coordinator.core.saga.status import SagaStatus
from sagabus.coordinator.store.tables import IS_OPEN

ROWS_LOOKED_AT: Final = 200
"""Of one history. A saga that has more is not looked at any further: it is loaded."""

FINAL: Final = (Kind.STEP_COMPLETED, Kind.STEP_REFUSED)
"""What a command waits for. What else answers one for good, a settle, goes with rows that are not harmless."""

HARMLESS: Final = (
    *FINAL, Kind.STARTED, Kind.COMMAND, Kind.STEP_FAILED, Kind.EVENT, Kind.TIMER, Kind.UNDO_INPUT, Kind.READ,
    Kind.PUBLISH, Kind.START, Kind.PATCHED, Kind.ON_ROLLBACK, Kind.PIVOT,
)  # fmt: skip
"""A history of these alone has undone, settled, ended and stopped nothing. A failed attempt, and each kind of timer, is
harmless where its step has a final answer: a retry has been answered too, and a step that was given up has none."""


@dataclass(frozen=True, slots=True)
class OpenPage:
    """count: sagas that were looked at; fewer than were asked for at the end of the shard. last: the id of the last
    one, "" where there is none. restless: ids of those that are not at rest for sure."""

    count: int
    last: str
    restless: list[SagaId]


def open_page_sql(saga: str, history: str, timer: str) -> str:
    """One row: (count, last, restless). $1: shard, $2: after this id, $3: sagas at most, $4: the fingerprints of all
    code that this process has.

    What stands in a saga's own row is looked at first, and its history only if that says nothing against rest. `limit`
    within: a history of any length costs no more than one of 200 rows.
    """
    # A subquery of one value, and no EXISTS: that might read all timers once instead of a saga's own.
    return f"""
        SELECT count(*) AS count, coalesce(max(page.id), '') AS last,
            coalesce(array_agg(page.id) FILTER (WHERE page.rests IS NOT TRUE), '{{}}') AS restless
        FROM (
            SELECT row.id, CASE
                WHEN row.status <> '{SagaStatus.RUNNING}' OR row.paused OR row.decided IS NOT NULL
                    OR row.attention IS NOT NULL OR row.fingerprint <> ALL ($4::text[]) THEN false
                WHEN (row.events -> 'awaited' -> 0) IS NULL AND (
                    SELECT true FROM {timer} AS timer
                    WHERE timer.shard = row.shard AND timer.id = row.id AND timer.run = row.run LIMIT 1
                ) IS NULL THEN false
                ELSE (
                    SELECT count(*) < {ROWS_LOOKED_AT} AND bool_and(past.kind IN ({_quoted(HARMLESS)}))
                        AND coalesce(array_agg(past.step) FILTER (WHERE past.kind = '{Kind.COMMAND}'), '{{}}')
                            <@ coalesce(array_agg(past.step) FILTER (WHERE past.kind IN ({_quoted(FINAL)})), '{{}}')
                        AND (row.events IS NULL OR (row.events ->> 'row')::int = max(past.seq))
                    FROM (
                        SELECT own.seq, own.kind, own.step FROM {history} AS own
                        WHERE own.id = row.id AND own.run = row.run ORDER BY own.seq LIMIT {ROWS_LOOKED_AT}
                    ) AS past
                ) END AS rests
            FROM {saga} AS row WHERE row.{IS_OPEN} AND row.shard = $1 AND row.id > $2 ORDER BY row.id LIMIT $3
        ) AS page"""


def _quoted(kinds: Iterable[Kind]) -> str:
    return ", ".join(f"'{kind}'" for kind in kinds)
