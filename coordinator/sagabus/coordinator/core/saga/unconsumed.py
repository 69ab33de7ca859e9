"""Events that nobody waits for: kept, and for a person to see where they become too many (H5)."""

from __future__ import annotations

from typing import Final

from sagabus.coordinator.core.saga.concern import Concern, ConcernKind
from sagabus.coordinator.core.saga.program import Program
from sagabus.coordinator.core.saga.state import SagaState

MAX_EVENTS: Final = 1_000
MAX_EVENT_BYTES: Final = 1024 * 1024
"""Unconsumed events of an open saga; beyond that somebody should look."""

_EVENTS: Final = Concern(ConcernKind.EVENTS)


def note_event(state: SagaState, program: Program) -> None:
    """One more was delivered."""
    count, size = program.unconsumed()
    if count > MAX_EVENTS or size > MAX_EVENT_BYTES:
        many = f"more than {MAX_EVENTS} events, or {MAX_EVENT_BYTES} bytes of them"
        words = f"{many}, have come for which its code does not wait"
        state.raise_concern(_EVENTS, words)


def note_taken(state: SagaState, program: Program) -> None:
    """The code has run, and has perhaps taken some. Costs nothing while there are not too many."""
    if _EVENTS not in state.concerns:
        return
    count, size = program.unconsumed()
    if program.ended or (count <= MAX_EVENTS // 2 and size <= MAX_EVENT_BYTES // 2):
        state.clear_concern(_EVENTS)
