"""The steps of a saga, and which of them are not at rest.

An input must cost the same in a saga of ten steps and of a hundred thousand, so nothing may look through all steps for
those that matter. They are kept here, in sets that change where a step does; a step's outcome and undo must be changed
here and nowhere else.
"""

from __future__ import annotations

from typing import Final

from sagabus.coordinator.core.saga.status import OPEN_OUTCOMES, OUTCOME, UNDOING, Outcome, Undoing, changed
from sagabus.coordinator.core.saga.step import Step

_UNKNOWN: Final = Outcome.UNKNOWN


class Steps(dict[int, Step]):
    """By number, in the order of calling."""

    __slots__ = ("being_undone", "held", "holds", "open", "unsettled")

    def __init__(self) -> None:
        super().__init__()
        self.open: set[int] = set()
        """The saga waits for their answer."""
        self.unsettled: set[int] = set()
        """Of unknown outcome, and nobody has asked yet."""
        self.being_undone: set[int] = set()
        """Their settle or undo is under way."""
        self.holds: dict[str, int] = {}
        """How many steps of each service keep new commands from going there (U4)."""
        self.held: dict[str, dict[int, None]] = {}
        """The steps of each service that are kept from going there, in the order of calling."""

    def add(self, step: Step) -> None:
        """A step that was just called."""
        self[step.number] = step
        self.open.add(step.number)
        if step.held:
            self.held.setdefault(step.service, {})[step.number] = None

    def put(self, step: Step) -> None:
        """One of which its rows have told how far it is."""
        self[step.number] = step
        if step.held:
            self.held.setdefault(step.service, {})[step.number] = None
        self._note(step, held_its_service=False)

    def let_go(self, step: Step) -> None:
        """It is held no more."""
        step.held = False
        del self.held[step.service][step.number]

    def becomes(self, step: Step, outcome: Outcome) -> None:
        """Raises IllegalChange."""
        before = step.outcome
        if before is _UNKNOWN or outcome is _UNKNOWN:
            held = step.holds_its_service
            step.outcome = changed(OUTCOME, before, outcome)
            self._note(step, held)
            return
        step.outcome = changed(OUTCOME, before, outcome)
        if outcome not in OPEN_OUTCOMES:
            self.open.discard(step.number)

    def undo_becomes(self, step: Step, undoing: Undoing) -> None:
        """Raises IllegalChange."""
        before = step.holds_its_service
        step.undoing = changed(UNDOING, step.undoing, undoing)
        self._note(step, before)

    def _note(self, step: Step, held_its_service: bool) -> None:
        number = step.number
        (self.open.add if step.is_open else self.open.discard)(number)
        (self.unsettled.add if step.is_unsettled else self.unsettled.discard)(number)
        (self.being_undone.add if step.is_being_undone else self.being_undone.discard)(number)
        change = step.holds_its_service - held_its_service
        self.holds[step.service] = self.holds.get(step.service, 0) + change
