"""A paused saga: what comes for it is a row and waits, and nothing is sent (U8).

What goes on is an undo, or a settle, that has begun: its answers and its retries are decided upon at once, its copies
are sent. The next step of the plan does not begin, held commands stay held, the saga does not close. An operator's
requests and notices are decided upon at once too. Timers do not fire; time goes on, so those that have come due fire
when it is resumed, after what waited.

The rows alone decide: `Saga.advance` puts aside what waits, live and in a replay, and the row that ends the pause has
all decisions upon it behind it.
"""

from __future__ import annotations

from typing import Final

from sagabus.contracts.lifecycle import LifecycleType
from sagabus.contracts.requests import RequestType
from sagabus.coordinator.core.saga.effects import TimerKind
from sagabus.coordinator.core.saga.history import Input, Kind, Row
from sagabus.coordinator.core.saga.state import SagaState, Same
from sagabus.coordinator.core.saga.step import Step

_WAITING: Final = frozenset((Kind.STEP_COMPLETED, Kind.STEP_REFUSED, Kind.STEP_FAILED, Kind.EVENT))


_ENDS: Final = frozenset((RequestType.RESUME, RequestType.TERMINATE))


def waits(row: Row) -> bool:
    """Whether it is decided upon only when the saga is resumed."""
    return row.kind in _WAITING or (row.kind is Kind.TIMER and row.name != TimerKind.UNDO_RETRY)


def same(input: Input | Row) -> Same:
    """Equal for copies. A reply has the id of its attempt, an event that of its sender."""
    is_event = input.kind is Kind.EVENT
    return (
        input.kind, input.step, input.attempt, input.name, input.ref if is_event else "",
        None if is_event else input.payload,
    )  # fmt: skip


def fires(kind: TimerKind, step: Step | None) -> bool:
    """Whether a timer fires though its saga is paused: those of an undo, or a settle, that has begun."""
    if kind is TimerKind.RESEND:
        return step is not None and step.is_being_undone
    return kind is TimerKind.UNDO_RETRY


def is_begun_by(row: Row) -> bool:
    return row.kind is Kind.OPERATOR and row.name == RequestType.PAUSE


def is_ended_by(row: Row) -> bool:
    return row.kind is Kind.CANCEL or (row.kind is Kind.OPERATOR and row.name in _ENDS)


def begin(state: SagaState) -> None:
    state.stands(paused=True)
    state.tell(LifecycleType.PAUSED)


def end(state: SagaState) -> list[Row]:
    """The saga goes on. What waited, in the order in which it came."""
    waited = [*state.waiting.values()]
    state.waiting.clear()
    state.stands(paused=False)
    state.tell(LifecycleType.RESUMED)
    state.rearm()
    state.resumed_at = state.now
    return waited
