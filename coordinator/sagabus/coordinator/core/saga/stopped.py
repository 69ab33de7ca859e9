"""A saga whose code cannot follow its history: it takes in what comes, and decides nothing.

It is open and blocked, until code that matches is loaded, or an operator ends it without its code (`codeless`); or it
is closed, and its code is gone. Of the saga there is nothing but its rows. What they tell is enough to keep each input
once (H1), and to tell an operator what a closed saga could not explain (`closed`). Older releases blocked such a closed
saga: it keeps what comes, until code that matches is back.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Final, NamedTuple

from sagabus.contracts.requests import RequestType
from sagabus.contracts.words import plain
from sagabus.coordinator.core.saga import closed, refusal, request_answers
from sagabus.coordinator.core.saga.admission import BLOCKED, CANCEL_REJECTED, CLOSED, DUPLICATE, NO_USE, REPLIES
from sagabus.coordinator.core.saga.concern import RELEASED, Concern, ConcernKind, Told, concern_of, told_by
from sagabus.coordinator.core.saga.history import Input, Kind, Row
from sagabus.coordinator.core.saga.operator import ACKNOWLEDGE, acknowledge, acknowledgeable
from sagabus.coordinator.core.saga.order import in_order
from sagabus.coordinator.core.saga.state import SagaState
from sagabus.coordinator.core.saga.status import SagaStatus


class Stop(NamedTuple):
    """Why a saga's code stands still: which of `STOPS`, and the same for a person."""

    kind: ConcernKind
    words: str
    code: str = ""
    """What tells it from others of its kind; empty if nothing does, or if an older release has not stored it."""


_REQUESTS: Final = frozenset(RequestType)


class StoppedSaga:
    """Its state knows how it stands, and neither steps nor timers."""

    __slots__ = ("_events", "_fingerprint", "_is_past_pivot", "_steps", "rows", "state", "stop")

    def __init__(self, state: SagaState, stop: Stop, rows: Sequence[Row], *, fingerprint: str) -> None:
        """rows: its history, or those of one step, or none where the state knows what was asked of it.

        fingerprint: of the code that could not go on; empty for none.
        """
        self.state = state
        self.stop = stop
        self.rows: list[Row] = []
        """Its history, if it was at hand from the first row on; else what was added since it stopped."""
        self._fingerprint = fingerprint
        self._is_past_pivot = state.pivot is not None
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

    @property
    def is_to_end(self) -> bool:
        """Whether that was asked for while it stood still. What has made it stand still was asked for before; and what
        has failed once is not tried again by itself."""
        blocked = self.state.blocked
        if not blocked:
            return False
        tried = max((row.seq for row in self.rows if row.kind is Kind.CODELESS), default=blocked)
        return any(request_answers.ends(row) and row.seq > tried for row in self.undecided)

    @property
    def wants_its_history(self) -> bool:
        """It is to end, which is done when it is loaded again, with all of its rows."""
        return self.is_to_end and self.rows[0].seq > 1

    def note(self, row: Row) -> None:
        """A row of its history."""
        self.rows.append(row)
        self._steps[row.step].append(row)
        if row.kind is Kind.EVENT:
            self._events.add(row.ref)
        elif row.kind is Kind.PIVOT:
            self._is_past_pivot = True
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
        news = None if self.state.blocked else self._heard(input)
        row = self.state.journal.taken(input, self.state.now)
        if isinstance(news, ConcernKind):
            closed.tell(self.state, self._steps[input.step], row, news)
        self.note(row)
        if not self.state.is_closed and not self.state.blocked:
            self.block(since=row.seq)
        return None

    def _heard(self, reply: Input) -> str | None:
        """What a closed saga makes of a reply: see `closed.heard`. None of an open one, which decides later."""
        if not self.state.is_closed:
            return None
        terminated = self.state.status is SagaStatus.TERMINATED
        return closed.heard(self._steps[reply.step], reply, terminated=terminated)

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
        if input.kind in (Kind.EVENT, Kind.CANCEL, Kind.OPERATOR):
            if self._is_known(input):
                return DUPLICATE
            return self._to_closed(input) if self.state.is_closed else self._to_open(input)
        if input.kind not in REPLIES:
            return None
        same = input.kind, input.attempt, input.name, input.payload
        rows = self._steps[input.step]
        if any((row.kind, row.attempt, row.name, row.payload) == same for row in rows):
            return DUPLICATE
        heard = self._heard(input)
        return None if isinstance(heard, ConcernKind) else heard

    def _is_known(self, input: Input) -> bool:
        """A copy of an event, or of a request, that its history has."""
        if input.kind is Kind.EVENT:
            return input.ref in self._events
        return request_answers.is_answered(self.state, input)

    def _to_open(self, input: Input) -> str | None:
        """An acknowledgement of what it cannot end is refused at once: to keep it would say that it may help. So is a
        cancel of what is past its pivot (U14)."""
        if input.kind is Kind.CANCEL and self._is_past_pivot:
            return CANCEL_REJECTED
        if input.name != ACKNOWLEDGE or acknowledgeable(self.state, input.step):
            return None
        return NO_USE

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
