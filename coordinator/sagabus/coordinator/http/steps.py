"""How far the steps of a saga are, told from its history alone: no definition is needed to look at a saga.

The words are the core's. What only the definition knows, whether a failed attempt will be repeated, follows from the
timer that is set for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sagabus.coordinator.core.saga.effects import TimerKind
from sagabus.coordinator.core.saga.history import Kind, Row
from sagabus.coordinator.core.saga.status import Outcome, Undoing


@dataclass(slots=True)
class StepProgress:
    """attempts: made so far. output, error: as they came. compensation: what undoes it, once that has begun."""

    number: int
    activity: str
    status: Outcome = Outcome.SENT
    attempts: int = 1
    output: bytes | None = None
    error: bytes | None = None
    undo: Undoing = Undoing.NONE
    compensation: str | None = None
    undo_error: bytes | None = None


def steps_of(history: Iterable[Row], *, retries: Iterable[int]) -> list[StepProgress]:
    """All steps by number. retries: numbers of the steps for which a retry timer is set."""
    steps: dict[int, StepProgress] = {}
    for row in history:
        if row.kind is Kind.COMMAND:
            steps[row.step] = StepProgress(row.step, row.name)
        elif (step := steps.get(row.step)) is not None:
            _advance(step, row)
    pending = frozenset(retries)
    for step in steps.values():
        if step.status is Outcome.PAUSED and step.number not in pending:
            step.status = Outcome.UNKNOWN
    return [steps[number] for number in sorted(steps)]


def _advance(step: StepProgress, row: Row) -> None:
    match row.kind:
        case Kind.STEP_COMPLETED | Kind.SETTLE_COMPLETED:
            step.status, step.output, step.error = Outcome.COMPLETED, row.payload, None
            step.undo = Undoing.NONE
            step.attempts = max(step.attempts, row.attempt)
        case Kind.STEP_REFUSED:
            step.status, step.error = Outcome.FAILED, row.payload
        case Kind.STEP_FAILED:
            step.status, step.error = Outcome.PAUSED, row.payload
            step.attempts = max(step.attempts, row.attempt)
        case Kind.TIMER:
            _fired(step, row.name)
        case _:
            _advance_undo(step, row)


def _fired(step: StepProgress, timer: str) -> None:
    if timer == TimerKind.RETRY:
        step.status = Outcome.SENT
        step.attempts += 1
    elif timer == TimerKind.TIMEOUT:
        step.status = Outcome.UNKNOWN
    elif timer == TimerKind.UNDO_RETRY:
        step.undo = Undoing.SENT


def _advance_undo(step: StepProgress, row: Row) -> None:
    match row.kind:
        case Kind.SETTLE:
            step.status, step.undo = Outcome.UNKNOWN, Undoing.SETTLING
        case Kind.SETTLE_NEVER:
            step.status, step.undo = Outcome.NEVER, Undoing.DONE
        case Kind.UNDO:
            step.undo, step.compensation = Undoing.SENT, row.name
        case Kind.UNDO_COMPLETED:
            step.undo, step.undo_error = Undoing.DONE, None
        case Kind.UNDO_REFUSED | Kind.UNDO_FAILED | Kind.SETTLE_FAILED:
            step.undo_error = row.payload
            step.undo = step.undo if row.kind is Kind.SETTLE_FAILED else Undoing.PAUSED
        case _:
            pass
