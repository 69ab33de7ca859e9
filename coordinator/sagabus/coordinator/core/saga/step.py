"""One step of a saga: how its command fares, and how its undo does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from sagabus.contracts import Activity, RetryPolicy
from sagabus.contracts.replies import Failure
from sagabus.coordinator.core.saga.status import (
    BUSY_UNDOING,
    OPEN_OUTCOMES,
    OUTCOME,
    UNDOING,
    Outcome,
    Undoing,
    changed,
)


@dataclass(slots=True)
class Step:
    """number: from 1 in the order of calling, never reused. Times are microseconds since 1970.

    sent_at: when what is unanswered now, be it the step, its undo or its settle, was first sent; copies do not count.
    held: called, but not sent while an undo is under way at the same service (U4). kept: given up with abandon="keep",
    so neither settled nor undone. undo_input: computed and stored when the step completes, so that an undo never needs
    the saga's code; undo_fault says why it could not be.
    """

    number: int
    contract: Activity[..., Any, Any]
    input: BaseModel
    body: bytes
    retry: RetryPolicy
    timeout: int | None
    resend_after: int
    abandon: str
    issued: int = 0
    sent_at: int = 0
    attempt: int = 1
    failures: int = 0
    held: bool = False
    last: Failure | None = None
    outcome: Outcome = Outcome.SENT
    undoing: Undoing = Undoing.NONE
    undo_input: bytes | None = None
    undo_fault: str | None = None
    undo_issued: int = 0
    undo_attempt: int = 1
    undo_failures: int = 0
    settle_issued: int = 0

    def becomes(self, outcome: Outcome) -> None:
        self.outcome = changed(OUTCOME, self.outcome, outcome)

    def undo_becomes(self, undoing: Undoing) -> None:
        self.undoing = changed(UNDOING, self.undoing, undoing)

    @property
    def is_open(self) -> bool:
        return self.outcome in OPEN_OUTCOMES

    @property
    def is_being_undone(self) -> bool:
        return self.undoing in BUSY_UNDOING

    @property
    def is_unsettled(self) -> bool:
        """Its outcome is unknown, and nobody has asked yet."""
        return self.outcome is Outcome.UNKNOWN and self.undoing is Undoing.NONE and self.abandon != "keep"

    @property
    def holds_its_service(self) -> bool:
        """Until its undo is settled, nothing new of this saga goes to its service (U4)."""
        return self.is_being_undone or self.is_unsettled

    @property
    def service(self) -> str:
        return self.contract.service.name

    @property
    def activity(self) -> str:
        return self.contract.name
