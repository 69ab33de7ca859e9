"""What an operator may do: try a step, settle or undo now, skip a settle or undo, acknowledge what has happened.

All are rows of history with the operator's words. A skipped undo is the operator's own to do; that is why nobody else
may skip one (U6), and why its late success is shown to a person. Who skips a settle answers for the step's outcome: it
counts as never having happened, and a later word that it has is shown to a person too.
"""

from __future__ import annotations

from typing import Final

from sagabus.contracts import codec
from sagabus.contracts.lifecycle import LifecycleType
from sagabus.contracts.names import CommandKind
from sagabus.coordinator.core.saga import forward, termination, undo
from sagabus.coordinator.core.saga.concern import ACKNOWLEDGEABLE, Concern, ConcernKind
from sagabus.coordinator.core.saga.effects import TimerKind
from sagabus.coordinator.core.saga.history import Input, Row
from sagabus.coordinator.core.saga.program import Blocked
from sagabus.coordinator.core.saga.state import SagaState
from sagabus.coordinator.core.saga.status import Outcome, Undoing
from sagabus.coordinator.core.saga.step import Step

RETRY: Final = "retry"
SKIP: Final = "skip"
ACKNOWLEDGE: Final = "acknowledge"
TERMINATE: Final = "terminate"
VERBS: Final = frozenset((RETRY, SKIP, ACKNOWLEDGE, TERMINATE))

_MAY_BE_SKIPPED: Final = frozenset((Undoing.SETTLING, Undoing.SENT, Undoing.PAUSED, Undoing.BLOCKED))


def is_of_use(state: SagaState, input: Input | Row) -> bool:
    """A retry wants a step, a settle or an undo between two attempts, or what its participant cannot answer; a skip a
    settle or an undo that is under way; an acknowledgement something that can be acknowledged.

    A verb that is not known here stands in the history of a later version: it is not for us to say.
    """
    if input.name not in VERBS or input.name == TERMINATE:
        return True
    if input.name == ACKNOWLEDGE:
        return isinstance(input, Row) or bool(acknowledgeable(state, input.step))
    step = state.steps.get(input.step)
    if step is None:
        return False
    if input.name == SKIP:
        return step.undoing in _MAY_BE_SKIPPED
    return step.undoing is Undoing.PAUSED or step.outcome is Outcome.PAUSED or _is_stuck(state, step)


def _is_stuck(state: SagaState, step: Step) -> bool:
    """Its participant cannot tell, or cannot be understood."""
    if step.undoing is Undoing.SETTLING:
        return step.exchange(CommandKind.SETTLE).resting or undo.settle_concern(step) in state.concerns
    if step.outcome is not Outcome.SENT or step.held:
        return False
    return step.do.resting or forward.step_concern(step) in state.concerns


def acknowledgeable(state: SagaState, step: int) -> list[Concern]:
    """Of this step; of the whole saga for 0."""
    return [one for one in state.concerns if one.kind in ACKNOWLEDGEABLE and step in (0, one.number)]


def acknowledge(state: SagaState, step: int) -> None:
    """An operator has looked at what has happened."""
    for concern in acknowledgeable(state, step):
        state.clear_concern(concern)


def carry_out(state: SagaState, row: Row) -> None:
    """It is known to be of use. Raises Blocked for a later version's."""
    if row.name not in VERBS:
        raise Blocked(f"the operator's verb {row.name} is not known to this version", "verb_unknown")
    if row.name == ACKNOWLEDGE:
        acknowledge(state, row.step)
        return
    if row.name == TERMINATE:
        termination.terminate(state, _reason_of(row))
        return
    step = state.steps[row.step]
    if row.name == SKIP:
        _skip(state, step)
    elif step.undoing in (Undoing.PAUSED, Undoing.SETTLING):
        state.clear_timer(TimerKind.UNDO_RETRY, step.number)
        undo.retried(state, step)
    else:
        state.clear_timer(TimerKind.RETRY, step.number)
        forward.retried(state, step)


def _reason_of(row: Row) -> str:
    body = codec.decode_value(row.payload)
    return str(body.get("reason", "")) if isinstance(body, dict) else ""


def _skip(state: SagaState, step: Step) -> None:
    for kind in (TimerKind.RESEND, TimerKind.UNDO_RETRY):
        state.clear_timer(kind, step.number)
    if step.undoing is Undoing.SETTLING:
        state.steps.becomes(step, Outcome.NEVER)
        state.log([f"step {step.number} ({step.activity}) counts as never having happened: its settle was skipped"])
    state.steps.undo_becomes(step, Undoing.SKIPPED)
    state.tell(LifecycleType.COMPENSATION_SKIPPED, step=step, name=undo.compensation_of(step))
    undo.over(state, step)


def skipped_too_late(state: SagaState, step: Step) -> None:
    """The undo was skipped, and has happened after all: whoever did it by hand must know."""
    words = f"{undo.words_for(step)} was skipped, and has been carried out after that"
    state.raise_concern(after_skip(step), words)


def happened_after_skip(state: SagaState, step: Step) -> None:
    """The settle was skipped, and the step has happened after all; told once."""
    step.contradicted = True
    words = (
        f"step {step.number} ({step.activity}) counts as never having happened, since its settle was skipped, and "
        f"{step.service} says now that it has completed: undo it by hand"
    )
    state.raise_concern(Concern(ConcernKind.HAPPENED_AFTER_SKIP, step.number), words)


def settle_was_skipped(step: Step) -> bool:
    return step.undoing is Undoing.SKIPPED and step.outcome is Outcome.NEVER


def after_skip(step: Step) -> Concern:
    return Concern(ConcernKind.UNDO_AFTER_SKIP, step.number)
