"""What the rows of a saga tell of its steps (`from_rows`), beside what the saga itself knows of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sagabus.coordinator.core.saga.from_rows import read_back
from sagabus.coordinator.core.saga.history import Row
from sagabus.coordinator.core.saga.order import in_order
from sagabus.coordinator.core.saga.state import SagaState
from sagabus.coordinator.core.saga.status import Outcome, SagaStatus, Undoing
from sagabus.coordinator.core.saga.step import KEEP, Exchange, Step


def differences(rows: Sequence[Row], fresh: SagaState, state: SagaState) -> dict[str, tuple[Any, Any]]:
    """Of what its undo depends on, by name: what the rows tell, what the saga knows. fresh: a new state.

    Nothing of one that is terminated: there is no undo.
    """
    if state.status is SagaStatus.TERMINATED:
        return {}
    decided, _, _ = in_order(row for row in rows if row.is_input)
    read_back(fresh, decided, (row for row in rows if not row.is_input))
    told, known = _known(fresh, closed=state.is_closed), _known(state, closed=state.is_closed)
    return {name: (told[name], known[name]) for name in told if told[name] != known[name]}


def _known(state: SagaState, *, closed: bool) -> dict[str, Any]:
    steps, running = state.steps, state.status in (SagaStatus.RUNNING, SagaStatus.COMPLETED)
    undoable = [number for number in state.completions if steps[number].undo_input is not None]
    planned = [number for number in state.plan if number in undoable or number in steps.unsettled]
    return {
        "running": running,
        "undoable": undoable,
        "plan": None if closed or running else planned,
        "events": None if closed else state.seen_events,
        "started_at": state.started_at,
        **{f"step {number}": _known_of(step) for number, step in steps.items()},
    }


def _known_of(step: Step) -> tuple[object, ...]:
    """Which open step is of unknown outcome, and which undo without an input was begun, the rows do not tell, and it
    does not matter: what is open is given up, and such an undo is begun again."""
    if not step.do.issued:
        return step.activity, "never sent"
    nothing = step.undo is None and step.undoing in (Undoing.NONE, Undoing.DONE, Undoing.BLOCKED)
    unsettled = step.is_open or (step.outcome is Outcome.UNKNOWN and step.undoing is Undoing.NONE)
    return (
        step.activity, step.service, step.body, step.abandon == KEEP,
        "unsettled" if unsettled else step.outcome, "none" if nothing else step.undoing,
        step.undo_input, step.output, step.contradicted,
        step.do.issued, step.do.attempt, _exchange(step.undo), _exchange(step.settle),
    )  # fmt: skip


def _exchange(one: Exchange | None) -> tuple[object, ...] | None:
    return None if one is None else (one.issued, one.sent_at, one.attempt, one.failures, one.resting)
