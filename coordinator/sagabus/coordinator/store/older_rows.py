"""SQL for rows of a saga that stand before its latest ones: those that tell how a step began which is still open.

A step that fails again and again fills the latest rows with its attempts, and its own command is not among them. No
index knows the steps of a history. So a row is looked for where it must stand, at most SEARCHED rows at each place.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from sagabus.coordinator.core.saga.effects import TimerKind
from sagabus.coordinator.core.saga.history import Kind
from sagabus.coordinator.core.saga.operator import RETRY

MOST_STEPS: Final = 20
"""Steps of a saga, those named last, whose older rows are looked for."""

SEARCHED: Final = 100
"""Rows that are read to find one, at each place where it may stand."""

_UNDO_FAILURES: Final = (Kind.UNDO_FAILED, Kind.UNDO_REFUSED)
_OPEN: Final = (Kind.STEP_FAILED, *_UNDO_FAILURES, Kind.SETTLE_FAILED, Kind.UNDO, Kind.SETTLE)
_ANSWERED: Final = (
    Kind.STEP_COMPLETED, Kind.STEP_REFUSED, Kind.UNDO_COMPLETED, Kind.SETTLE_COMPLETED, Kind.SETTLE_NEVER,
)  # fmt: skip
_FIRED: Final = (TimerKind.RETRY, TimerKind.UNDO_RETRY, TimerKind.TIMEOUT)
_FARTHEST: Final = 1_000_000_000
"""The number of an attempt is anybody's."""


def open_steps(latest: str) -> str:
    """Of each saga the steps whose command is not among these rows, and whose last row is no answer for good.

    first: of these rows of the saga the first. do, undo: where the step's command stands at the latest, and its undo;
    null if no row tells. An attempt has two rows: it failed, and its pause is over.
    """

    def begun(*kinds: Kind) -> str:
        return f"min(seq + 1 - 2 * least(attempt, {_FARTHEST})) FILTER (WHERE kind IN ({_listed(kinds)}))"

    return f"""
        SELECT one.place, one.id, one.run, one.step, first.seq AS first,
            greatest(least(one.do, first.seq - 1), one.step + 1) AS do,
            greatest(least(one.undo, first.seq - 1), one.step + 1) AS undo
        FROM (
            SELECT place, id, run, step, {begun(Kind.STEP_FAILED)} AS do,
                CASE WHEN bool_or(kind IN ({_listed(_UNDO_FAILURES)})) THEN {begun(*_UNDO_FAILURES)} END AS undo,
                row_number() OVER (PARTITION BY place ORDER BY max(seq) DESC) AS number
            FROM {latest} WHERE step > 0 AND (kind = '{Kind.COMMAND}' OR {_of_steps("")}) GROUP BY place, id, run, step
            HAVING NOT bool_or(kind = '{Kind.COMMAND}') AND NOT (array_agg(
                kind IN ({_listed(_ANSWERED)}) OR kind = '{Kind.OPERATOR}' AND name <> '{RETRY}' ORDER BY seq DESC
            ))[1]
        ) AS one JOIN (SELECT place, min(seq) AS seq FROM {latest} GROUP BY place) AS first ON first.place = one.place
        WHERE one.number <= {MOST_STEPS} AND first.seq > 1"""


def their_rows(columns: str, history: str) -> str:
    """Of a row `open` of those: the command, its undo, and the last two rows before the latest ones: what was repeated.

    A command has a number of at least its step's and one: each step before has a command too.
    """

    def some(which: str, places: str, *, last: bool = True, most: int = 1) -> str:
        order = "DESC" if last else "ASC"
        return f"""(SELECT {columns} FROM {history} AS row WHERE row.id = open.id AND row.run = open.run
            AND {places} AND row.step = open.step AND {which} ORDER BY row.seq {order} LIMIT {most})"""

    def until(place: str) -> str:
        return f"row.seq <= {place} AND row.seq > {place} - {SEARCHED}"

    command, undo = f"row.kind = '{Kind.COMMAND}'", f"row.kind = '{Kind.UNDO}'"
    from_the_first = f"row.seq > open.step AND row.seq <= least(open.first - 1, open.step + {SEARCHED})"
    before = until("(open.first - 1)")
    return f"""
        (SELECT * FROM (
            {some(command, until("open.do"))}
            UNION ALL {some(command, from_the_first, last=False)} UNION ALL {some(command, before)}
        ) AS found LIMIT 1)
        UNION ALL {some(undo, until("open.undo"))} UNION ALL {some(_of_steps("row."), before, most=2)}"""


def _of_steps(row: str) -> str:
    """Whether it tells how a step fares. The numbers of others are of publications, concerns and the code's timers."""
    return f"""({row}kind IN ({_listed((*_OPEN, *_ANSWERED, Kind.OPERATOR))})
        OR {row}kind = '{Kind.TIMER}' AND {row}name IN ({_listed(_FIRED)}))"""


def _listed(words: Iterable[str]) -> str:
    return ", ".join(f"'{word}'" for word in words)
