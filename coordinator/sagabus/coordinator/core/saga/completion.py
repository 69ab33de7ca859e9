"""A step of which an operator knows that it has completed, and with which output (U8).

It is taken as if its participant had said so: the output is read by the activity's model, the undo's input is computed.
What the participant says later, if it is something else, is a contradiction.
"""

from __future__ import annotations

from sagabus.contracts import codec
from sagabus.contracts.errors import MessageInvalid
from sagabus.coordinator.core.saga import forward, undo
from sagabus.coordinator.core.saga.history import Input, Kind, Row
from sagabus.coordinator.core.saga.program import Listener
from sagabus.coordinator.core.saga.state import SagaState
from sagabus.coordinator.core.saga.status import SagaStatus, Undoing
from sagabus.coordinator.core.saga.step import Step


def may_be_completed(state: SagaState, step: Step) -> bool:
    """It was sent, and its outcome is not known: it is open, is being settled, or waits in the plan to be settled."""
    if step.is_open:
        return not step.held
    return step.undoing is Undoing.SETTLING or (step.is_unsettled and state.status is SagaStatus.COMPENSATING)


def output_of(request: bytes | None) -> bytes:
    """The output in the body of a request, as a participant would send it. Raises MessageInvalid."""
    body = codec.decode_value(request)
    return codec.encode_value(body.get("output") if isinstance(body, dict) else None)


def fault(state: SagaState, step: Step, request: Input | Row) -> MessageInvalid | None:
    """Why its output does not fit; None if it does."""
    try:
        forward.read_output(state, step, output_of(request.payload))
    except MessageInvalid as error:
        return error
    return None


def carry_out(state: SagaState, program: Listener | None, step: Step, row: Row) -> None:
    """It is known that it may be completed. program: None once the saga is being undone."""
    settling = step.undoing is Undoing.SETTLING
    kind = Kind.SETTLE_COMPLETED if settling else Kind.STEP_COMPLETED
    said = Row(row.seq, row.at, kind, step.number, step.do.attempt, step.service, row.ref, output_of(row.payload))
    step.by_operator = True
    if settling:
        undo.settled(state, step, said)
    elif step.is_open and program is not None:
        forward.completed(state, program, step, said)
    else:
        forward.take_output(state, step, said)
