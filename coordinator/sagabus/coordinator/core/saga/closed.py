"""What a reply tells of a closed saga whose code is gone, by the rows of its step alone (P2, U9).

A closed saga has nothing to decide any more: only what its rows do not explain is news. Of that an operator is told the
same as where its code is at hand, in the same words.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sagabus.contracts.lifecycle import LifecycleType
from sagabus.coordinator.core.saga import operator, stand_in, undo, unexplained
from sagabus.coordinator.core.saga.admission import (
    DUPLICATE,
    FOR_GOOD,
    FOREIGN,
    LATE,
    SETTLE_REPLIES,
    STEP_REPLIES,
    UNDO_REPLIES,
    UNREADABLE,
)
from sagabus.coordinator.core.saga.bodies import is_legible, same_body
from sagabus.coordinator.core.saga.completion import output_of
from sagabus.coordinator.core.saga.concern import ConcernKind
from sagabus.coordinator.core.saga.effects import TimerKind
from sagabus.coordinator.core.saga.history import Input, Kind, Row
from sagabus.coordinator.core.saga.operator import COMPLETE, RETRY, SKIP
from sagabus.coordinator.core.saga.state import SagaState
from sagabus.coordinator.core.saga.status import Outcome
from sagabus.coordinator.core.saga.step import Exchange, Step
from sagabus.coordinator.core.saga.termination import HAPPENED

_ASKED: Final[dict[Kind, tuple[Kind, str]]] = {
    **dict.fromkeys(STEP_REPLIES, (Kind.COMMAND, TimerKind.RETRY.value)),
    **dict.fromkeys(UNDO_REPLIES, (Kind.UNDO, TimerKind.UNDO_RETRY.value)),
    **dict.fromkeys(SETTLE_REPLIES, (Kind.SETTLE, "")),
}
"""Of a reply: the row of what it answers, and the timer that leads to its next attempt."""

_FINAL: Final = (Kind.STEP_COMPLETED, Kind.SETTLE_COMPLETED, Kind.SETTLE_NEVER)


def heard(rows: Sequence[Row], input: Input, *, terminated: bool) -> str:
    """What kind of concern a reply raises, as a `ConcernKind`; else the reason code why it is no news.

    rows: those of the step, in their order.
    """
    kinds = {row.kind for row in rows}
    asked, retry = _ASKED[input.kind]
    command = _command(rows)
    if command is None:
        return ConcernKind.HISTORY_LOST
    if asked not in kinds:
        return ConcernKind.UNASKED
    if retry and input.attempt > _attempts(rows, asked, retry):
        return ConcernKind.REPLY_ATTEMPT
    if input.name and input.name != command.name.partition(".")[0]:
        return FOREIGN
    if (by_operator := _completed_by_operator(rows)) is not None:
        rows = rows[by_operator:]
        if input.kind in FOR_GOOD:
            return DUPLICATE if _contradicted(rows) or _says_the_same(rows[0], input) else ConcernKind.CONTRADICTION
    if _settle_was_skipped(rows) and input.kind in HAPPENED:
        return ConcernKind.HAPPENED_AFTER_SKIP if kinds.isdisjoint(_FINAL) else DUPLICATE
    if terminated and by_operator is None and kinds.isdisjoint(_FINAL) and input.kind in HAPPENED:
        return ConcernKind.LATE_SUCCESS
    if input.kind is Kind.STEP_COMPLETED:
        return _of_completed(rows, input, settling=Kind.SETTLE in kinds)
    if input.kind is Kind.UNDO_COMPLETED and input.kind not in kinds and not (terminated and not _is_skipped(rows)):
        return ConcernKind.UNDO_AFTER_SKIP
    return DUPLICATE if input.kind in kinds else LATE


def tell(state: SagaState, rows: Sequence[Row], row: Row, news: ConcernKind) -> None:
    """Raise the concern. rows: those of the step before this one. A replay by its code does the same."""
    step = _step(rows)
    match news:
        case ConcernKind.LATE_SUCCESS if step is not None:
            state.tell(LifecycleType.STEP_COMPLETED, step=step)
            undo.succeeded_after_end(state, step)
        case ConcernKind.UNDO_AFTER_SKIP if step is not None:
            operator.skipped_too_late(state, step)
        case ConcernKind.HAPPENED_AFTER_SKIP if step is not None:
            operator.happened_after_skip(state, step)
        case ConcernKind.CONTRADICTION if step is not None:
            unexplained.contradiction(state, step)
        case _:
            unexplained.reply(state, step, row)


def _step(rows: Sequence[Row]) -> Step | None:
    """As far as words for a person need it; None if it was never called."""
    command = _command(rows)
    if command is None:
        return None
    kinds = {row.kind for row in rows}
    undone_by = next((row.name for row in rows if row.kind is Kind.UNDO), None)
    step = stand_in.step(command, compensation=undone_by)
    made = 0 if command.kind is Kind.ON_ROLLBACK else _attempts(rows, *_ASKED[Kind.STEP_COMPLETED])
    step.do = Exchange(command.at, attempt=made)
    if undone_by is not None:
        step.undo = Exchange(command.at, attempt=_attempts(rows, *_ASKED[Kind.UNDO_COMPLETED]))
    step.outcome = Outcome.NEVER if Kind.SETTLE_NEVER in kinds else Outcome.COMPLETED
    step.by_operator = _completed_by_operator(rows) is not None
    return step


def _command(rows: Sequence[Row]) -> Row | None:
    return next((row for row in rows if row.kind in (Kind.COMMAND, Kind.ON_ROLLBACK)), None)


def _of_completed(rows: Sequence[Row], input: Input, *, settling: bool) -> str:
    """News is a late success, and once the contradiction of what was said for good."""
    final = [row for row in rows if row.kind in _FINAL]
    if not final:
        return LATE if settling else ConcernKind.LATE_SUCCESS
    if len(final) > 1:
        return DUPLICATE
    said = final[0]
    if said.kind is not Kind.SETTLE_NEVER:
        if same_body(said.payload, input.payload):
            return DUPLICATE
        if not is_legible(input.payload):
            return UNREADABLE
    return ConcernKind.CONTRADICTION


def _completed_by_operator(rows: Sequence[Row]) -> int | None:
    """Where among the rows; None if no operator has said that the step has completed."""
    found = (place for place, row in enumerate(rows) if (row.kind, row.name) == (Kind.OPERATOR, COMPLETE))
    return next(found, None)


def _contradicted(rows: Sequence[Row]) -> bool:
    """rows: since an operator has completed the step."""
    return any(row.kind in FOR_GOOD for row in rows)


def _says_the_same(completed: Row, input: Input) -> bool:
    return input.kind in HAPPENED and same_body(output_of(completed.payload), input.payload)


def _is_skipped(rows: Sequence[Row]) -> bool:
    return any((row.kind, row.name) == (Kind.OPERATOR, SKIP) for row in rows)


def _settle_was_skipped(rows: Sequence[Row]) -> bool:
    """A skip is of the undo, if there is one; else of the settle."""
    kinds = {row.kind for row in rows}
    return _is_skipped(rows) and Kind.SETTLE in kinds and kinds.isdisjoint((Kind.UNDO, Kind.UNDO_INPUT))


def _attempts(rows: Sequence[Row], asked: Kind, retry: str) -> int:
    """Of the step, or of its undo: what was tried again after the settle or the undo began was that."""
    ends = (Kind.UNDO,) if asked is Kind.UNDO else (Kind.UNDO, Kind.SETTLE)
    begun = next((place for place, row in enumerate(rows) if row.kind in ends), len(rows))
    tries = ((Kind.TIMER, retry), (Kind.OPERATOR, RETRY))
    return 1 + sum((row.kind, row.name) in tries for row in (rows[begun:] if asked is Kind.UNDO else rows[:begun]))
