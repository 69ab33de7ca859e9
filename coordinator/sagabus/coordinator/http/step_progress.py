"""One step of a saga as its history tells of it: how its command fares, and its undo."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from sagabus.contracts.names import CommandKind
from sagabus.coordinator.core.saga.status import BUSY_UNDOING, Undoing


class StepStatus(StrEnum):
    """How a step's command fares: the core's `Outcome`, and HELD, which is not sent yet (U4)."""

    HELD = "held"
    SENT = "sent"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    UNKNOWN = "unknown"
    NEVER = "never"


@dataclass(slots=True)
class StepProgress:
    """attempts: made so far. output, error: as they came. compensation: what undoes it, once it is known.

    waits: what the step, or its undo, waits for before it is sent.
    """

    number: int
    activity: str
    status: StepStatus = StepStatus.SENT
    attempts: int = 1
    output: bytes | None = None
    error: bytes | None = None
    undo: Undoing = Undoing.NONE
    compensation: str | None = None
    undo_error: bytes | None = None
    undo_input: bool | None = None
    """Whether the undo's input could be made; None without an undo."""
    waits: str | None = None
    since: int = 0
    """When what it is in began, in microseconds since 1970: sent, paused, its undo sent. Copies do not count."""
    undo_attempts: int = 0
    """Of its undo; 0 before it was sent."""
    settle_sent: bool = False
    """Its participant was asked at some time whether it has happened."""
    resting: bool = False
    """Its last answer was a failure, and nothing is sent until it is tried again: a settle between two attempts, or
    what its participant cannot tell."""

    kept: int = 0
    """Answers and operators' requests that a blocked saga keeps, and that count when it goes on."""

    @property
    def unanswered(self) -> CommandKind | None:
        """What was sent last, if nobody has answered it."""
        if self.undo is Undoing.SETTLING:
            return None if self.resting else CommandKind.SETTLE
        if self.undo is Undoing.SENT:
            return CommandKind.UNDO
        return CommandKind.DO if self.status is StepStatus.SENT and not self.resting else None

    @property
    def condition(self) -> tuple[object, ...]:
        """What `since` is about."""
        return self.status, self.undo, self.attempts, self.undo_attempts, self.resting

    @property
    def service(self) -> str:
        return self.activity.partition(".")[0]

    @property
    def is_being_undone(self) -> bool:
        return self.undo in BUSY_UNDOING
