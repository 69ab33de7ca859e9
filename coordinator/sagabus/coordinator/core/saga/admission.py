"""Why an input changes nothing: it came twice, too late, or from an attempt that no longer counts.

What is denied is counted by its reason code and leaves no row. What history cannot explain is admitted, and puts the
saga on attention, because it proves that history was lost (U9).

An `Input` is new. A `Row` was taken in before, and is replayed, or decided upon late: it is not denied for what denies
a copy alone.
"""

from __future__ import annotations

from typing import Final

from sagabus.contracts.names import CommandKind
from sagabus.coordinator.core.saga import operator, pause, request_answers, termination
from sagabus.coordinator.core.saga.bodies import is_legible, is_same
from sagabus.coordinator.core.saga.effects import TimerKind, timer_key
from sagabus.coordinator.core.saga.history import Input, Kind, Row
from sagabus.coordinator.core.saga.state import SagaState
from sagabus.coordinator.core.saga.status import CLOSED as STATUS_CLOSED
from sagabus.coordinator.core.saga.status import Outcome, SagaStatus, Undoing
from sagabus.coordinator.core.saga.step import Step

DUPLICATE: Final = "duplicate"
LATE: Final = "late"
OLD_ATTEMPT: Final = "old_attempt"
STALE: Final = "stale"
CLOSED: Final = "saga.closed"
CANCEL_REJECTED: Final = "cancel.rejected"
FOREIGN: Final = "reply.foreign"
UNREADABLE: Final = "reply.unreadable"
NO_USE: Final = operator.NO_USE
PAUSED: Final = operator.PAUSED
BLOCKED: Final = "saga.blocked"
"""A timer of a blocked saga: it fires when the saga goes on, if it is still pending then (H3)."""

STEP_REPLIES: Final = frozenset((Kind.STEP_COMPLETED, Kind.STEP_REFUSED, Kind.STEP_FAILED))
_STEP_COMPLETED, _TIMER, _EVENT, _CANCEL, _OPERATOR = (
    Kind.STEP_COMPLETED, Kind.TIMER, Kind.EVENT, Kind.CANCEL, Kind.OPERATOR,
)  # fmt: skip
_SENT: Final = Outcome.SENT
"""Members that each input is compared with, looked up once: it takes Python 3.11 longer than the comparison."""

UNDO_REPLIES: Final = frozenset((Kind.UNDO_COMPLETED, Kind.UNDO_REFUSED, Kind.UNDO_FAILED))
SETTLE_REPLIES: Final = frozenset((Kind.SETTLE_COMPLETED, Kind.SETTLE_NEVER, Kind.SETTLE_FAILED))
REPLIES: Final = STEP_REPLIES | UNDO_REPLIES | SETTLE_REPLIES

FOR_GOOD: Final = termination.HAPPENED | {Kind.STEP_REFUSED, Kind.SETTLE_NEVER}
"""Replies that say once and for all whether a step has happened."""


def denial(state: SagaState, input: Input | Row) -> str | None:
    """None if the input counts, else the reason code: it came twice, too late, or from an attempt of no account."""
    kind = input.kind
    if state.waiting and not isinstance(input, Row) and pause.same(input) in state.waiting:
        return DUPLICATE
    if kind in REPLIES:
        step = state.steps.get(input.step)
        if step is not None and is_first_completion(state, step, input):
            return None if input.name == step.service or not input.name else FOREIGN
        return None if step is None or answers_nothing(state, input) else _to_reply(state, step, input)
    if kind is _TIMER:
        return _to_timer(state, input)
    if kind is _EVENT:
        if input.ref in state.seen_events:
            return DUPLICATE
        return CLOSED if state.is_closed else None
    if kind is _CANCEL or kind is _OPERATOR:
        if request_answers.is_answered(state, input):
            return DUPLICATE
        return _to_cancel(state) if kind is _CANCEL else _to_verb(state, input)
    return None


def _to_timer(state: SagaState, input: Input | Row) -> str | None:
    """PAUSED: it fires when the saga is resumed, if it is still pending then. A row has fired."""
    kind = TimerKind(input.name)
    if timer_key(kind, input.step) not in state.timers:
        return STALE
    stands_still = state.paused and not pause.fires(kind, state.steps.get(input.step))
    return PAUSED if stands_still and not isinstance(input, Row) else None


def is_first_completion(state: SagaState, step: Step, input: Input | Row) -> bool:
    """What most inputs are: the step's first answer, that it has completed, while the saga waits for it."""
    return (
        input.kind is _STEP_COMPLETED
        and step.outcome is _SENT
        and 0 < input.attempt <= step.do.attempt
        and step.do.issued > 0
        and state.standing.status not in STATUS_CLOSED
        and not step.by_operator
    )


def answers_nothing(state: SagaState, input: Input | Row) -> bool:
    """A reply to what this history never sent: another step, a later attempt, an undo or a settle that is not known."""
    step = state.steps.get(input.step)
    if step is None or step.do.issued == 0:
        return True
    if input.kind in STEP_REPLIES:
        return input.attempt > step.do.attempt
    if input.kind in UNDO_REPLIES:
        return step.undo is None or input.attempt > step.undo.attempt
    return step.settle is None


def _to_reply(state: SagaState, step: Step, input: Input | Row) -> str | None:
    if input.name and input.name != step.service:
        return FOREIGN  # only a step's own service may answer for it
    if state.status is SagaStatus.TERMINATED and _is_left_behind(step, input):
        return None if termination.is_unknown(step) and input.kind in termination.HAPPENED else LATE
    if step.by_operator and input.kind in FOR_GOOD:
        return None if _contradicts(step, input) else DUPLICATE
    if input.kind in STEP_REPLIES:
        return _to_step_reply(step, input)
    if input.kind in UNDO_REPLIES:
        return _to_undo_reply(state, step, input)
    return _to_settle_reply(step, input)


def _is_left_behind(step: Step, input: Input | Row) -> bool:
    """Whether it answers what a termination has left behind. What was settled before is judged as ever."""
    return termination.is_unknown(step) or (step.is_being_undone and input.kind not in STEP_REPLIES)


def _to_settle_reply(step: Step, input: Input | Row) -> str | None:
    """A failure counts once for each time of asking; older releases wrote a row of each copy."""
    if step.undoing is Undoing.SETTLING:
        copy = input.kind is Kind.SETTLE_FAILED and step.exchange(CommandKind.SETTLE).resting
        return DUPLICATE if copy and not isinstance(input, Row) else None
    after_skip = operator.settle_was_skipped(step) and input.kind is Kind.SETTLE_COMPLETED
    return None if after_skip and not step.contradicted else DUPLICATE


def _to_step_reply(step: Step, input: Input | Row) -> str | None:
    """`completed` counts from any attempt, a failure only from the current one (P2)."""
    if input.kind is Kind.STEP_COMPLETED:
        if step.outcome is Outcome.FAILED or step.is_open:
            return None
        if step.outcome is Outcome.UNKNOWN:
            return LATE
        if not _contradicts(step, input):
            return DUPLICATE
        says_nothing = step.outcome is Outcome.COMPLETED and not is_legible(input.payload)
        return UNREADABLE if says_nothing and isinstance(input, Input) else None
    if step.outcome is not Outcome.SENT:
        return DUPLICATE if step.outcome is Outcome.PAUSED else LATE
    if step.do.resting and input.kind is Kind.STEP_FAILED and not isinstance(input, Row):
        return DUPLICATE  # its participant cannot tell, and a person has been told so
    return None if input.attempt == step.do.attempt else OLD_ATTEMPT


def _contradicts(step: Step, input: Input | Row) -> bool:
    """It was settled that the step never happens, or has happened with another output; told once."""
    if step.contradicted:
        return False
    if step.outcome is Outcome.NEVER or input.kind in (Kind.STEP_REFUSED, Kind.SETTLE_NEVER):
        return True
    return step.output is not None and not is_same(step.output, input.payload)


def _to_undo_reply(state: SagaState, step: Step, input: Input | Row) -> str | None:
    if step.undoing is Undoing.SKIPPED and input.kind is Kind.UNDO_COMPLETED:
        return DUPLICATE if operator.after_skip(step) in state.concerns else None
    if step.undoing in (Undoing.DONE, Undoing.SKIPPED):
        return DUPLICATE
    if input.kind is Kind.UNDO_COMPLETED:
        return None
    if step.undoing is not Undoing.SENT:
        return DUPLICATE
    return None if input.attempt == step.exchange(CommandKind.UNDO).attempt else OLD_ATTEMPT


def _to_verb(state: SagaState, input: Input | Row) -> str | None:
    if state.is_closed and input.name != operator.ACKNOWLEDGE:
        return CLOSED
    return operator.denial(state, input)


def _to_cancel(state: SagaState) -> str | None:
    """The first of (cancel, end) in the shard's order wins (U7). Nothing is undone after a pivot (U14)."""
    may_be = state.status is SagaStatus.RUNNING and state.ending is None and state.pivot is None
    return None if may_be else CANCEL_REJECTED
