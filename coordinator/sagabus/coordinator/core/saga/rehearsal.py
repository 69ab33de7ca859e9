"""A replay of somebody's history with code that is not deployed yet: would it follow, and if not, at which line?

What the product does when it loads a saga is done here, to the same words, and nothing of it is kept or sent. The code
is watched: of each step and each publication the line of the author's that asked for it is noted, and where the code
stands when its history goes another way.
"""

from __future__ import annotations

import sys
from collections.abc import Coroutine
from dataclasses import dataclass
from types import FrameType
from typing import Any, Final, cast

from pydantic import BaseModel

from sagabus.contracts.author_code import is_authors
from sagabus.contracts.commands import Addresses
from sagabus.contracts.envelope import source_of
from sagabus.contracts.names import RunId, SagaId
from sagabus.contracts.retry import Seconds
from sagabus.coordinator.core.saga.history import Kind, Row, words
from sagabus.coordinator.core.saga.journal import Divergence
from sagabus.coordinator.core.saga.program import Code, Program
from sagabus.coordinator.core.saga.recorded import Recorded
from sagabus.coordinator.core.saga.replay import Replay
from sagabus.coordinator.core.saga.state import SagaState

NAMESPACE: Final = "sagabus"
"""In addresses of messages that nobody sends."""

_Asked = tuple[str, int | str]
"""A step by its number, a publication by its own, a change (`ctx.patched`) by its name."""

_STEP: Final = "step"
_PUBLISH: Final = "publish"
_PATCHED: Final = "patched"


@dataclass(frozen=True, slots=True)
class Stopped:
    """How the code goes another way. kind: as of the concern that the saga would raise: `diverged`, `blocked`, `spun`.
    said: what the product would say. row: the number of the first row that differs, 0 if it is not about one.
    expected: what stands there, found: what the code does; both empty where it is not about a row. place: the
    author's line, `file:line`; empty where none is known."""

    kind: str
    said: str
    row: int = 0
    expected: str = ""
    found: str = ""
    place: str = ""


def rehearse(recorded: Recorded, code: Code) -> Stopped | None:
    """None if this code follows the history to its end. May be called for any prefix that ends with a turn."""
    traced = _Traced(code)
    replay = _Rehearsal(_state(recorded, code), traced, recorded)
    try:
        replay.go_on(_ALL)
        return replay.verdict()
    finally:
        replay.saga.evict()


_ALL: Final = 2**31
"""Rows. More than a history has."""


def _state(recorded: Recorded, code: Code) -> SagaState:
    head = recorded.head
    addresses = Addresses(NAMESPACE, source_of(NAMESPACE), SagaId(head.id), RunId(head.run), 0)
    state = SagaState(addresses, definition=head.saga, version=code.version)
    state.standing = state.standing._replace(status=head.status, fingerprint=head.fingerprint)
    return state


class _Rehearsal(Replay):
    __slots__ = ("_stands", "_traced")

    def __init__(self, state: SagaState, code: _Traced, recorded: Recorded) -> None:
        rows = recorded.rows
        super().__init__(state, cast("Code", code), rows, status=recorded.head.status, now=rows[-1].at)
        self._traced = code
        self._stands = ""

    def _finish(self) -> None:
        """While the code is still there: what stops it takes it out of memory."""
        if self.fault is not None:
            self._stands = self._traced.stands_at()
            return
        super()._finish()

    def verdict(self) -> Stopped | None:
        if self.fault is not None:
            return self._difference()
        stopped = self.saga.stopped
        if stopped is None or stopped.state.is_closed:
            return None
        return Stopped(stopped.stop.kind, stopped.stop.words, place=self._traced.written_at)

    def _difference(self) -> Stopped:
        assert self.fault is not None
        kind, said, raised = self.fault.kind, self.fault.words, self.raised
        if not isinstance(raised, Divergence):
            return Stopped(kind, said, place=self._stands)
        written, made = raised.written, raised.made
        expected = "nothing more" if written is None else words(written)
        found = "nothing" if made is None else words(made)
        row = self._rows[-1].seq + 1 if written is None else written.seq
        place = self._traced.made_at(written if made is not None and made.seq else made)
        return Stopped(kind, said, row, expected, found, place or self._stands)


class _Traced:
    """A definition whose code is watched."""

    def __init__(self, code: Code) -> None:
        self._code = code
        self._lines: dict[_Asked, str] = {}
        self._coroutine: Coroutine[Any, Any, Any] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._code, name)

    @property
    def written_at(self) -> str:
        return self._code.written_at

    @property
    def timeout(self) -> Seconds | None:
        return self._code.timeout

    def run(self, program: Program, request: bytes) -> Coroutine[Any, Any, BaseModel | None]:
        self._coroutine = self._code.run(cast("Program", _TracedProgram(program, self._lines)), request)
        return self._coroutine

    def made_at(self, made: Row | None) -> str:
        """Of the line that asked for this decision, if it was one of the author's."""
        if made is None:
            return ""
        if made.kind is Kind.PATCHED:
            return self._lines.get((_PATCHED, made.name), "")
        return self._lines.get((_PUBLISH if made.kind is Kind.PUBLISH else _STEP, made.step), "")

    def stands_at(self) -> str:
        """The author's innermost line at which the code waits; of code that has ended, where its function stands."""
        found, inner = self.written_at, cast(Any, self._coroutine)
        while (frame := getattr(inner, "cr_frame", None)) is not None:
            if is_authors(frame):
                found = _place(frame)
            inner = getattr(inner, "cr_await", None)
        return found


class _TracedProgram:
    """What the saga's context asks, it asks of the program behind; the author's line is noted."""

    __slots__ = ("_lines", "_program", "_publications")

    def __init__(self, program: Program, lines: dict[_Asked, str]) -> None:
        self._program = program
        self._lines = lines
        self._publications = 0

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._program, name)
        if not callable(value):
            return value

        def traced(*given: Any, **named: Any) -> Any:
            before = self._program.steps
            made = value(*given, **named)
            self._note(name, before, given)
            return made

        return traced

    def _note(self, name: str, before: int, given: tuple[Any, ...]) -> None:
        asked: list[_Asked] = [(_STEP, number) for number in range(before + 1, self._program.steps + 1)]
        if name == _PUBLISH:
            self._publications += 1
            asked.append((_PUBLISH, self._publications))
        elif name == _PATCHED:
            asked.append((_PATCHED, given[0]))
        for one in asked:
            self._lines.setdefault(one, _authors_line(sys._getframe(2)))


def _authors_line(frame: FrameType | None) -> str:
    while frame is not None and not is_authors(frame):
        frame = frame.f_back
    return "" if frame is None else _place(frame)


def _place(frame: FrameType) -> str:
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
