"""Bringing a saga back into memory: its inputs are taken again, and what follows is compared with what is written.

When the code does something else than its history says, the saga is blocked: inputs are kept, nothing is sent, and the
first difference stands in words before a person. When matching code is back, the next load goes on with what was kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sagabus.coordinator.core.decide import Saga, why_stopped
from sagabus.coordinator.core.effects import Effects
from sagabus.coordinator.core.history import Arrival, Divergence, Kind, Row, words
from sagabus.coordinator.core.objection import objection
from sagabus.coordinator.core.program import Code
from sagabus.coordinator.core.state import SagaState
from sagabus.coordinator.core.status import SagaStatus


def restore(state: SagaState, code: Code | None, rows: Sequence[Row], *, status: SagaStatus, now: int) -> Saga:
    """The saga as it was after its last row. If it was blocked, or is now, `saga.state.blocked` says so.

    status: as stored. now: microseconds since 1970. One that was blocked and goes on again has new rows and messages:
    drain it.
    """
    saga = Saga(state, code)
    decided, kept, since = in_order(state.journal.replay(list(rows)))
    attention = state.attention
    fault = _replayed(saga, decided)
    state.now, state.status = rows[-1].at, status
    state.sequence = max(row.sequence for row in rows)
    state.rebuilt()
    if fault is not None:
        state.attention, state.reasons = attention, {}
        _stay_blocked(saga, since)
        if not since:
            state.now = max(now, state.now)
            saga.block(fault, since=rows[-1].seq + 1)
    elif since:
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


def _replayed(saga: Saga, decided: Sequence[Row]) -> str | None:
    """None, or why the code cannot follow its history."""
    state = saga.state
    try:
        for row in decided:
            state.now = max(row.at, state.now)  # one that was kept is decided upon later than it came
            in_place = state.journal.reach(row)
            reason = objection(state, row)
            if reason is None:
                saga.advance(row)
            elif in_place:
                raise Divergence(f"history has {words(row)}, the code has no use for it now ({reason})")
        state.journal.replayed()
    except Exception as stop:
        state.journal.replaying = False
        return why_stopped(stop)
    if saga.program is not None:
        saga.program.quiet = False
    return None


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
    if (state.blocked, state.attention) == (since, before.attention):
        state.back_to(before)
        _stay_blocked(saga, since)


def _stay_blocked(saga: Saga, since: int) -> None:
    saga.state.blocked = since
    saga.state.effects = Effects()
    saga.evict()
