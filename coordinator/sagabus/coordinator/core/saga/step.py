"""One step of a saga: what was asked of its participant, and how far it and its undo are."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import BaseModel

from sagabus.contracts import Activity, RetryPolicy
from sagabus.contracts.names import CommandKind
from sagabus.coordinator.core.saga.status import BUSY_UNDOING, Outcome, Undoing

KEEP: Final = "keep"
"""A step that is given up is left as it is: neither settled nor undone."""


HELD: Final = "held"
"""In the row of a command: it was not sent, since an undo was under way at its service (U4)."""
FREE: Final = "free"
"""In the row of a command: it was sent at once, although an undo was under way at its service (U4)."""
TOLD: Final = "told"
"""In the row of a settle: which commands were held stands with each of them. Older releases did not write it."""


@dataclass(slots=True)
class Exchange:
    """One command and its answers: the step's own, its undo's or its settle's. Times are microseconds since 1970."""

    issued: int = 0
    """When it was first sent; 0 before that."""
    sent_at: int = 0
    """When what is unanswered now was first sent; copies do not count."""
    attempt: int = 1
    """Of the command that was sent last; a retry raises it, a copy does not (P2)."""
    failures: int = 0
    """Attempts that failed and count against the retry policy."""
    resting: bool = False
    """Its last answer was a failure, and nothing more is sent until it is tried again: a settle between two
    attempts, or what its participant cannot tell."""


@dataclass(slots=True)
class Step:
    """One call of an activity. What is of interest beyond the step itself changes by way of `Steps`."""

    number: int
    """From 1 in the order of calling, never reused."""
    contract: Activity[..., Any, Any]
    service: str
    activity: str
    """Its whole name."""
    input: BaseModel
    body: bytes
    """The input as it is sent. A copy with other bytes would be another command (P6)."""
    retry: RetryPolicy
    timeout: int | None
    """Microseconds from the first send."""
    resend_after: int
    """Microseconds until what is unanswered is sent again."""
    abandon: str
    """What becomes of it when it is given up: "undo", or `KEEP`."""
    waits: bool = True
    """Whether it is held while an undo is under way at its service (U4)."""
    do: Exchange = field(default_factory=Exchange)
    undo: Exchange | None = None
    """None: no undo was ever asked for."""
    settle: Exchange | None = None
    """None: it was never asked whether it happened."""
    held: bool = False
    """Called, but not sent while an undo is under way at the same service (U4)."""
    outcome: Outcome = Outcome.SENT
    undoing: Undoing = Undoing.NONE
    output: bytes | int | None = None
    """What is kept of it (`bodies.remembered`): to tell a copy of it from another one."""
    contradicted: bool = False
    """Its participant has said another thing since, and that has been told (P2)."""
    by_operator: bool = False
    """An operator has said that it has completed, and with which output (U8)."""
    undo_input: bytes | None = None
    """Computed and stored when the step completes, so that an undo never needs the saga's code (U1)."""
    undo_fault: str | None = field(default=None, compare=False)
    """Why it could not be."""

    @property
    def is_open(self) -> bool:
        """The saga waits for its answer."""
        return self.outcome is Outcome.SENT or self.outcome is Outcome.PAUSED

    @property
    def is_being_undone(self) -> bool:
        return self.undoing in BUSY_UNDOING

    @property
    def is_unsettled(self) -> bool:
        """Its outcome is unknown, and nobody has asked yet."""
        return self.outcome is Outcome.UNKNOWN and self.undoing is Undoing.NONE and self.abandon != KEEP

    @property
    def holds_its_service(self) -> bool:
        """Until its undo is settled, nothing new of this saga goes to its service (U4)."""
        return self.is_unsettled or self.is_being_undone

    @property
    def unanswered(self) -> CommandKind | None:
        """What was sent last, if nobody has answered it."""
        if self.undoing is Undoing.SETTLING:
            return None if self.exchange(CommandKind.SETTLE).resting else CommandKind.SETTLE
        if self.undoing is Undoing.SENT:
            return CommandKind.UNDO
        return CommandKind.DO if self.outcome is Outcome.SENT and not self.held and not self.do.resting else None

    def exchange(self, kind: CommandKind) -> Exchange:
        """That of the command of this kind, which must have begun."""
        found = self.do if kind is CommandKind.DO else self.undo if kind is CommandKind.UNDO else self.settle
        assert found is not None, f"step {self.number}: no {kind} was begun"
        return found
