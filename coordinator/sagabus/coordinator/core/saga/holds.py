"""Which commands of a saga its undos hold back, told by its rows (U4): beside `from_rows`, which reads them."""

from __future__ import annotations

from collections.abc import Collection

from sagabus.coordinator.core.saga.step import FREE, HELD, Step
from sagabus.coordinator.core.saga.steps import Steps


class Holds:
    """busy: the steps of each service that keep its commands back. held: those commands."""

    def __init__(self) -> None:
        self._busy: dict[str, set[int]] = {}
        self._held: dict[str, list[Step]] = {}

    def begins(self, step: Step) -> None:
        """Its settle or undo: new commands to its service wait."""
        self._busy.setdefault(step.service, set()).add(step.number)

    def called(self, step: Step, marks: Collection[str]) -> None:
        """It is held if an undo is under way at its service. marks: those of its row, which may say so."""
        if HELD in marks or (FREE not in marks and self._busy.get(step.service)):
            self.hold(step)

    def hold(self, step: Step) -> None:
        step.held, step.do.issued, step.do.sent_at = True, 0, 0
        self._held.setdefault(step.service, []).append(step)

    def let_go(self, steps: Steps, *, at: int, paused: bool) -> None:
        """What nothing holds back any more was sent at this time. While the saga is paused it stays held."""
        for service, busy in self._busy.items():
            busy -= {number for number in busy if not steps[number].is_being_undone}
            if busy or paused:
                continue
            for step in self._held.pop(service, ()):
                if step.held:
                    step.held, step.do.issued, step.do.sent_at = False, at, at
