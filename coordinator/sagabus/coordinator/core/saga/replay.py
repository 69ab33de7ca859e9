"""Bringing a saga back into memory: its inputs are taken again, and what follows is compared with what is written.

When the code does something else than its history says, the saga is blocked: inputs are kept, nothing is sent, and the
first difference stands in words before a person, with what has changed since it was last decided with (H7). When
matching code is back, the next load goes on with what was kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sagabus.coordinator.core.loop.watch import PLACE
from sagabus.coordinator.core.saga.admission import objection
from sagabus.coordinator.core.saga.effects import Effects, TimerKey, TimerKind
from sagabus.coordinator.core.saga.fingerprint import what_changed
from sagabus.coordinator.core.saga.history import Arrival, Divergence, Kind, Row, words
from sagabus.coordinator.core.saga.program import Code, Spun
from sagabus.coordinator.core.saga.saga import Saga, why_stopped
from sagabus.coordinator.core.saga.state import SagaState
from sagabus.coordinator.core.saga.status import CLOSED, SagaStatus


def restore(
    state: SagaState, code: Code | None, rows: Sequence[Row], *, status: SagaStatus, now: int, again: bool = True
) -> Saga:
    """The saga as it was after its last row. If it was blocked, or is now, `saga.state.blocked` says so.

    A closed one whose code cannot follow is left as it is: nothing of it is undecided.

    status: as stored, like the state's fingerprint. now: microseconds since 1970. One that was blocked and goes on
    again has new rows and messages: drain it. again: whether its code is tried, if it
    is blocked or closed.
    """
    saga = Saga(state, code)
    decided, kept, since = in_order(state.journal.replay(list(rows)))
    attention, changed = state.attention, "" if code is None else what_changed(state.fingerprint, code.fingerprint)
    fault = _replayed(saga, decided, changed) if again or not (since or status in CLOSED) else ""
    state.journal.replaying = False
    state.now, state.status = rows[-1].at, status
    state.sequence = max(row.sequence for row in rows)
    state.rebuilt()
    if fault is not None:
        state.attention, state.reasons = attention, {}
        _stay_blocked(saga, since)
        saga.past, saga.stopped_by = rows, fault
        if not since and not state.is_closed:
            state.now = max(now, state.now)
            saga.block(fault, since=rows[-1].seq + 1)
    else:
        if code is not None and code.fingerprint != state.fingerprint:
            state.rearm()  # what was stored may have been meant for a sleep that has another number now
        if since:
            _resume(saga, kept, since, now)
    return saga


def in_order(inputs: Iterable[Row]) -> tuple[list[Row], list[Row], int]:
    """(the inputs in the order in which they were decided upon, those kept undecided, the first row since when).

    What came while a saga was blocked was decided upon after it resumed.
    """
    decided: list[Row] = []
    kept: list[Row] = []
    since = 0
    for row in inputs:
        if row.kind is Kind.BLOCKED:
            at = next((place for place, earlier in enumerate(decided) if earlier.seq == row.step), len(decided))
            kept = decided[at:]
            decided[at:] = [row]
            since = row.step
        elif row.kind is Kind.RESUMED:
            decided += [row, *kept]
            kept, since = [], 0
        elif since:
            kept.append(row)
        else:
            decided.append(row)
    return decided, kept, since


def _replayed(saga: Saga, decided: Sequence[Row], changed: str = "") -> str | None:
    """None, or why the code cannot follow its history. changed: in words, for the case that it does not."""
    state = saga.state
    try:
        for row in decided:
            state.now = max(row.at, state.now)  # one that was kept is decided upon later than it came
            in_place = state.journal.reach(row)
            reason = objection(state, row)
            if reason is None:
                _fires_in_turn(state, row)
                saga.advance(row)
            elif in_place:
                raise Divergence(f"history has {words(row)}, the code has no use for it now ({reason})")
        state.journal.replayed()
    except Exception as stop:
        state.spun = isinstance(stop, Spun)
        reason = why_stopped(stop)
        return f"{reason}; {changed}" if changed and isinstance(stop, Divergence) else reason
    if saga.program is not None:
        saga.program.quiet = False
    return None


def _fires_in_turn(state: SagaState, row: Row) -> None:
    """A sleep that fired before its time, while another one is due: the two have changed places (H3, H7).

    One that is merely longer now than it was then is none: what has happened stands. Raises Divergence.
    """
    if row.kind is not Kind.TIMER or row.name != TimerKind.SLEEP:
        return
    due = state.timers[TimerKey(TimerKind.SLEEP, row.step)]
    others = (key for key, other in state.timers.items() if key.kind is TimerKind.SLEEP and other <= state.now)
    if due > state.now and (other := next(others, None)) is not None:
        raise Divergence(f"history has {words(row)}, in the code sleep (number {other.number}) is due there")


def _resume(saga: Saga, kept: Sequence[Row], since: int, now: int) -> None:
    """Matching code is back: what was kept is decided upon. If that stops where it did before, nothing has happened."""
    state = saga.state
    before = state.mark()
    state.rearm()
    saga.take(Arrival(Kind.RESUMED), now=now, cause="")
    for row in kept:
        if state.blocked:
            break
        if objection(state, row) is None:
            state.cause = row.ref
            saga.advance_or_block(row)
    if state.blocked == since and _gist(state.attention) == _gist(before.attention):
        state.back_to(before)
        _stay_blocked(saga, since)


def _gist(attention: str | None) -> str:
    return (attention or "").partition(PLACE)[0]


def _stay_blocked(saga: Saga, since: int) -> None:
    saga.state.blocked = since
    saga.state.effects = Effects()
    saga.evict()
