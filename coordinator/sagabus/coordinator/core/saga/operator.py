"""What an operator may do: try a step, settle or undo now, skip a settle or undo, acknowledge what has happened, say
that a step has completed; pause, resume and terminate the saga.

All are rows of history with the operator's words. A skipped undo is the operator's own to do; that is why nobody else
may skip one (U6), and why its late success is shown to a person. Who skips a settle answers for the step's outcome: it
counts as never having happened, and a later answer that it has is shown to a person too. So does who completes a step.

`resume` is not carried out here: what waited runs the saga's code.
"""

from __future__ import annotations

from typing import Final

from sagabus.contracts import codec
from sagabus.contracts.errors import MessageInvalid
from sagabus.contracts.lifecycle import LifecycleType
from sagabus.contracts.names import CommandKind
from sagabus.contracts.requests import RequestType
from sagabus.coordinator.core.saga import completion, forward, pause, termination, undo
from sagabus.coordinator.core.saga.concern import Concern, ConcernKind, is_acknowledgeable
from sagabus.coordinator.core.saga.effects import TimerKind
from sagabus.coordinator.core.saga.history import Input, Row
from sagabus.coordinator.core.saga.program import Blocked, Listener
from sagabus.coordinator.core.saga.state import SagaState
from sagabus.coordinator.core.saga.status import Outcome, Undoing
from sagabus.coordinator.core.saga.step import Step

RETRY: Final = RequestType.RETRY.value
SKIP: Final = RequestType.SKIP.value
ACKNOWLEDGE: Final = RequestType.ACKNOWLEDGE.value
COMPLETE: Final = RequestType.COMPLETE.value
RESUME: Final = RequestType.RESUME.value
TERMINATE: Final = RequestType.TERMINATE.value

_OF_STEPS: Final = frozenset((RequestType.RETRY, RequestType.SKIP, RequestType.COMPLETE))

NO_USE: Final = "request.no_use"
PAUSED: Final = "saga.paused"
NOT_PAUSED: Final = "saga.not_paused"
OUTPUT_INVALID: Final = "output.invalid"

_MAY_BE_SKIPPED: Final = frozenset((Undoing.SETTLING, Undoing.SENT, Undoing.PAUSED, Undoing.BLOCKED))


def denial(state: SagaState, input: Input | Row) -> str | None:
    """Of a verb to an open saga, and of an acknowledgement: None if it is of use, else the reason code.

    A verb that is not known here stands in the history of a later version: it is not for us to say.
    """
    match input.name:
        case RequestType.PAUSE:
            return PAUSED if state.paused else None
        case RequestType.RESUME:
            return None if state.paused else NOT_PAUSED
        case RequestType.ACKNOWLEDGE:
            return None if isinstance(input, Row) or acknowledgeable(state, input.step) else NO_USE
        case name if name in _OF_STEPS:
            step = state.steps.get(input.step)
            return NO_USE if step is None else _of_step(state, step, input)
    return None


def _of_step(state: SagaState, step: Step, input: Input | Row) -> str | None:
    """A retry wants a step, a settle or an undo between two attempts, or what its participant cannot answer; a skip a
    settle or an undo that is under way; a completion a step of unknown outcome, and an output that its model reads."""
    if input.name == SKIP:
        return None if step.undoing in _MAY_BE_SKIPPED else NO_USE
    if input.name == COMPLETE:
        if not completion.may_be_completed(state, step):
            return NO_USE
        fits = state.journal.replaying or completion.fault(state, step, input) is None
        return None if fits else OUTPUT_INVALID
    if not (step.undoing is Undoing.PAUSED or step.outcome is Outcome.PAUSED or _is_stuck(state, step)):
        return NO_USE
    return PAUSED if state.paused and not step.is_being_undone else None


def _is_stuck(state: SagaState, step: Step) -> bool:
    """Its participant cannot tell, or cannot be understood."""
    if step.undoing is Undoing.SETTLING:
        return step.exchange(CommandKind.SETTLE).resting or undo.settle_concern(step) in state.concerns
    if step.outcome is not Outcome.SENT or step.held:
        return False
    return step.do.resting or forward.step_concern(step) in state.concerns


def acknowledgeable(state: SagaState, step: int) -> list[Concern]:
    """Of this step; of the whole saga for 0."""
    closed = state.is_closed
    return [one for one in state.concerns if step in (0, one.number) and is_acknowledgeable(one.kind, closed=closed)]


def acknowledge(state: SagaState, step: int) -> None:
    """An operator has looked at what has happened."""
    for concern in acknowledgeable(state, step):
        state.clear_concern(concern)


def carry_out(state: SagaState, program: Listener | None, row: Row) -> None:
    """It is known to be of use, and no `resume`. Raises Blocked for a later version's."""
    match row.name:
        case RequestType.ACKNOWLEDGE:
            acknowledge(state, row.step)
        case RequestType.PAUSE:
            pause.begin(state)
        case RequestType.TERMINATE:
            termination.terminate(state, reason_of(row))
        case RequestType.COMPLETE:
            completion.carry_out(state, program, state.steps[row.step], row)
        case RequestType.SKIP:
            _skip(state, state.steps[row.step])
        case RequestType.RETRY:
            _retry(state, state.steps[row.step])
        case _:
            raise Blocked(f"the operator's verb {row.name} is not known to this version", "verb_unknown")


def reason_of(row: Row) -> str:
    """Why the operator asked for it."""
    try:
        body = codec.decode_value(row.payload)
    except MessageInvalid:  # a row that was stored before requests were read so strictly
        return ""
    reason = body.get("reason") if isinstance(body, dict) else None
    return reason if isinstance(reason, str) else ""


def _retry(state: SagaState, step: Step) -> None:
    if step.undoing in (Undoing.PAUSED, Undoing.SETTLING):
        state.clear_timer(TimerKind.UNDO_RETRY, step.number)
        undo.retried(state, step)
    else:
        state.clear_timer(TimerKind.RETRY, step.number)
        forward.retried(state, step)


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
