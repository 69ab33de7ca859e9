"""Undo that a saga's code has asked for while the saga goes on: of what was done in a scope (U11), of one step (U12).

A rollback has a plan: what is unknown first, the highest number first, then what completed, the last first (U5). Its
steps are undone one at a time. Each step of a plan is `planned` until its own settle or undo begins, and holds its
service from then on (U4). A step that another rollback has taken up already is waited for, and never undone twice.

The plan is written as a row `rollback`, so that it can be carried on without the saga's code. When the saga itself is
undone, what is still planned goes into the plan of the saga. This module decides what is next; `undo` begins it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final

from pydantic_core import from_json

from sagabus.contracts import codec
from sagabus.coordinator.core.saga.history import Row
from sagabus.coordinator.core.saga.status import Outcome, Undoing
from sagabus.coordinator.core.saga.step import KEEP, Step
from sagabus.coordinator.core.saga.steps import Steps

_SETTLE: Final = "settle"
_UNDO: Final = "undo"


class Rollback:
    """plan: steps of its own, the next one first. others: steps that another one undoes, and that it waits for."""

    __slots__ = ("others", "plan")

    def __init__(self, plan: Iterable[int], others: Iterable[int] = ()) -> None:
        self.plan = deque(plan)
        self.others = set(others)

    def next_step(self, steps: Steps) -> Step | None:
        """The one that may begin now; None while one is under way, and when there is none any more."""
        while self.plan:
            step = steps[self.plan[0]]
            if step.undoing is Undoing.PLANNED:
                return step
            if step.is_being_undone:
                return None
            self.plan.popleft()
        self.others &= steps.being_undone
        return None

    @property
    def is_done(self) -> bool:
        return not (self.plan or self.others)


class Rollbacks:
    """Those of one saga that are not done, by number. Made with the first one."""

    __slots__ = ("done", "running")

    def __init__(self) -> None:
        self.running: dict[int, Rollback] = {}
        self.done: list[int] = []
        """Numbers of those that its code is to be told of. Whoever tells it empties it."""

    def next_step(self, steps: Steps, *, paused: bool) -> Step | None:
        """A step whose settle or undo may begin now. Nothing begins while the saga is paused (U8)."""
        for number, one in [*self.running.items()]:
            step = one.next_step(steps)
            if step is not None and not paused:
                return step
            if one.is_done:
                del self.running[number]
                self.done.append(number)
        return None

    def drop(self, steps: Steps) -> None:
        """The saga itself is undone: what has not begun is no longer theirs."""
        for one in self.running.values():
            for number in one.plan:
                if steps[number].undoing is Undoing.PLANNED:
                    steps.undo_becomes(steps[number], Undoing.NONE)
        self.running.clear()


def planned(
    steps: Steps, members: Iterable[int], completions: Sequence[int], *, even_kept: bool
) -> tuple[list[int], list[int]]:
    """(those to be settled, those to be undone), each in its order. completions: of the whole saga, in their order."""
    left = [steps[number] for number in members if steps[number].undoing is Undoing.NONE]
    unknown = [one.number for one in left if one.outcome is Outcome.UNKNOWN and (even_kept or one.abandon != KEEP)]
    known = {step.number for step in left if step.outcome is Outcome.COMPLETED and step.contract.compensation}
    return sorted(unknown, reverse=True), _latest_first(known, completions)


def _latest_first(known: set[int], completions: Sequence[int]) -> list[int]:
    """Looked for from the end: what is undone was done of late, and a saga may have many steps."""
    found: list[int] = []
    latest = reversed(completions) if len(known) > 1 else iter(known)
    while len(found) < len(known):
        number = next(latest)
        if number in known:
            found.append(number)
    return found


def plan_json(settle: Sequence[int], undo: Sequence[int]) -> bytes:
    """As it stands in its row."""
    return codec.encode_value({_SETTLE: [*settle], _UNDO: [*undo]})


def plan_of(row: Row) -> tuple[list[int], list[int]]:
    """(those to be settled, those to be undone) of a row `rollback`."""
    said = from_json(row.payload or b"{}")
    return said.get(_SETTLE, []), said.get(_UNDO, [])
