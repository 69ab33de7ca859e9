"""Ending an open saga without undo. An operator answers for the steps that it leaves behind (U8)."""

from __future__ import annotations

from pydantic import JsonValue

from sagabus.contracts.lifecycle import LifecycleType
from sagabus.coordinator.core.saga.concern import ACKNOWLEDGEABLE, ConcernKind
from sagabus.coordinator.core.saga.state import SagaState, reason_json
from sagabus.coordinator.core.saga.status import Outcome, SagaStatus, Undoing

_REMAIN = ACKNOWLEDGEABLE | {ConcernKind.PARKED}


def terminate(state: SagaState, reason: str) -> None:
    """At once, whatever is under way. Its code is evicted by whoever called."""
    state.ending = SagaStatus.TERMINATED
    left: list[JsonValue] = [
        {"step": number, "activity": step.activity}
        for number, step in state.steps.items()
        if step.is_open
        or step.outcome is Outcome.UNKNOWN
        or (number in state.completions and not _is_undone(step.undoing))
    ]
    state.plan.clear()
    state.clear_timers()
    for concern in [one for one in state.concerns if one.kind not in _REMAIN]:
        state.clear_concern(concern)
    state.stands(error=reason_json("sagabus.terminated", reason, outstanding=left))
    state.becomes(SagaStatus.TERMINATED)
    state.tell(LifecycleType.TERMINATED, error=state.error)


def _is_undone(undoing: Undoing) -> bool:
    return undoing in (Undoing.DONE, Undoing.SKIPPED)
