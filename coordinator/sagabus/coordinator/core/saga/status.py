"""What a saga and its steps can be, and which changes are legal. A change that is not in a table is a fault of ours."""

from __future__ import annotations

from enum import StrEnum
from typing import Final, TypeVar


class SagaStatus(StrEnum):
    RUNNING = "running"
    COMPENSATING = "compensating"
    COMPLETED = "completed"
    COMPENSATED = "compensated"
    CANCELLED = "cancelled"
    TERMINATED = "terminated"
    CONTINUED = "continued"


class Outcome(StrEnum):
    """Of a step, as far as history knows. UNKNOWN: to be settled. NEVER: settled, it will not happen."""

    SENT = "sent"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    UNKNOWN = "unknown"
    NEVER = "never"


class Undoing(StrEnum):
    """How far the undo of a step is. PAUSED: between two attempts. PLANNED: its code has asked for it, and others of
    the same scope come first (U11)."""

    NONE = "none"
    PLANNED = "planned"
    SETTLING = "settling"
    SENT = "sent"
    PAUSED = "paused"
    DONE = "done"
    SKIPPED = "skipped"
    BLOCKED = "blocked"


_S, _O, _U = SagaStatus, Outcome, Undoing

SAGA: Final[dict[SagaStatus, frozenset[SagaStatus]]] = {
    _S.RUNNING: frozenset((_S.COMPENSATING, _S.COMPLETED, _S.TERMINATED, _S.CONTINUED)),
    _S.COMPENSATING: frozenset((_S.COMPENSATED, _S.CANCELLED, _S.TERMINATED)),
    _S.COMPLETED: frozenset((_S.COMPENSATING,)),  # a child whose parent is undone (U10)
    _S.COMPENSATED: frozenset(),
    _S.CANCELLED: frozenset(),
    _S.TERMINATED: frozenset(),
    _S.CONTINUED: frozenset(),
}

OUTCOME: Final[dict[Outcome, frozenset[Outcome]]] = {
    _O.SENT: frozenset((_O.COMPLETED, _O.FAILED, _O.PAUSED, _O.UNKNOWN)),
    _O.PAUSED: frozenset((_O.SENT, _O.COMPLETED, _O.UNKNOWN)),
    _O.COMPLETED: frozenset(),
    _O.FAILED: frozenset((_O.COMPLETED,)),  # a late success (P2)
    _O.UNKNOWN: frozenset((_O.COMPLETED, _O.NEVER)),
    _O.NEVER: frozenset(),
}

UNDOING: Final[dict[Undoing, frozenset[Undoing]]] = {
    _U.NONE: frozenset((_U.PLANNED, _U.SETTLING, _U.SENT, _U.DONE, _U.BLOCKED)),
    _U.PLANNED: frozenset((_U.NONE, _U.SETTLING, _U.SENT, _U.DONE, _U.BLOCKED)),
    _U.SETTLING: frozenset((_U.SENT, _U.DONE, _U.BLOCKED, _U.SKIPPED)),
    _U.SENT: frozenset((_U.DONE, _U.PAUSED, _U.SKIPPED)),
    _U.PAUSED: frozenset((_U.SENT, _U.DONE, _U.SKIPPED)),
    _U.BLOCKED: frozenset((_U.SENT, _U.DONE, _U.SKIPPED)),
    _U.DONE: frozenset(),
    _U.SKIPPED: frozenset(),
}

CLOSED: Final = frozenset((_S.COMPLETED, _S.COMPENSATED, _S.CANCELLED, _S.TERMINATED, _S.CONTINUED))
OPEN_OUTCOMES: Final = frozenset((_O.SENT, _O.PAUSED))
BUSY_UNDOING: Final = frozenset((_U.PLANNED, _U.SETTLING, _U.SENT, _U.PAUSED, _U.BLOCKED))


T = TypeVar("T", SagaStatus, Outcome, Undoing)


class IllegalChange(AssertionError):
    """A change that no table allows: the core is wrong, and must not go on."""


def changed(table: dict[T, frozenset[T]], old: T, new: T) -> T:
    """The new value. Raises IllegalChange unless the table allows it."""
    if new not in table[old]:
        raise IllegalChange(f"{type(old).__name__}: {old} cannot become {new}")
    return new
