"""In which order the inputs of a history were decided upon: not always the order in which they came.

What comes while a saga is blocked is kept, and decided upon when it goes on. What nobody can read is set aside then.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from sagabus.coordinator.core.saga.history import REFUSED, Kind, Row

_VERBS: Final = (Kind.CANCEL, Kind.OPERATOR)


def in_order(inputs: Iterable[Row]) -> tuple[list[Row], list[Row], int]:
    """(the inputs in the order in which they were decided upon, those kept undecided, the first row since when).

    What came while a saga was blocked was decided upon after it resumed, or before it went on without its code. The
    notice that one of them is left undecided stands in its place.
    """
    decided: list[Row] = []
    kept: list[Row] = []
    since = 0
    for row in inputs:
        if row.kind is Kind.BLOCKED:
            at = _place(decided, row.step)
            kept = [one for one in decided[at:] if one.kind is not Kind.CODELESS]
            decided[at:] = [row]
            since = row.step
        elif row.kind is Kind.RESUMED:
            decided += [row, *kept]
            kept, since = [], 0
        elif row.kind is Kind.CODELESS:
            decided += [*kept, row]
            kept, since = [], 0
        elif since:
            kept.append(row)
        elif _sets_aside(row):
            decided.insert(_place(decided, int(row.ref)), row)
        else:
            decided.append(row)
    return decided, kept, since


def _place(decided: Sequence[Row], seq: int) -> int:
    """Of the row of this number, which is one of the last; behind all if it is not there."""
    for place in range(len(decided) - 1, -1, -1):
        if decided[place].seq == seq:
            return place
    return len(decided)


def codeless_row(decided: Sequence[Row]) -> Row | None:
    """The last row `codeless` among these inputs: from there on the saga is decided without its code."""
    return next((row for row in reversed(decided) if row.kind is Kind.CODELESS), None)


def set_aside(rows: Sequence[Row]) -> set[int]:
    """Inputs that led to nothing when the saga went on: nobody could read them, or they are verbs that were refused."""
    refused = {row.ref for row in rows if row.kind is Kind.NOTICE and row.name == REFUSED}
    unread = {int(row.ref) for row in rows if _sets_aside(row)}
    return unread | {row.seq for row in rows if refused and row.kind in _VERBS and row.ref in refused}


def _sets_aside(row: Row) -> bool:
    """A notice that names a row. That of a refused request names the request, whose id may be a number too."""
    return row.kind is Kind.NOTICE and row.name != REFUSED and row.ref.isdecimal()
