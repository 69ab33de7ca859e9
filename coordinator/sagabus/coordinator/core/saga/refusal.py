"""Why a verb changes nothing, in words for whoever asked. The code says it to programs."""

from __future__ import annotations

from typing import Final

from sagabus.coordinator.core.saga.admission import CANCEL_REJECTED, CLOSED
from sagabus.coordinator.core.saga.history import Input, Row
from sagabus.coordinator.core.saga.operator import ACKNOWLEDGE, RETRY, SKIP
from sagabus.coordinator.core.saga.state import SagaState
from sagabus.coordinator.core.saga.status import SagaStatus

_WANTED: Final = {
    RETRY: "a retry is for a step, a settle or an undo that is between two attempts, or cannot be answered",
    SKIP: "a skip is for a settle or an undo that is under way",
}


def words(state: SagaState, asked: Input | Row, code: str) -> str:
    """For people. code: of `admission`."""
    if code == CLOSED:
        return f"the saga has ended: it is {state.status}"
    if code == CANCEL_REJECTED:
        return _not_cancelled(state)
    if asked.name == ACKNOWLEDGE:
        of = f"step {asked.step}" if asked.step else "the saga"
        return f"{of} is not flagged for anything that has happened once; all else goes when its cause is cured"
    return f"{_step(state, asked.step)}; {_WANTED.get(asked.name, 'look at the saga')}"


def _not_cancelled(state: SagaState) -> str:
    if state.is_closed:
        return f"the saga has ended: it is {state.status}"
    if state.status is SagaStatus.COMPENSATING:
        return "the saga is being undone already"
    if state.ending is SagaStatus.CANCELLED:
        return "the saga is being cancelled already"
    return f"the saga's end is decided already: it will be {state.ending}"


def _step(state: SagaState, number: int) -> str:
    step = state.steps.get(number)
    if step is None:
        return f"there is no step {number}"
    undo = "" if step.undoing == "none" else f", its undo is {step.undoing}"
    return f"step {number} ({step.activity}) is {step.outcome}{undo}"
