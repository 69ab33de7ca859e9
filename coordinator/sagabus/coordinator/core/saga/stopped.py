"""A saga whose code cannot follow its history: it takes in what comes, and decides nothing.

It is open and blocked, until code that matches is loaded, or an operator ends it without its code (`codeless`); or it
is closed, and its code is gone. Of the saga there is nothing but its rows. What they tell is enough to keep each input
once (H1), and to know what a closed saga could not explain: a late success, a reply to what was never sent (P2, U9).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Final, NamedTuple

from sagabus.contracts.requests import RequestType
from sagabus.contracts.words import plain
from sagabus.coordinator.core.saga import refusal, request_answers
from sagabus.coordinator.core.saga.admission import (
    BLOCKED,
    CANCEL_REJECTED,
    CLOSED,
    DUPLICATE,
    FOR_GOOD,
    FOREIGN,
    LATE,
    NO_USE,
    REPLIES,
    SETTLE_REPLIES,
    STEP_REPLIES,
    UNDO_REPLIES,
)
from sagabus.coordinator.core.saga.bodies import same_body
from sagabus.coordinator.core.saga.completion import output_of
from sagabus.coordinator.core.saga.concern import RELEASED, Concern, ConcernKind, Told, concern_of, told_by
from sagabus.coordinator.core.saga.effects import TimerKind
from sagabus.coordinator.core.saga.history import Input, Kind, Row
from sagabus.coordinator.core.saga.operator import ACKNOWLEDGE, COMPLETE, RETRY, SKIP, acknowledge, acknowledgeable
from sagabus.coordinator.core.saga.order import in_order
from sagabus.coordinator.core.saga.state import SagaState
from sagabus.coordinator.core.saga.status import SagaStatus
from sagabus.coordinator.core.saga.termination import HAPPENED


class Stop(NamedTuple):
    """Why a saga's code stands still: which of `STOPS`, and the same for a person."""

    kind: ConcernKind
    words: str
    code: str = ""
    """What tells it from others of its kind; empty if nothing does, or if an older release has not stored it."""


_ASKED: Final[dict[Kind, tuple[Kind, str]]] = {
    **dict.fromkeys(STEP_REPLIES, (Kind.COMMAND, TimerKind.RETRY.value)),
    **dict.fromkeys(UNDO_REPLIES, (Kind.UNDO, TimerKind.UNDO_RETRY.value)),
    **dict.fromkeys(SETTLE_REPLIES, (Kind.SETTLE, "")),
}
"""Of a reply: the row of what it answers, and the timer that leads to its next attempt."""


_REQUESTS: Final = frozenset(RequestType)
_FINAL: Final = (Kind.STEP_COMPLETED, Kind.SETTLE_COMPLETED, Kind.SETTLE_NEVER)


class StoppedSaga:
    """Its state knows how it stands, and neither steps nor timers."""

    __slots__ = ("_events", "_fingerprint", "_steps", "rows", "state", "stop")

    def __init__(self, state: SagaState, stop: Stop, rows: Sequence[Row], *, fingerprint: str) -> None:
        """rows: its history, or those of one step, or none where the state knows what was asked of it.

        fingerprint: of the code that could not go on; empty for none.
        """
        self.state = state
        self.stop = stop
        self.rows: list[Row] = []
        """Its history, if it was at hand from the first row on; else what was added since it stopped."""
        self._fingerprint = fingerprint
        self._events: set[str] = set()
        self._steps: defaultdict[int, list[Row]] = defaultdict(list)
        if rows:
            state.refusals_since_end = 0  # which are counted anew
        for row in rows:
            self.note(row)

    @property
    def tells_all(self) -> bool:
        """Whether its history is at hand, and says nothing that only a later release knows."""
        return bool(self.rows) and self.rows[0].seq == 1 and all(map(_is_known, self.rows))

    @property
    def undecided(self) -> list[Row]:
        """Inputs that are kept until it goes on, as far as they are at hand."""
        _, kept, _ = in_order(row for row in self.rows if row.is_input)
        return kept

    def note(self, row: Row) -> None:
        """A row of its history."""
        self.rows.append(row)
        self._steps[row.step].append(row)
        if row.kind is Kind.EVENT:
            self._events.add(row.ref)
        elif request_answers.verb_of(row) or request_answers.is_refusal(row):
            request_answers.note(self.state, row)

    def block(self, *, since: int) -> None:
        """Stop deciding, visibly. since: the first row that is kept undecided."""
        state, (kind, words, code) = self.state, self.stop
        state.blocked = since
        self.rows.append(state.journal.noted(
            Kind.BLOCKED, at=state.now, step=since, name=kind, ref=self._fingerprint, payload=plain(words).encode()
        ))  # fmt: skip
        state.raise_concern(Concern(kind), words, Told(code))

    def take(self, input: Input) -> str | None:
        """None if it is kept, else the reason code. A timer fires when the saga goes on, if still pending (H3)."""
        if input.kind is Kind.TIMER:
            return BLOCKED
        reason = self.denial(input)
        is_verb = bool(request_answers.verb_of(input))
        if reason is not None:
            if is_verb and reason != DUPLICATE:
                self._refuse(input, reason)
            return reason
        if self.state.is_closed and (is_verb or input.kind is Kind.NOTICE):
            self._take_of_closed(input)
            return None
        row = self.state.journal.taken(input, self.state.now)
        self.note(row)
        if not self.state.blocked:
            self.block(since=row.seq)
        return None

    def _refuse(self, input: Input, code: str) -> None:
        row = request_answers.refused(self.state, input, code, refusal.words(self.state, input, code))
        if row is not None:
            self.note(row)

    def _take_of_closed(self, input: Input) -> None:
        """What says nothing to its code: an acknowledgement, or that its messages are parked or released."""
        row = self.state.journal.taken(input, self.state.now)
        self.note(row)
        if row.kind is Kind.OPERATOR:
            acknowledge(self.state, row.step)
            request_answers.applied(self.state, row)
        else:
            notice(self.state, row)

    def denial(self, input: Input) -> str | None:
        """None if it is to be kept, else the reason code: what the rows alone can tell.

        An open saga takes in whatever is not there already, and decides when its code is back. A closed one has nothing
        to decide any more: only what its rows do not explain is news.
        """
        closed = self.state.is_closed
        if input.kind in (Kind.EVENT, Kind.CANCEL, Kind.OPERATOR):
            if self._is_known(input):
                return DUPLICATE
            return self._to_closed(input) if closed else None
        if input.kind not in REPLIES:
            return None
        same = input.kind, input.attempt, input.name, input.payload
        rows = self._steps[input.step]
        if any((row.kind, row.attempt, row.name, row.payload) == same for row in rows):
            return DUPLICATE
        terminated = self.state.status is SagaStatus.TERMINATED
        return _of_closed(rows, input, terminated=terminated) if closed else None

    def _is_known(self, input: Input) -> bool:
        """A copy of an event, or of a request, that its history has."""
        if input.kind is Kind.EVENT:
            return input.ref in self._events
        return request_answers.is_answered(self.state, input)

    def _to_closed(self, input: Input) -> str | None:
        if input.kind is Kind.CANCEL:
            return CANCEL_REJECTED
        if input.kind is Kind.EVENT or input.name != ACKNOWLEDGE:
            return CLOSED
        return None if acknowledgeable(self.state, input.step) else NO_USE


def notice(state: SagaState, row: Row) -> None:
    """What a notice, or a block, says is so."""
    if row.name == RELEASED:
        state.clear_concern(Concern(ConcernKind.PARKED))
    else:
        state.raise_concern(concern_of(row), (row.payload or b"").decode(), told_by(row))


def _is_known(row: Row) -> bool:
    return row.kind is not Kind.UNKNOWN and (row.kind is not Kind.OPERATOR or row.name in _REQUESTS)


def _of_closed(rows: list[Row], input: Input, *, terminated: bool) -> str | None:
    """rows: those of the step."""
    kinds = {row.kind for row in rows}
    asked, retry = _ASKED[input.kind]
    command = next((row for row in rows if row.kind is Kind.COMMAND), None)
    if command is None or asked not in kinds or (retry and input.attempt > _attempts(rows, asked, retry)):
        return None
    if input.name and input.name != command.name.partition(".")[0]:
        return FOREIGN
    if (by_operator := _completed_by_operator(rows)) is not None:
        rows = rows[by_operator:]
        if input.kind in FOR_GOOD:
            return DUPLICATE if _contradicted(rows) or _says_the_same(rows[0], input) else None
    if terminated and by_operator is None and kinds.isdisjoint(_FINAL) and input.kind in HAPPENED:
        return None
    if _settle_was_skipped(rows) and input.kind in (Kind.STEP_COMPLETED, Kind.SETTLE_COMPLETED):
        return None if kinds.isdisjoint(_FINAL) else DUPLICATE
    if input.kind is Kind.STEP_COMPLETED:
        return _of_completed(rows, input, settling=Kind.SETTLE in kinds)
    if input.kind is Kind.UNDO_COMPLETED and input.kind not in kinds and not (terminated and not _is_skipped(rows)):
        return None  # it was skipped, and is done after all
    return DUPLICATE if input.kind in kinds else LATE


def _of_completed(rows: list[Row], input: Input, *, settling: bool) -> str | None:
    """News is a late success, and once the contradiction of what was said for good."""
    final = [row for row in rows if row.kind in _FINAL]
    if not final:
        return LATE if settling else None
    if len(final) > 1:
        return DUPLICATE
    said = final[0]
    if said.kind is Kind.SETTLE_NEVER:
        return None
    return DUPLICATE if same_body(said.payload, input.payload) else None


def _completed_by_operator(rows: list[Row]) -> int | None:
    """Where among the rows; None if no operator has said that the step has completed."""
    found = (place for place, row in enumerate(rows) if (row.kind, row.name) == (Kind.OPERATOR, COMPLETE))
    return next(found, None)


def _contradicted(rows: list[Row]) -> bool:
    """rows: since an operator has completed the step."""
    return any(row.kind in FOR_GOOD for row in rows)


def _says_the_same(completed: Row, input: Input) -> bool:
    return input.kind in HAPPENED and same_body(output_of(completed.payload), input.payload)


def _is_skipped(rows: list[Row]) -> bool:
    return any((row.kind, row.name) == (Kind.OPERATOR, SKIP) for row in rows)


def _settle_was_skipped(rows: list[Row]) -> bool:
    """A skip is of the undo, if there is one; else of the settle."""
    kinds = {row.kind for row in rows}
    return _is_skipped(rows) and Kind.SETTLE in kinds and kinds.isdisjoint((Kind.UNDO, Kind.UNDO_INPUT))


def _attempts(rows: list[Row], asked: Kind, retry: str) -> int:
    """Of the step, or of its undo: what was tried again after the settle or the undo began was that."""
    ends = (Kind.UNDO,) if asked is Kind.UNDO else (Kind.UNDO, Kind.SETTLE)
    begun = next((place for place, row in enumerate(rows) if row.kind in ends), len(rows))
    tries = ((Kind.TIMER, retry), (Kind.OPERATOR, RETRY))
    return 1 + sum((row.kind, row.name) in tries for row in (rows[begun:] if asked is Kind.UNDO else rows[:begun]))
