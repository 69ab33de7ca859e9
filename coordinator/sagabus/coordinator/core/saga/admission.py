"""Why an input changes nothing: it came twice, too late, or from an attempt that no longer counts.

An objection is counted by its word and leaves no row. What history cannot explain is no objection: it is taken, and
puts the saga on attention, because it proves that history was lost (U9).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sagabus.coordinator.core.saga import operator
from sagabus.coordinator.core.saga.effects import TimerKey, TimerKind
from sagabus.coordinator.core.saga.history import Input, Kind, Row
from sagabus.coordinator.core.saga.state import SagaState
from sagabus.coordinator.core.saga.status import Outcome, SagaStatus, Undoing
from sagabus.coordinator.core.saga.step import Step

DUPLICATE: Final = "duplicate"
LATE: Final = "late"
OLD_ATTEMPT: Final = "old_attempt"
STALE: Final = "stale"
CLOSED: Final = "saga.closed"
CANCEL_REJECTED: Final = "cancel.rejected"
FOREIGN: Final = "reply.foreign"
NO_USE: Final = "request.no_use"
BLOCKED: Final = "saga.blocked"
"""A timer of a blocked saga: it fires when the saga goes on, if it is still pending then (H3)."""

STEP_REPLIES: Final = frozenset((Kind.STEP_COMPLETED, Kind.STEP_REFUSED, Kind.STEP_FAILED))
UNDO_REPLIES: Final = frozenset((Kind.UNDO_COMPLETED, Kind.UNDO_REFUSED, Kind.UNDO_FAILED))
SETTLE_REPLIES: Final = frozenset((Kind.SETTLE_COMPLETED, Kind.SETTLE_NEVER, Kind.SETTLE_FAILED))
REPLIES: Final = STEP_REPLIES | UNDO_REPLIES | SETTLE_REPLIES

_ASKED: Final[dict[Kind, tuple[Kind, str]]] = {
    **dict.fromkeys(STEP_REPLIES, (Kind.COMMAND, TimerKind.RETRY.value)),
    **dict.fromkeys(UNDO_REPLIES, (Kind.UNDO, TimerKind.UNDO_RETRY.value)),
    **dict.fromkeys(SETTLE_REPLIES, (Kind.SETTLE, "")),
}
"""Of a reply: the row of what it answers, and the timer that leads to its next attempt."""


def objection(state: SagaState, input: Input | Row) -> str | None:
    """A word, or None when the input counts."""
    kind = input.kind
    if kind in REPLIES:
        return None if answers_nothing(state, input) else _to_reply(state, state.steps[input.step], input)
    if kind is Kind.TIMER:
        return None if TimerKey(TimerKind(input.name), input.step) in state.timers else STALE
    if kind is Kind.EVENT:
        if input.ref in state.seen_events:
            return DUPLICATE
        return CLOSED if state.is_closed else None
    if kind is Kind.CANCEL:
        return _to_cancel(state)
    if kind is Kind.OPERATOR:
        return _to_verb(state, input)
    return None


def objection_of_rows(rows: Sequence[Row], input: Input, *, closed: bool) -> str | None:
    """The same for a saga whose code cannot follow its history: what the rows alone can tell.

    An open one takes in whatever is not there already, and decides when its code is back. A closed one has nothing to
    decide any more: only what its rows do not explain is news (P2, U9).
    """
    if input.kind in (Kind.EVENT, Kind.OPERATOR):
        if any((row.kind, row.ref) == (input.kind, input.ref) for row in rows):
            return DUPLICATE
        return CLOSED if closed else None
    if input.kind is Kind.CANCEL and closed:
        return CANCEL_REJECTED
    if input.kind not in REPLIES:
        return None
    same = input.kind, input.attempt, input.name, input.payload
    of_step = [row for row in rows if row.step == input.step]
    if any((row.kind, row.attempt, row.name, row.payload) == same for row in of_step):
        return DUPLICATE
    return _of_closed(of_step, input) if closed else None


def _of_closed(rows: Sequence[Row], input: Input) -> str | None:
    """rows: those of the step."""
    kinds = {row.kind for row in rows}
    asked, retry = _ASKED[input.kind]
    command = next((row for row in rows if row.kind is Kind.COMMAND), None)
    if command is None or asked not in kinds or (retry and input.attempt > _attempts(rows, asked, retry)):
        return None
    if input.name and input.name != command.name.partition(".")[0]:
        return FOREIGN
    if input.kind is Kind.STEP_COMPLETED and not kinds & {Kind.STEP_COMPLETED, Kind.SETTLE}:
        return None
    if input.kind is Kind.UNDO_COMPLETED and input.kind not in kinds:
        return None  # it was skipped, and is done after all
    return DUPLICATE if input.kind in kinds else LATE


def _attempts(rows: Sequence[Row], asked: Kind, retry: str) -> int:
    """Of the step, or of its undo: what was tried again after the undo began was the undo."""
    begun = next((place for place, row in enumerate(rows) if row.kind is Kind.UNDO), len(rows))
    tries = ((Kind.TIMER, retry), (Kind.OPERATOR, operator.RETRY))
    return 1 + sum((row.kind, row.name) in tries for row in (rows[begun:] if asked is Kind.UNDO else rows[:begun]))


def answers_nothing(state: SagaState, input: Input | Row) -> bool:
    """A reply to what this history never sent: another step, a later attempt, an undo or a settle that is not known."""
    step = state.steps.get(input.step)
    if step is None or step.issued == 0:
        return True
    if input.kind in STEP_REPLIES:
        return input.attempt > step.attempt
    if input.kind in UNDO_REPLIES:
        return step.undo_issued == 0 or input.attempt > step.undo_attempt
    return step.settle_issued == 0


def _to_reply(state: SagaState, step: Step, input: Input | Row) -> str | None:
    if input.name and input.name != step.service:
        return FOREIGN  # only a step's own service may answer for it
    if input.kind in STEP_REPLIES:
        return _to_step_reply(step, input)
    if input.kind in UNDO_REPLIES:
        return _to_undo_reply(state, step, input)
    return None if step.undoing is Undoing.SETTLING else DUPLICATE


def _to_step_reply(step: Step, input: Input | Row) -> str | None:
    """`completed` counts from any attempt, a failure only from the current one (P2)."""
    if input.kind is Kind.STEP_COMPLETED:
        if step.outcome is Outcome.FAILED or step.is_open:
            return None
        return LATE if step.outcome is Outcome.UNKNOWN else DUPLICATE
    if step.outcome is not Outcome.SENT:
        return DUPLICATE if step.outcome is Outcome.PAUSED else LATE
    return None if input.attempt == step.attempt else OLD_ATTEMPT


def _to_undo_reply(state: SagaState, step: Step, input: Input | Row) -> str | None:
    if step.undoing is Undoing.SKIPPED and input.kind is Kind.UNDO_COMPLETED:
        return DUPLICATE if operator.after_skip(step) in state.concerns else None
    if step.undoing in (Undoing.DONE, Undoing.SKIPPED):
        return DUPLICATE
    if input.kind is Kind.UNDO_COMPLETED:
        return None
    if step.undoing is not Undoing.SENT:
        return DUPLICATE
    return None if input.attempt == step.undo_attempt else OLD_ATTEMPT


def _to_verb(state: SagaState, input: Input | Row) -> str | None:
    if state.is_closed:
        return CLOSED
    return None if operator.is_of_use(state, input) else NO_USE


def _to_cancel(state: SagaState) -> str | None:
    """The first of (cancel, end) in the shard's order wins (U7)."""
    if state.status is SagaStatus.RUNNING and state.ending is None:
        return None
    same = state.status is SagaStatus.RUNNING and state.ending is SagaStatus.CANCELLED
    return DUPLICATE if same else CANCEL_REJECTED
