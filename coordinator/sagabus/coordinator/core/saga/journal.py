"""Writes history and compares: rows get their numbers here, and a replay is held against what is written."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from sagabus.coordinator.core.saga.history import Input, Kind, Row, words
from sagabus.coordinator.core.saga.order import set_aside

_Said = tuple[Kind, str, bytes | None]
"""A decision's kind, name and payload."""


_NO_ROWS: Final[list[Row]] = []
_NOTHING_READ: Final[Mapping[tuple[str, int], Row]] = MappingProxyType({})
"""Of journals that replay nothing. Shared, and never changed: a replay has its own."""


class Divergence(Exception):
    """The saga's code no longer does what its history says. The message names the first difference.

    reordered: what the code makes there stands in its history, further on. written: the row that the difference is at.
    made: what the code makes there, as a decision without a number or as a row of its history; None for nothing.
    """

    def __init__(
        self, words: str, *, reordered: bool = False, written: Row | None = None, made: Row | None = None
    ) -> None:
        super().__init__(words)
        self.reordered = reordered
        self.written = written
        self.made = made


class Journal:
    """Gives rows their numbers. While replaying it hands out what is written and notices the first difference."""

    __slots__ = (
        "_ahead",
        "_compared_last",
        "_expected",
        "_patched",
        "_reached",
        "_read",
        "aside",
        "new",
        "replaying",
        "seq",
        "size",
    )

    def __init__(self) -> None:
        self.seq = 0
        self.size = 0
        """Bytes of all payloads."""
        self.new: list[Row] = []
        """Since the last drain. Those of a saga that stops are cut off by their numbers."""
        self.replaying = False
        self._expected: list[Row] = _NO_ROWS
        self._compared_last: Row | None = None
        self._reached = 0
        self._ahead: dict[_Said, list[Row]] | None = None
        self._read: Mapping[tuple[str, int], Row] = _NOTHING_READ
        self._patched: set[str] | None = None
        self.aside: Collection[int] = ()
        """Inputs of a replay that led to nothing when the saga went on: see `set_aside`."""

    def replay(self, rows: Sequence[Row], *, reached: int = 0) -> list[Row]:
        """Start comparing with these rows. Returns the inputs among them, in order.

        reached: the number of the row from which on they are compared.
        """
        self._reached = reached
        self.seq = rows[-1].seq
        self._expected = [row for row in reversed(rows) if not row.is_input]
        self._read = {(row.name, row.step): row for row in rows if row.kind is Kind.READ}
        self.aside = set_aside(rows)
        self.replaying = True
        return [row for row in rows if row.is_input]

    def reach(self, row: Row) -> bool:
        """Replay has come to this input: all that is written before it must have been decided by now, and no more.

        False for one that was kept while the saga was blocked: it is decided upon out of its place. Raises Divergence.
        """
        self.size += len(row.payload or b"")
        if row.seq <= self._reached:
            return False
        self._reached = row.seq
        if self._expected and self._expected[-1].seq < row.seq:
            raise _differs(self._expected[-1], "the code does nothing there")
        last = self._compared_last
        if last is not None and last.seq > row.seq:
            raise _differs(last, f"the code now makes it before {words(row)}", last)
        return True

    def replayed(self) -> None:
        """Every decided input was taken again: from here on rows are new."""
        if self._expected:
            raise _differs(self._expected[-1], "the code does nothing there")
        self.replaying = False

    def decides_after(self, row: Row) -> bool:
        """While replaying: the next row is a decision, so this input was decided to lead to something."""
        return bool(self._expected) and self._expected[-1].seq == row.seq + 1

    def was_read(self, name: str, number: int) -> Row | None:
        """While replaying: the decision `read` that is written of this."""
        return self._read.get((name, number))

    def has_patch(self, change: str) -> bool:
        """Asked once for each change: in a replay, whether its marker is written; else it is about to be (H8)."""
        if not self.replaying:
            return True
        if self._patched is None:
            self._patched = {row.name for row in self._expected if row.kind is Kind.PATCHED}
        return change in self._patched

    def ahead(self, kind: Kind, name: str, payload: bytes) -> Row | None:
        """While replaying: a decision with this very payload that is written but has not been made again yet."""
        if self._ahead is None:
            self._ahead = {}
            for row in self._expected:
                self._ahead.setdefault((row.kind, row.name, row.payload), []).append(row)
        same = self._ahead.get((kind, name, payload), [])
        while same and self._compared_last is not None and same[-1].seq <= self._compared_last.seq:
            same.pop()
        return same[-1] if same else None

    def taken(self, input: Input, at: int) -> Row:
        """The input has its place in history. at: microseconds since 1970."""
        _, _, kind, step, attempt, name, ref, payload, _ = input
        return self._new(Row(self.seq + 1, at, kind, step, attempt, name, ref, payload))

    def noted(
        self, kind: Kind, *, at: int, step: int = 0, attempt: int = 0, name: str = "", ref: str = "",
        payload: bytes = b"",
    ) -> Row:  # fmt: skip
        """An input of the saga's own making: that it stops, or goes on, or that nobody answers it."""
        return self._new(Row(self.seq + 1, at, kind, step, attempt, name, ref, payload or None))

    def decided(
        self, kind: Kind, at: int, step: int = 0, name: str = "", ref: str = "", payload: bytes | None = None
    ) -> Row:
        """A decision: a new row, or the written one that it must equal in kind, number and name."""
        if self.replaying:
            return self._compared(Row(0, at, kind, step, 0, name, ref, payload))
        return self._new(Row(self.seq + 1, at, kind, step, 0, name, ref, payload))

    @property
    def next_decision(self) -> Row | None:
        """While replaying: the one that is written next."""
        return self._expected[-1] if self._expected else None

    def _new(self, row: Row) -> Row:
        self.seq = row.seq
        if row.payload:
            self.size += len(row.payload)
        self.new.append(row)
        return row

    def _compared(self, made: Row) -> Row:
        if not self._expected:
            raise Divergence(f"history has nothing more, the code now makes {words(made)}", made=made)
        written = self._compared_last = self._expected.pop()
        if (written.kind, written.step, written.name) != (made.kind, made.step, made.name):
            raise _differs(written, f"the code now makes {words(made)}", made, reordered=self._is_ahead(made))
        self.size += len(written.payload or b"")
        return written

    def _is_ahead(self, made: Row) -> bool:
        return made.payload is not None and self.ahead(made.kind, made.name, made.payload) is not None


def _differs(written: Row, now: str, made: Row | None = None, *, reordered: bool = False) -> Divergence:
    """now: what the code does where this row is written, in words. made: the row that it makes there."""
    said = f"history has {words(written)}, {now}"
    if written.kind is Kind.PATCHED:
        cure = "must be called where its row is; it may be taken out when no open history has the row: put it back"
        said = f'{said}; ctx.patched("{written.name}") {cure}'
        return Divergence(said, reordered=reordered, written=written, made=made)
    if made is not None and made.kind is Kind.PATCHED:
        cure = "is called earlier than where its row is: put it back there, or give the change here another name"
        said = f'{said}; ctx.patched("{made.name}") {cure}'
        return Divergence(said, reordered=reordered, written=written, made=made)
    return Divergence(said, reordered=reordered, written=written, made=made)
