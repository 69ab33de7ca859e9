"""What a command gets, given what the inbox knows of it: the rules P1, P2, P4, P5 and P6, and nothing else.

Pure: a row in, a decision out. Running handlers, writing rows and sending replies is the work of others.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple, assert_never

from sagabus.contracts.commands import CommandHead
from sagabus.contracts.names import CommandKind
from sagabus.contracts.replies import ID_REUSED, INBOX_EXPIRED, TOMBSTONE, ReplyKind
from sagabus.participants.handlers.outcome import HandlerOutcome, failure
from sagabus.participants.received import Key


class State(StrEnum):
    """Of an inbox row. completed and tombstone are final."""

    STARTED = "started"
    COMPLETED = "completed"
    REFUSED = "refused"
    FAILED = "failed"
    TOMBSTONE = "tombstone"


class InboxRow(NamedTuple):
    """An inbox row. A tombstone has no hash.

    attempt: of the outcome. While `started`, of the command as it was kept: one with a higher attempt that meets its
    handler at work is remembered by the job.
    """

    source: str
    id: str
    activity: str
    state: State
    attempt: int
    input_hash: bytes | None = None
    reply: bytes | None = None

    @property
    def key(self) -> Key:
        return self.source, self.id


@dataclass(frozen=True, slots=True)
class Answer:
    """Reply this, and leave the inbox as it is. reason: what it is counted by (`contracts.reasons`)."""

    outcome: HandlerOutcome
    attempt: int
    reason: str = "answered"


class Act(StrEnum):
    """What is to be done instead of an answer."""

    RUN = "run"
    """The handler runs, and its outcome becomes the row."""
    BURY = "bury"
    """The step has not happened and never will: the row becomes a tombstone, the settle hears `never`."""
    WAIT = "wait"
    """An external handler is at it: its end is the answer."""


Decision = Answer | Act

NEVER: Final = HandlerOutcome(ReplyKind.NEVER, b"null")

KINDS: Final = {
    State.COMPLETED: ReplyKind.COMPLETED,
    State.REFUSED: ReplyKind.REFUSED,
    State.FAILED: ReplyKind.FAILED,
    State.TOMBSTONE: ReplyKind.NEVER,
}
STATES: Final = {kind: state for state, kind in KINDS.items()}


def judge(head: CommandHead, digest: bytes, row: InboxRow | None, *, pruned_before: int | None) -> Decision:
    """digest: of the command's input. pruned_before: microseconds since 1970; what was issued earlier is forgotten."""
    if row is None:
        return _unknown(head, pruned_before)
    if head.kind is CommandKind.SETTLE:
        return _settle(head, row)
    if row.state is State.TOMBSTONE:
        return Answer(_LATE, head.attempt, "settled")
    if row.activity != head.activity or row.input_hash != digest:
        return Answer(_reused(head, row), head.attempt, "id_reused")
    return _repeated(head, row)


def _unknown(head: CommandHead, pruned_before: int | None) -> Decision:
    if pruned_before is not None and head.issued < pruned_before:
        return Answer(_EXPIRED, head.attempt, "inbox_expired")
    return Act.BURY if head.kind is CommandKind.SETTLE else Act.RUN


def _settle(head: CommandHead, row: InboxRow) -> Decision:
    match row.state:
        case State.COMPLETED | State.TOMBSTONE:
            return Answer(_stored(row), head.attempt)
        case State.STARTED:
            return Act.WAIT
        case State.REFUSED | State.FAILED:
            return Act.BURY
        case _:
            assert_never(row.state)


def _repeated(head: CommandHead, row: InboxRow) -> Decision:
    match row.state:
        case State.STARTED:
            return Act.WAIT
        case State.REFUSED | State.FAILED if head.attempt > row.attempt:
            return Act.RUN
        case _:
            return Answer(_stored(row), row.attempt)


def _stored(row: InboxRow) -> HandlerOutcome:
    return HandlerOutcome(KINDS[row.state], row.reply or b"null")


def _reused(head: CommandHead, row: InboxRow) -> HandlerOutcome:
    other = f"was {row.activity}" if row.activity != head.activity else "had another input"
    return failure(ReplyKind.FAILED, ID_REUSED, f"the command {head.id} {other} when it was carried out first")


_LATE: Final = failure(
    ReplyKind.REFUSED, TOMBSTONE,
    "this step was settled as one that never happens; this copy of its command came too late",
)  # fmt: skip
_EXPIRED: Final = failure(
    ReplyKind.FAILED, INBOX_EXPIRED,
    "this command is older than what the inbox remembers: whether it was carried out is not known any more",
)  # fmt: skip
