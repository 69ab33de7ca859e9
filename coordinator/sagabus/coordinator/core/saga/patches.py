"""Changes of a saga's code under sagas that are open: which of them a saga has, decided once for each (H8).

    code asks -> known already?                          -> the same answer
              -> a replay: is the marker in its history? -> that is the answer, and the marker is compared
              -> for the first time                      -> yes, and a decision `patched` is the marker

A saga that came past the place under older code has no marker there, and never gets it: it stays on the old way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sagabus.contracts.errors import DeclarationError
from sagabus.contracts.names import local_name
from sagabus.coordinator.core.saga.journal import Journal

MAX_PATCHES: Final = 100
"""Changes that one saga may ask for. A name that is made in a loop would fill its history with markers."""


@dataclass(frozen=True, slots=True)
class Patched:
    """The code has a change that is not marked yet, or whose marker is to be compared."""

    change: str


class Patches(dict[str, bool]):
    """Whether the saga has each change that its code has asked for. Made when it asks for the first one."""

    __slots__ = ()

    def fault(self, change: object) -> str | None:
        """What is wrong with asking for this one, in words."""
        if not isinstance(change, str):
            return f"ctx.patched() takes the name of a change, not a {type(change).__name__}"
        try:
            local_name(change, "change")
        except DeclarationError as error:
            return f"ctx.patched(): {error}"
        if change not in self and len(self) >= MAX_PATCHES:
            return (
                f"ctx.patched({change!r}): the code has asked for {MAX_PATCHES} changes, and one saga may have no "
                "more: give a change one name, also where its place is in a loop, and take out the calls for changes "
                "that every open saga has"
            )
        return None

    def decide(self, change: str, journal: Journal) -> bool:
        """The answer to one that was not asked for before."""
        self[change] = has = journal.has_patch(change)
        return has
