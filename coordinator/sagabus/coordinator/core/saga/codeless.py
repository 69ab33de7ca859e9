"""Ending a blocked saga without its code: an operator's cancel or termination (U8).

    blocked -> the operator's request is kept -> a row `codeless` -> its rows are read back (`from_rows`)
        -> what was kept undecided, the request among it -> what is under way is taken up

From the row `codeless` on the saga is decided like any other, by `undo` and by its inputs, and nobody hears the answers
to its steps. That row decides, not what is deployed: a replay reads back what was decided before it, and takes again
what was decided after it. Of contracts only names are known (`stand_in`); pauses and copies are those of services that
say nothing else.

The saga's own `finally` does not run. That is said in the row and in the saga's error.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from pydantic import BaseModel
from pydantic_core import from_json

from sagabus.contracts import Activity, codec
from sagabus.contracts.errors import ActivityError
from sagabus.coordinator.core.saga import forward, undo
from sagabus.coordinator.core.saga.concern import STOPS, Concern, ConcernKind
from sagabus.coordinator.core.saga.effects import TimerKey, TimerKind
from sagabus.coordinator.core.saga.history import Kind, Row
from sagabus.coordinator.core.saga.state import SagaState, reason_json
from sagabus.coordinator.core.saga.status import SagaStatus, Undoing
from sagabus.coordinator.core.saga.step import Step
from sagabus.coordinator.core.saga.stopped import Stop

_OF_ITS_CODE: Final = (*STOPS, ConcernKind.STUCK, ConcernKind.EVENTS)
_NO_FINALLY: Final = "its own `finally` did not run"


class Nobody:
    """Hears the answers to steps where there is no code to hear them."""

    def complete(self, number: int, output: BaseModel | None) -> None:
        """Nobody waits for it."""

    def fail(self, number: int, error: ActivityError) -> None:
        """Nobody waits for it."""


NOBODY: Final = Nobody()


def no_contracts(activity: str) -> Sequence[Activity[..., Any, Any]]:
    return ()


def said(state: SagaState, stop: Stop, concerns: bytes) -> bytes:
    """What the row `codeless` holds: why, in words; and the concerns as they stand, which no other row tells."""
    ran = _NO_FINALLY if state.status is SagaStatus.RUNNING else "its code had ended before"
    words = f"it goes on from its history and without its code, which could not go on ({stop.kind}): {ran}"
    return codec.encode_value({"message": words, "concerns": from_json(concerns)})


def concerns_of(row: Row) -> bytes:
    """Those that a row `codeless` holds, as they are stored with a saga."""
    return codec.encode_value(from_json(row.payload or b"{}").get("concerns", []))


def prepare(state: SagaState) -> None:
    """Its code is gone, and with it what waits for its code. What was kept undecided comes next."""
    for kind in _OF_ITS_CODE:
        state.clear_concern(Concern(kind))
    state.drop_timers()
    for number in sorted(state.steps.open):
        if state.steps[number].held:  # never sent, and never will be
            forward.give_up(state, state.steps[number])


def go_on(state: SagaState) -> None:
    """The row `codeless` is decided upon: what participants have been asked before is asked again, and followed up."""
    if state.is_closed:
        return
    for number in sorted(state.steps.being_undone):
        step = state.steps[number]
        if step.unanswered is not None and TimerKey(TimerKind.RESEND, number) not in state.timers:
            undo.resend(state, step)
        elif _is_between_attempts(step) and TimerKey(TimerKind.UNDO_RETRY, number) not in state.timers:
            undo.retried(state, step)
    undo.advance_rollbacks(state)
    if state.status is SagaStatus.COMPENSATING:
        undo.advance(state)


def _is_between_attempts(step: Step) -> bool:
    return step.undoing is Undoing.PAUSED or (step.undoing is Undoing.SETTLING and step.unanswered is None)


def cancel(state: SagaState, reason: str) -> None:
    """Give up what is open, undo what has completed (U5)."""
    error = reason_json("sagabus.cancelled", f"{reason}; it was ended without its code: {_NO_FINALLY}", codeless=True)
    state.decide(Kind.ENDED, name=SagaStatus.CANCELLED.value, payload=error)
    state.stands(error=error)
    undo.begin(state, SagaStatus.CANCELLED)
