"""Ending an open saga without undo, and what is told of the steps that it leaves behind (U8).

An operator answers for them: they stand in the saga's error. Nothing more is sent. A reply that says that one of them
has happened is attention; all others are late.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from heapq import merge
from typing import Final

from pydantic import JsonValue

from sagabus.contracts import codec
from sagabus.contracts.lifecycle import LifecycleType
from sagabus.coordinator.core.saga.concern import ACKNOWLEDGEABLE, ConcernKind
from sagabus.coordinator.core.saga.history import Kind
from sagabus.coordinator.core.saga.state import SagaState, reason_json
from sagabus.coordinator.core.saga.status import Outcome, SagaStatus, Undoing
from sagabus.coordinator.core.saga.step import Step

MOST_LISTED: Final = 100
"""Steps, the first by number. Of the others the error says how many there are; history has them."""

HAPPENED: Final = frozenset((Kind.STEP_COMPLETED, Kind.SETTLE_COMPLETED))
"""Replies that say that a step has happened."""

_REMAIN: Final = ACKNOWLEDGEABLE | {ConcernKind.PARKED}
"""Kinds of concerns that do not go with what was under way."""


class Outstanding(StrEnum):
    """Why a step is left behind."""

    OPEN = "open"
    """Its command is not answered, or is between two attempts."""
    UNKNOWN = "unknown"
    """Nobody knows whether it happened."""
    UNDO = "undo"
    """It has completed, and is not undone."""


def terminate(state: SagaState, reason: str) -> None:
    """At once, whatever is under way. Its code is evicted by whoever called."""
    state.ending = SagaStatus.TERMINATED
    error = reason_json("sagabus.terminated", reason, **_left_behind(state))
    state.plan.clear()
    state.clear_timers()
    state.clear_concerns([one for one in state.concerns if one.kind not in _REMAIN])
    state.stands(paused=False, error=error)
    state.becomes(SagaStatus.TERMINATED)
    state.tell(LifecycleType.TERMINATED, error=state.error)


def _left_behind(state: SagaState) -> dict[str, JsonValue]:
    """The steps; how many more there are; and why the saga was being undone, if it was."""
    left = [*outstanding(state)]
    listed: list[JsonValue] = [
        {"step": number, "activity": state.steps[number].activity, "outstanding": why}
        for number, why in left[:MOST_LISTED]
    ]
    said: dict[str, JsonValue] = {"outstanding": listed}
    if len(left) > MOST_LISTED:
        said["more"] = len(left) - MOST_LISTED
    if state.error is not None:
        said["cause"] = codec.decode_value(state.error)
    return said


def outstanding(state: SagaState) -> Iterator[tuple[int, Outstanding]]:
    """The steps that are left behind, by number."""
    steps = state.steps
    unknown = steps.unsettled | {one for one in steps.being_undone if steps[one].outcome is Outcome.UNKNOWN}
    return merge(
        ((number, Outstanding.OPEN) for number in sorted(steps.open) if not steps[number].held),
        ((number, Outstanding.UNKNOWN) for number in sorted(unknown)),
        ((number, Outstanding.UNDO) for number in sorted(state.completions) if _is_not_undone(steps[number])),
    )


def _is_not_undone(step: Step) -> bool:
    return step.contract.compensation is not None and step.undoing not in (Undoing.DONE, Undoing.SKIPPED)


def is_unknown(step: Step) -> bool:
    """It was sent, and nobody knows whether it happened."""
    return step.is_open or step.outcome is Outcome.UNKNOWN
