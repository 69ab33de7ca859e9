"""The inboxes of all participants of one saga, as rule P1 wants them: a command is carried out once.

Completed and settled are final; a failure is kept with its attempt, and a later attempt is carried out anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sagabus.contracts.names import CommandId, CommandKind
from sagabus.contracts.replies import TOMBSTONE, ReplyKind
from sagabus.coordinator.core.saga.history import Kind
from sagabus.testing.asked import Asked
from sagabus.testing.replies import Outcome, failed
from sagabus.testing.saga_in_memory import Sent

_KINDS: Final = {
    CommandKind.DO: {
        ReplyKind.COMPLETED: Kind.STEP_COMPLETED,
        ReplyKind.REFUSED: Kind.STEP_REFUSED,
        ReplyKind.FAILED: Kind.STEP_FAILED,
    },
    CommandKind.UNDO: {
        ReplyKind.COMPLETED: Kind.UNDO_COMPLETED,
        ReplyKind.REFUSED: Kind.UNDO_REFUSED,
        ReplyKind.FAILED: Kind.UNDO_FAILED,
    },
    CommandKind.SETTLE: {ReplyKind.COMPLETED: Kind.SETTLE_COMPLETED, ReplyKind.NEVER: Kind.SETTLE_NEVER},
}


@dataclass(frozen=True, slots=True)
class Entry:
    outcome: Outcome
    attempt: int

    @property
    def is_final(self) -> bool:
        return self.outcome.kind in (ReplyKind.COMPLETED, ReplyKind.NEVER)


class Inbox:
    """done, undone: what really happened, in order."""

    def __init__(self) -> None:
        self.done: list[Asked] = []
        self.undone: list[Asked] = []
        self.steps_done: list[int] = []
        self.steps_undone: list[int] = []
        self._entries: dict[CommandId, Entry] = {}

    def is_new(self, sent: Sent) -> bool:
        """Whether this copy is to be carried out."""
        if sent.asked is None:
            return False
        kept = self._entries.get(sent.head.id)
        return kept is None or not (kept.is_final or sent.head.attempt <= kept.attempt)

    def keep(self, sent: Sent, outcome: Outcome) -> None:
        """What came of it."""
        assert sent.asked is not None
        self._entries[sent.head.id] = Entry(outcome, sent.head.attempt)
        if outcome.kind is ReplyKind.COMPLETED:
            undo = sent.head.kind is CommandKind.UNDO
            (self.undone if undo else self.done).append(sent.asked)
            (self.steps_undone if undo else self.steps_done).append(sent.head.step)

    def stored(self, sent: Sent) -> tuple[Kind, Entry]:
        """The reply to this copy, from what is kept; a settle is decided here (P4)."""
        if sent.asked is None:
            return self._settle(sent)
        kept = self._entries[sent.head.id]
        kind = ReplyKind.REFUSED if kept.outcome.kind is ReplyKind.NEVER else kept.outcome.kind
        return _KINDS[sent.head.kind][kind], kept

    def _settle(self, sent: Sent) -> tuple[Kind, Entry]:
        step = sent.head.inbox_id
        kept = self._entries.get(step)
        if kept is not None and kept.outcome.kind is ReplyKind.COMPLETED:
            return Kind.SETTLE_COMPLETED, kept
        tomb = failed(TOMBSTONE, "settled", {})
        self._entries[step] = Entry(Outcome(ReplyKind.NEVER, tomb.body), sent.head.attempt)
        return Kind.SETTLE_NEVER, Entry(Outcome(ReplyKind.NEVER, b"null"), sent.head.attempt)
