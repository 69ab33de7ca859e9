"""What an open saga waits for, told from its row, its latest rows of history and its timers. Its code is not run.

Which events the code waits for stands in the saga's row (decision 0014), unless a process of an older release has
written the last row of its history. Then a saga that waits for no answer, no timer and no timeout waits for an event
(L13), and what is not certain is said so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from sagabus.contracts.errors import MessageInvalid
from sagabus.contracts.names import CommandKind
from sagabus.contracts.replies import read_failure
from sagabus.coordinator.core.saga.concern import STOPS, Concern, ConcernKind, concern_of, read_concerns
from sagabus.coordinator.core.saga.effects import TimerKind
from sagabus.coordinator.core.saga.events import Events
from sagabus.coordinator.core.saga.history import Kind, Row
from sagabus.coordinator.core.saga.request_answers import is_refusal
from sagabus.coordinator.core.saga.status import SagaStatus, Undoing
from sagabus.coordinator.http.beginnings import beginnings
from sagabus.coordinator.http.step_progress import StepProgress, StepStatus
from sagabus.coordinator.http.steps import told_by
from sagabus.coordinator.store.recent import Recent
from sagabus.coordinator.store.rows import SagaRow

_STANDS_STILL: Final = frozenset((*STOPS, ConcernKind.STUCK))
_NOT_STORED: Final = "a process of an older release, which does not store its name, was the last to run it"
NO_EVENTS: Final = Events(0)


class WaitKind(StrEnum):
    OPERATOR = "operator"
    """Nothing goes on until an operator acts, or something is deployed."""
    ANSWER = "answer"
    """A command that its service has not answered."""
    RETRY = "retry"
    """The next attempt of a command that failed."""
    HELD = "held"
    """A step is sent when an undo at its service is done (U4)."""
    TIMER = "timer"
    """A sleep, or a time limit that the code has set."""
    TIMEOUT = "timeout"
    """The time limit of the whole saga."""
    EVENT = "event"
    """Its code waits for an event of this name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """words: for people. Times are microseconds since 1970: since when, and when it ends by itself.

    concern: of what needs an operator. event: its name; None where it is not known.
    """

    kind: WaitKind
    words: str
    concern: ConcernKind | None = None
    event: str | None = None
    step: StepProgress | None = None
    command: CommandKind | None = None
    attempt: int | None = None
    since: int | None = None
    due: int | None = None


@dataclass(frozen=True, slots=True)
class Waits:
    """is_complete: nothing is left out. Of a long history the latest rows are read, so an older step may be missing."""

    waits: Sequence[Wait]
    is_complete: bool

    def may_be_for(self, service: str) -> bool:
        """Whether it waits for this service, or that is not known."""
        waits = any(wait.step is not None and wait.step.service == service for wait in self.waits)
        return waits or not self.is_complete


NOTHING: Final = Waits((), is_complete=True)
"""Of a saga that has ended."""

_Timers = Mapping[tuple[str, int], int]
"""When each is due."""


def waits_of(saga: SagaRow, recent: Recent) -> Waits:
    if saga.is_closed:
        return NOTHING
    timers = {(timer.kind, timer.number): timer.due for timer in recent.timers}
    steps = _steps(saga, recent)
    waits = [*_of_operators(saga, recent.rows)]
    for step in steps:
        waits += _of_step(step, timers, recent)
    if not stands_still(saga) and saga.status is SagaStatus.RUNNING:
        waits += _of_events(timers, recent, is_busy=any(wait.step is not None for wait in waits))
        waits += _of_timers(timers)
    return Waits(waits, recent.is_whole and recent.has_all_timers)


def stands_still(saga: SagaRow) -> bool:
    """Its code is not run for what comes: it is paused, or its code cannot go on."""
    concerns = read_concerns(saga.concerns, attention=saga.attention)
    return saga.paused or any(concern.kind in _STANDS_STILL for concern in concerns)


def events_now(recent: Recent) -> Events | None:
    """Those of its code. None if a process of an older release has written the last row: it is not known then."""
    events = recent.events
    if events is None:
        return NO_EVENTS
    return events if recent.rows and events.row == recent.rows[-1].seq else None


def awaited_events(recent: Recent) -> dict[str, bool] | None:
    """Names of the events that its code waits for, and of which it wants certain ones only; None where that is not
    known."""
    events = events_now(recent)
    return None if events is None else {one.name: one.where for one in events.awaited}


def kept_events(saga: SagaRow, recent: Recent) -> Mapping[str, int] | None:
    """How many of each name its code has not taken; None where that is not known, or nobody will ever take one."""
    events = events_now(recent)
    if events is None or stands_still(saga) or saga.status is not SagaStatus.RUNNING:
        return None
    return {one.name: one.number for one in events.kept}


def _steps(saga: SagaRow, recent: Recent) -> Sequence[StepProgress]:
    undone = {timer.number for timer in recent.timers if timer.kind == TimerKind.UNDO_RETRY}
    told = told_by([*beginnings(recent.older, recent.rows, undone), *recent.rows], decided=saga.decided)
    retries = {timer.number for timer in recent.timers if timer.kind == TimerKind.RETRY}
    if not recent.has_all_timers:  # of those that are not read we believe that they are set
        retries |= {row.step for row in recent.rows}
    return told.steps_now(retries, saga.status is SagaStatus.COMPENSATING)


def _of_operators(saga: SagaRow, rows: Sequence[Row]) -> Iterator[Wait]:
    if saga.paused:
        yield Wait(kind=WaitKind.OPERATOR, words="an operator has paused it")
    for concern, words in read_concerns(saga.concerns, attention=saga.attention).items():
        if concern.kind in _STANDS_STILL:
            since = _raised_at(concern, rows)
            words = f"its code cannot go on: {concern.kind}: {words}"
            yield Wait(kind=WaitKind.OPERATOR, words=words, concern=concern.kind, since=since)
        elif concern.kind is ConcernKind.PARKED:
            words = f"what it sends is kept until it is released: {words}"
            yield Wait(kind=WaitKind.OPERATOR, words=words, concern=concern.kind)


def _raised_at(concern: Concern, rows: Sequence[Row]) -> int | None:
    told = (row for row in reversed(rows) if row.kind in (Kind.BLOCKED, Kind.NOTICE) and not is_refusal(row))
    return next((row.at for row in told if concern_of(row) == concern), None)


def _of_step(step: StepProgress, timers: _Timers, recent: Recent) -> Iterator[Wait]:
    if step.kept:
        return  # somebody has answered: it waits for its code, which is told
    command = step.unanswered
    if command is not None:
        due = timers.get((TimerKind.TIMEOUT, step.number)) if command is CommandKind.DO else None
        yield Wait(
            kind=WaitKind.ANSWER, words=_unanswered(step, command), step=step, command=command,
            attempt=_attempt(step, command), since=step.since, due=due,
        )  # fmt: skip
    elif step.status is StepStatus.HELD:
        words = f"step {step.number} ({step.activity}) is not sent yet: it {step.waits}"
        yield Wait(kind=WaitKind.HELD, words=words, step=step, command=CommandKind.DO, since=step.since)
    elif (command := _at_rest(step)) is not None:
        yield _of_rest(step, command, timers, is_known=recent.has_all_timers)


def _at_rest(step: StepProgress) -> CommandKind | None:
    """What is between two attempts, or is not repeated at all."""
    if step.undo is Undoing.SETTLING:
        return CommandKind.SETTLE
    if step.undo in (Undoing.PAUSED, Undoing.BLOCKED):
        return CommandKind.UNDO
    return CommandKind.DO if step.status in (StepStatus.SENT, StepStatus.PAUSED) else None


def _of_rest(step: StepProgress, command: CommandKind, timers: _Timers, *, is_known: bool) -> Wait:
    kind = TimerKind.RETRY if command is CommandKind.DO else TimerKind.UNDO_RETRY
    due, attempt = timers.get((kind, step.number)), _attempt(step, command)
    if due is None and is_known:
        words = f"{_what(step, command)} is not tried again by itself: {_failure(step, command)}"
        return Wait(kind=WaitKind.OPERATOR, words=words, step=step, command=command, attempt=attempt, since=step.since)
    following = attempt if command is CommandKind.SETTLE else attempt + 1
    words = f"{_what(step, command)} is tried again, attempt {following}: {_failure(step, command)}"
    return Wait(
        kind=WaitKind.RETRY, words=words, step=step, command=command, attempt=following, since=step.since, due=due
    )


def _of_events(timers: _Timers, recent: Recent, *, is_busy: bool) -> Iterator[Wait]:
    """Who waits for nothing else waits for an event (L13), whatever is stored."""
    events = events_now(recent)
    for one in () if events is None else events.awaited:
        which = " on a condition (where=)" if one.where else ""
        words = f"its code waits for the event {one.name}{which}"
        yield Wait(kind=WaitKind.EVENT, words=words, event=one.name, since=one.since)
    has_timer = any(kind in (TimerKind.SLEEP, TimerKind.SAGA) for kind, _ in timers)
    is_certain = recent.is_whole and recent.has_all_timers and not has_timer
    is_told = is_busy or not recent.rows or (events is not None and (bool(events.awaited) or not is_certain))
    if not is_told:
        words = "its code waits for an event" if is_certain else "its code may wait for an event"
        yield Wait(kind=WaitKind.EVENT, words=f"{words} ({_NOT_STORED})", since=recent.rows[-1].at)


def _of_timers(timers: _Timers) -> Iterator[Wait]:
    sleeps = sorted(due for (kind, _), due in timers.items() if kind == TimerKind.SLEEP)
    own = timers.get((TimerKind.SAGA, 0))
    if sleeps:
        more = f", the first of {len(sleeps)}" if len(sleeps) > 1 else ""
        words = f"a sleep, or a time limit that its code has set{more}, is running"
        yield Wait(kind=WaitKind.TIMER, words=words, due=sleeps[0])
    if own is not None:
        yield Wait(kind=WaitKind.TIMEOUT, words="the time limit of the whole saga is running", due=own)


def _what(step: StepProgress, command: CommandKind) -> str:
    if command is CommandKind.UNDO:
        return f"the undo of step {step.number} ({step.compensation or step.activity})"
    what = f"step {step.number} ({step.activity})"
    return f"the settle of {what}" if command is CommandKind.SETTLE else what


def _unanswered(step: StepProgress, command: CommandKind) -> str:
    if command is CommandKind.SETTLE:
        return f"{step.service} has not said whether step {step.number} ({step.activity}) has happened"
    return f"{step.service} has not answered {_what(step, command)}, attempt {_attempt(step, command)}"


def _attempt(step: StepProgress, command: CommandKind) -> int:
    return step.undo_attempts if command is CommandKind.UNDO else step.attempts


def _failure(step: StepProgress, command: CommandKind) -> str:
    payload = step.error if command is CommandKind.DO else step.undo_error
    if payload is None:
        return "its input could not be made" if step.undo is Undoing.BLOCKED else "why is in its history"
    try:
        failure = read_failure(payload)
    except MessageInvalid:
        return "its failure cannot be read"
    return f"{failure.code}: {failure.message}"
