"""Bringing a saga back into memory: its inputs are taken again, and what follows is compared with what is written.

When the code does something else than its history says, the saga is blocked: inputs are kept, nothing is sent, and the
first difference stands in words before a person, with what has changed since it was last decided with (H7). When
matching code is back, the next load goes on with what was kept. A saga that an operator has ended without its code goes
on from its rows, whatever code is there (`codeless`).

A history may be long, and a process has more to do: `Replay` takes it in portions, as many rows at a time as its owner
likes. `restore` takes it in one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sagabus.contracts.attributes import same
from sagabus.coordinator.core.saga.admission import denial
from sagabus.coordinator.core.saga.codeless import concerns_of, no_contracts
from sagabus.coordinator.core.saga.concern import STOPS, Concern, ConcernKind, Concerns, Told, concern_of
from sagabus.coordinator.core.saga.effects import Effects, TimerKey, TimerKind
from sagabus.coordinator.core.saga.fingerprint import what_changed
from sagabus.coordinator.core.saga.history import Kind, Row, words
from sagabus.coordinator.core.saga.journal import Divergence
from sagabus.coordinator.core.saga.order import codeless_row, in_order
from sagabus.coordinator.core.saga.program import Code
from sagabus.coordinator.core.saga.saga import Saga, why_stopped
from sagabus.coordinator.core.saga.standing import Standing
from sagabus.coordinator.core.saga.state import Declared, SagaState
from sagabus.coordinator.core.saga.status import CLOSED, SagaStatus
from sagabus.coordinator.core.saga.stopped import Stop

_ALL: Final = 2**31
"""Rows. More than a history has."""

_NEWER: Final = frozenset((ConcernKind.STUCK, ConcernKind.STEP))
"""Kinds that an older release did not raise wherever this one does."""


def restore(
    state: SagaState, code: Code | None, rows: Sequence[Row], *, status: SagaStatus, now: int, again: bool = True,
    contracts: Declared = no_contracts,
) -> Saga:  # fmt: skip
    """The saga as it was after its last row, at once. See Replay."""
    replay = Replay(state, code, rows, status=status, now=now, again=again, contracts=contracts)
    while not replay.go_on(_ALL):
        pass
    return replay.saga


class Replay:
    """One saga on its way back into memory, in portions.

    Until `go_on` says that it is through, nobody may ask the saga anything. One that is given up is to be evicted.
    """

    __slots__ = ("_again", "_at", "_code", "_decided", "_kept", "_now", "_rows", "_sequence", "_since", "_stored",
                 "fault", "raised", "saga")  # fmt: skip

    def __init__(
        self,
        state: SagaState,
        code: Code | None,
        rows: Sequence[Row],
        *,
        status: SagaStatus,
        now: int,
        again: bool = True,
        contracts: Declared = no_contracts,
    ) -> None:
        """status: as stored, like the state's fingerprint and concerns. now: microseconds since 1970.

        again: whether its code is tried, if it is blocked or closed. Code that spun is not tried again while it is the
        same; that much stands in the history. contracts: see `Saga`.
        """
        self.saga = Saga(state, code, contracts=contracts)
        self.fault: Stop | None = None
        """Why the code cannot follow its history."""
        self.raised: Exception | None = None
        """What says so."""
        self._code = code
        self._rows = rows
        self._now = now
        self._at = 0
        self._decided, self._kept, self._since = in_order(row for row in rows if row.is_input)
        self._sequence = max(row.sequence for row in rows)
        self._stored = state.standing._replace(status=status)
        state.standing = Standing(Concerns(), fingerprint=state.fingerprint)
        if (row := codeless_row(self._decided)) is not None:
            state.standing = state.standing._replace(attributes=self._stored.attributes)  # of code that is gone
            self._begin_without_code(row)
        else:
            state.journal.replay(rows)
        self._again = (again or not (self._since or status in CLOSED)) and not self._spun_already()

    def _begin_without_code(self, row: Row) -> None:
        """It goes on from its rows, whatever code there is: what was decided before this row is read back, the rest is
        taken again."""
        saga, self._code = self.saga, None
        at, saga.state.now = self._rows.index(row), row.at
        saga.state.journal.replay(self._rows[at:], reached=row.seq)
        waited, kept = saga.read_back(self._rows[:at], concerns_of(row))
        self._decided = [*waited, *self._decided[self._decided.index(row) - len(kept) :]]

    def _spun_already(self) -> bool:
        """Whether this very code did not come to rest: to try it once more would stop all others for seconds (L10)."""
        if not self._since or self._code is None:
            return False
        block = next(row for row in reversed(self._rows) if row.kind is Kind.BLOCKED)
        return concern_of(block).kind is ConcernKind.SPUN and block.ref == self._code.fingerprint

    def go_on(self, rows: int) -> bool:
        """Take so many more inputs again. True when the saga is there.

        It is as it was after its last row then. If it was blocked, or is now, `saga.state.blocked` says so; a closed
        one whose code cannot follow is left as it is, since nothing of it is undecided. One that was blocked and goes
        on again has new rows and messages: drain it. Must not be called again after that.
        """
        if self._again:
            part = self._decided[self._at : self._at + rows]
            self._at += len(part)
            if self._follows(part) and self._at < len(self._decided):
                return False
        self._finish()
        return True

    def _follows(self, part: Sequence[Row]) -> bool:
        """Whether the code does what is written."""
        state = self.saga.state
        try:
            for row in part:
                _again(self.saga, row)
            if self._at == len(self._decided):
                state.journal.replayed()
        except Exception as stop:
            self.raised, self.fault = stop, why_stopped(stop)
            if isinstance(stop, Divergence) and self._code is not None:
                changed = what_changed(state.fingerprint, self._code.fingerprint, reordered=stop.reordered)
                self.fault = self.fault._replace(words=f"{stop}; {changed}" if changed else str(stop))
        return self.fault is None

    def _finish(self) -> None:
        state = self.saga.state
        state.journal.replaying = False
        state.now, state.cause = self._rows[-1].at, ""
        state.sequence = self._sequence
        if self.fault is None and self._again:
            state.standing = state.standing._replace(status=self._stored.status)
            state.rebuilt()
            if _has_untold(state.concerns, self._stored.concerns):
                state.stands()
            if not state.is_closed and state.standing.events != self._stored.events:  # or did not store
                state.stands()
            self._compare_attributes()
            if state.other_input and self._code is not None and self._code.fingerprint == state.fingerprint:
                state.staged.log_once.append(("", f"definition {state.definition}: {state.other_input}"))
            self._go_on()
        else:
            self._stop(self.fault or _stored_stop(self._told))
        self._end_if_asked()

    def _compare_attributes(self) -> None:
        """They are those of the code that there is now. What a closed saga had stays."""
        state, stored = self.saga.state, self._stored.attributes
        if state.is_closed:
            state.standing = state.standing._replace(attributes=stored)
        elif not same(state.standing.attributes, stored):
            state.stands()

    def _end_if_asked(self) -> None:
        """An operator has asked for its end while it was blocked, and its code is not back."""
        saga, state, stopped = self.saga, self.saga.state, self.saga.stopped
        if stopped is None or not state.blocked:
            return
        stopped.rows = [*self._rows, *state.journal.new]
        state.now = max(self._now, state.now)
        saga.end_if_asked()

    @property
    def _told(self) -> Concerns:
        return self._stored.concerns

    def _stop(self, fault: Stop) -> None:
        """The saga stays as it is stored."""
        saga, state, seq = self.saga, self.saga.state, self._rows[-1].seq
        state.effects, state.kept = Effects(), (self._stored, self._sequence, seq)
        stopped = saga.stop(fault, self._rows)
        stopped.state.blocked = self._since
        if not self._since and not stopped.state.is_closed:
            stopped.state.now = max(self._now, state.now)
            stopped.block(since=seq + 1)

    def _go_on(self) -> None:
        saga, state = self.saga, self.saga.state
        if saga.program is not None:
            saga.program.quiet = False
        if self._code is not None and self._code.fingerprint != state.fingerprint:
            state.rearm()  # what was stored may have been meant for a sleep that has another number now
        if self._since:
            self._resume()

    def _resume(self) -> None:
        """Matching code is back: what was kept is decided upon. If that stops where it did, nothing has happened."""
        saga, state = self.saga, self.saga.state
        state.rearm()
        state.now = max(self._now, state.now)
        saga.advance_or_block(state.journal.noted(Kind.RESUMED, at=state.now))
        saga.decide_in_turn(self._kept)
        stopped = saga.stopped
        if stopped is not None and stopped.state.blocked == self._since and _is_told(self._told, stopped.stop):
            state.now = self._rows[-1].at
            self._stop_again(stopped.stop)

    def _stop_again(self, stop: Stop) -> None:
        """What its row says of it is said in the words of now."""
        self._stop(stop)
        if Concern(stop.kind) in self._told:
            self.saga.state.raise_concern(Concern(stop.kind), stop.words, Told(stop.code))


def _again(saga: Saga, row: Row) -> None:
    """One input that is written, with all that follows from it. Raises Divergence, and what `Saga.advance` raises."""
    state = saga.state
    state.now = max(row.at, state.now)  # one that was kept is decided upon later than it came
    in_place = state.journal.reach(row)
    if row.seq in state.journal.aside:
        return
    reason = denial(state, row)
    if reason is None:
        _fires_in_turn(state, row)
        saga.advance(row)
    elif in_place:
        said = f"history has {words(row)}, the code does not take it now ({reason})"
        raise Divergence(said, written=row)


def _has_untold(concerns: Concerns, stored: Concerns) -> bool:
    """Whether there is one that an older release did not raise. Of many concerns not all are stored."""
    if any(one.kind is ConcernKind.MORE for one in stored):
        return False
    return any(one.kind in _NEWER and one not in stored for one in concerns)


def _stored_stop(concerns: Concerns) -> Stop:
    """Why a saga that nobody tries stands still."""
    kind = next((kind for kind in STOPS if Concern(kind) in concerns), ConcernKind.BLOCKED)
    return Stop(kind, concerns.get(Concern(kind), ""))


def _fires_in_turn(state: SagaState, row: Row) -> None:
    """A sleep that fired before its time, while another one is due: the two have changed places (H3, H7).

    One that is merely longer now than it was then is none: what has happened stands. Raises Divergence.
    """
    if row.kind is not Kind.TIMER or row.name != TimerKind.SLEEP:
        return
    due = state.timers[TimerKey(TimerKind.SLEEP, row.step)]
    others = (key for key, other in state.timers.items() if key.kind is TimerKind.SLEEP and other <= state.now)
    if due > state.now and (other := next(others, None)) is not None:
        said = f"history has {words(row)}, in the code sleep (number {other.number}) is due there"
        raise Divergence(said, written=row)


def _is_told(stored: Concerns, stop: Stop) -> bool:
    """Whether it stands before a person already. Code that spins again is other code (L10), which is to be remembered.

    An attention of which an older release stored words alone (`other`) is that of the block, since nothing came after.
    """
    if stop.kind is ConcernKind.SPUN:
        return False
    before = stored.told(Concern(stop.kind)) or stored.told(Concern(ConcernKind.OTHER))
    return before is not None and before.covers(Told(stop.code))
