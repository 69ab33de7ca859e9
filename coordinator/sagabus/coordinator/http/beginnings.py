"""How open steps stood when the latest rows of a long history began, told from the few older rows that were found.

A reply names the attempt that it answers: so attempts are counted whose rows are not read.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import Final

from sagabus.coordinator.core.saga.effects import TimerKind
from sagabus.coordinator.core.saga.history import Kind, Row
from sagabus.coordinator.core.saga.operator import RETRY

_UNDO_FAILURES: Final = (Kind.UNDO_FAILED, Kind.UNDO_REFUSED)
_UNDOING: Final = (Kind.UNDO, Kind.SETTLE, *_UNDO_FAILURES, Kind.SETTLE_FAILED)


def beginnings(older: Sequence[Row], rows: Sequence[Row], undo_retries: Collection[int]) -> list[Row]:
    """Rows to be told before `rows`, which follow on the older ones. A command, of a step or its undo, says as its
    attempt how many were made by its next row. A step of which that cannot be told is left out.

    undo_retries: numbers of the steps for which a retry of the undo, or of the settle, is set.
    """
    made: list[Row] = []
    for command in older:
        if command.kind is Kind.COMMAND:
            before = [row for row in older if row.step == command.step and row is not command]
            of_step = [row for row in (*before, *rows) if _is_of(row, command.step)]
            made += _begun(command, before, of_step, is_undone=command.step in undo_retries)
    return sorted(made, key=lambda row: row.seq)


def _begun(command: Row, before: Sequence[Row], of_step: Sequence[Row], *, is_undone: bool) -> Iterator[Row]:
    undoing = next((row for row in of_step if row.kind in _UNDOING), None)
    is_undone |= any(_is_fired(row, TimerKind.UNDO_RETRY) for row in of_step)
    if undoing is None and (is_undone or _made(of_step) is None):
        return
    yield replace(command, attempt=_made(of_step) or 1)
    if undoing is not None and undoing.kind in (Kind.UNDO, *_UNDO_FAILURES):  # what is undone has happened
        yield Row(command.seq, command.at, Kind.STEP_COMPLETED, command.step)
    for row in before:
        if row.kind is Kind.UNDO:
            yield replace(row, attempt=_undo_made(of_step[of_step.index(row) + 1 :]))
        else:
            yield row
    if undoing is None or not is_undone:
        return
    if undoing.kind in _UNDO_FAILURES:  # its own row stands farther back: there was one, or nothing would be repeated
        yield Row(command.seq, undoing.at, Kind.UNDO, command.step, _undo_made(of_step))
    elif undoing.kind is Kind.SETTLE_FAILED:
        yield Row(command.seq, undoing.at, Kind.SETTLE, command.step)


def _made(of_step: Sequence[Row]) -> int | None:
    """Attempts of the step when its first row came; None if that cannot be told."""
    repeated = 0
    for row in of_step:
        if row.kind is Kind.STEP_FAILED:
            return max(1, row.attempt - repeated)
        if row.kind in _UNDOING:
            return max(1, row.attempt) if row.kind is Kind.SETTLE_FAILED else 1
        repeated += _is_fired(row, TimerKind.RETRY) or (row.kind is Kind.OPERATOR and row.name == RETRY)
    return None if repeated else 1


def _undo_made(of_step: Sequence[Row]) -> int:
    """Of its undo. That a pause is over counts only after a failure."""
    return next((max(1, row.attempt) for row in of_step if row.kind in _UNDO_FAILURES), 1)


def _is_fired(row: Row, timer: TimerKind) -> bool:
    return row.kind is Kind.TIMER and row.name == timer


def _is_of(row: Row, step: int) -> bool:
    """Numbers of other rows are of timers of the code, of publications and of concerns."""
    timers = (TimerKind.RETRY, TimerKind.UNDO_RETRY, TimerKind.TIMEOUT)
    is_other = row.kind in (Kind.NOTICE, Kind.PUBLISH, Kind.START, Kind.BLOCKED, Kind.READ)
    return row.step == step and not is_other and (row.kind is not Kind.TIMER or row.name in timers)
