"""The rows of a saga's history: what was taken in, and what was decided upon it.

Inputs are facts and are written when taken, even by a saga that cannot go on at the moment. Decisions follow from the
inputs and the saga's code alone; on replay they are made again and compared with what is written.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Kind(StrEnum):
    """What a row says. The words before the dot of a reply tell which command was answered."""

    STARTED = "started"
    STEP_COMPLETED = "step.completed"
    STEP_REFUSED = "step.refused"
    STEP_FAILED = "step.failed"
    UNDO_COMPLETED = "undo.completed"
    UNDO_REFUSED = "undo.refused"
    UNDO_FAILED = "undo.failed"
    SETTLE_COMPLETED = "settle.completed"
    SETTLE_NEVER = "settle.never"
    SETTLE_FAILED = "settle.failed"
    EVENT = "event"
    TIMER = "timer"
    CANCEL = "cancel"
    OPERATOR = "operator"
    BLOCKED = "blocked"
    RESUMED = "resumed"
    NOTICE = "notice"

    COMMAND = "command"
    SETTLE = "settle"
    UNDO = "undo"
    UNDO_INPUT = "undo.input"
    PUBLISH = "publish"
    ENDED = "ended"

    UNKNOWN = "unknown"
    """Written by a later release: its word is the row's name. Whoever reads it cannot go on."""


DECISIONS: Final = frozenset((Kind.COMMAND, Kind.SETTLE, Kind.UNDO, Kind.UNDO_INPUT, Kind.PUBLISH, Kind.ENDED))
INPUTS: Final = frozenset(Kind) - DECISIONS


@dataclass(frozen=True, slots=True)
class Row:
    """at: microseconds since 1970, never less than the row before. attempt: of a reply or a retry, else 0.

    step: the step, the publication's number or the timer's; of `blocked` the first row that is kept undecided. name:
    activity, event, timer kind or end. ref: the id of the message that brought an input. payload: the bytes as they
    came, or as they were sent. sequence: the saga's last lifecycle event when the row was committed; known once read.
    """

    seq: int
    at: int
    kind: Kind
    step: int = 0
    attempt: int = 0
    name: str = ""
    ref: str = ""
    payload: bytes | None = None
    sequence: int = 0

    @property
    def is_input(self) -> bool:
        return self.kind in INPUTS


@dataclass(frozen=True, slots=True)
class Arrival:
    """An input that is offered to a saga, before it has a place in its history."""

    kind: Kind
    step: int = 0
    attempt: int = 0
    name: str = ""
    ref: str = ""
    payload: bytes | None = None

    def row(self, seq: int, at: int) -> Row:
        return Row(seq, at, self.kind, self.step, self.attempt, self.name, self.ref, self.payload)


class Divergence(Exception):
    """The saga's code no longer does what its history says. The message names the first difference."""


class Journal:
    """Gives rows their numbers. While replaying it hands out what is written and notices the first difference."""

    __slots__ = ("_compared_last", "_expected", "_reached", "new", "replaying", "seq")

    def __init__(self) -> None:
        self.seq = 0
        self.new: list[Row] = []
        self.replaying = False
        self._expected: list[Row] = []
        self._compared_last: Row | None = None
        self._reached = 0

    def replay(self, rows: list[Row]) -> list[Row]:
        """Start comparing with these rows. Returns the inputs among them, in order."""
        self.seq = rows[-1].seq
        self._expected = [row for row in reversed(rows) if not row.is_input]
        self.replaying = True
        return [row for row in rows if row.is_input]

    def reach(self, row: Row) -> bool:
        """Replay has come to this input: all that is written before it must have been decided by now, and no more.

        False for one that was kept while the saga was blocked: it is decided upon out of its place. Raises Divergence.
        """
        if row.seq < self._reached:
            return False
        self._reached = row.seq
        if self._expected and self._expected[-1].seq < row.seq:
            raise Divergence(f"history has {words(self._expected[-1])}, the code does nothing there")
        last = self._compared_last
        if last is not None and last.seq > row.seq:
            raise Divergence(f"history has {words(last)}, the code now makes it before {words(row)}")
        return True

    def replayed(self) -> None:
        """Every decided input was taken again: from here on rows are new."""
        if self._expected:
            raise Divergence(f"history has {words(self._expected[-1])}, the code does nothing there")
        self.replaying = False

    def ahead(self, kind: Kind, name: str, payload: bytes) -> Row | None:
        """While replaying: a decision with this very payload that is written but has not been made again yet."""
        same = (row for row in reversed(self._expected) if (row.kind, row.name, row.payload) == (kind, name, payload))
        return next(same, None)

    def taken(self, arrival: Arrival, at: int) -> Row:
        self.seq += 1
        row = arrival.row(self.seq, at)
        self.new.append(row)
        return row

    def decided(self, kind: Kind, *, at: int, step: int = 0, name: str = "", payload: bytes | None = None) -> Row:
        """A decision: a new row, or the written one that it must equal in kind, number and name."""
        if self.replaying:
            return self._compared(Row(0, at, kind, step, 0, name, "", payload))
        self.seq += 1
        row = Row(self.seq, at, kind, step, 0, name, "", payload)
        self.new.append(row)
        return row

    def _compared(self, made: Row) -> Row:
        if not self._expected:
            raise Divergence(f"history has nothing more, the code now makes {words(made)}")
        written = self._compared_last = self._expected.pop()
        if (written.kind, written.step, written.name) != (made.kind, made.step, made.name):
            raise Divergence(f"history has {words(written)}, the code now makes {words(made)}")
        return written


def words(row: Row) -> str:
    """A row as people may read it."""
    where = f" at row {row.seq}" if row.seq else ""
    what = f"{row.kind} {row.name}".rstrip()
    return f"{what} (number {row.step}){where}" if row.step else f"{what}{where}"
