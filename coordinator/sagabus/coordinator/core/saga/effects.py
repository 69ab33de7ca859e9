"""What a turn of one saga leaves behind: rows to write, messages to send, timers to set. Values only."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import Final, NamedTuple

from sagabus.contracts.envelope import Message
from sagabus.coordinator.core.saga.history import Row


class TimerKind(StrEnum):
    """SLEEP: of the saga's code, numbered by its loop. The others are numbered by their step; SAGA has number 0."""

    SLEEP = "sleep"
    TIMEOUT = "timeout"
    RETRY = "retry"
    UNDO_RETRY = "undo_retry"
    RESEND = "resend"
    SAGA = "saga"


IN_MEMORY: Final = frozenset((TimerKind.RESEND,))
"""Not stored: whoever loads the saga knows again what is unanswered, and nothing is decided when they fire."""


class TimerKey(NamedTuple):
    kind: TimerKind
    number: int


@lru_cache(maxsize=4_096)
def timer_key(kind: TimerKind, number: int) -> TimerKey:
    """The same object each time, for those of late: to make one takes five times as long, and all sagas use a few."""
    return TimerKey(kind, number)


class RequestOutcome(StrEnum):
    """What became of a verb."""

    APPLIED = "applied"
    REFUSED = "refused"
    KEPT = "kept"
    """It is in history, and is decided upon when the saga's code can go on."""


class RequestAnswer(NamedTuple):
    """request: its id. code, message: why it was refused; empty otherwise."""

    request: str
    verb: str
    outcome: RequestOutcome
    code: str = ""
    message: str = ""


@dataclass(slots=True)
class Staged:
    """Of the input at hand: nothing of it counts before the input is decided."""

    messages: list[Message] = field(default_factory=list)
    timers: dict[TimerKey, int | None] = field(default_factory=dict)
    """Due in microseconds since 1970; None for one that is cleared."""
    timers_dropped: bool = False
    """All that were set before these are to go."""
    saga_changed: bool = False
    answers: list[RequestAnswer] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    log_once: list[tuple[str, str]] = field(default_factory=list)
    raised: list[tuple[str, BaseException]] = field(default_factory=list)

    @property
    def has_more(self) -> bool:
        """Than most inputs have."""
        return bool(self.timers_dropped or self.answers or self.log or self.log_once or self.raised)


@dataclass(slots=True)
class Effects:
    """Of one saga since the last drain, in order. timers_set: due in microseconds since 1970.

    sequence: the saga's last lifecycle event, written beside its rows: it goes on from there even if it cannot be
    replayed. saga_changed: the saga's row is to be written anew, its concerns (`concerns_json`) among it.
    timers_dropped: all timers that are stored of this saga go, before those of `timers_set` are stored.
    """

    rows: list[Row] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    timers_set: dict[TimerKey, int] = field(default_factory=dict)
    timers_cleared: set[TimerKey] = field(default_factory=set)
    timers_dropped: bool = False
    saga_changed: bool = False
    sequence: int = 0
    answers: list[RequestAnswer] = field(default_factory=list)
    """To verbs, for whoever waits for them."""
    log: list[str] = field(default_factory=list)
    """What an author should read in the log, in words; not a concern of the saga."""
    log_once: list[tuple[str, str]] = field(default_factory=list)
    """What is so of all sagas of one definition: what it is about, and words. Of each one line is enough."""
    raised: list[tuple[str, BaseException]] = field(default_factory=list)
    """What has ended the saga's code, in words and with its traceback, for the log."""

    def take_over(self, staged: Staged, *, known: Container[TimerKey]) -> None:
        """What came of one more input; nothing is staged any more. known: timers that were set in an earlier turn;
        others were never stored."""
        if staged.has_more:
            self._take_over_more(staged)
        if staged.saga_changed:
            self.saga_changed, staged.saga_changed = True, False
        self.messages += staged.messages
        staged.messages.clear()
        if staged.timers:
            self._take_over_timers(staged.timers, known)

    def _take_over_timers(self, timers: dict[TimerKey, int | None], known: Container[TimerKey]) -> None:
        for key, due in timers.items():
            if due is not None:
                self.timers_cleared.discard(key)
                self.timers_set[key] = due
            else:
                self.timers_set.pop(key, None)
                if key in known:
                    self.timers_cleared.add(key)
        timers.clear()

    def _take_over_more(self, staged: Staged) -> None:
        self.answers += staged.answers
        self.log += staged.log
        self.log_once += staged.log_once
        self.raised += staged.raised
        if staged.timers_dropped:
            self.timers_dropped, staged.timers_dropped = True, False
            self.timers_set.clear()
            self.timers_cleared.clear()
        for moved in (staged.answers, staged.log, staged.log_once, staged.raised):
            moved.clear()
