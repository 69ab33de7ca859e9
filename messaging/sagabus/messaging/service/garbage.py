"""How a service's process looks for garbage in cycles. Objects without cycles go at once, as always.

Theory of operation. Open sagas are millions of objects that live for long, and Python's collector goes through all of
them again and again: 100 ns for each, while the event loop stands still. So it looks at young objects alone, and what
lives through two looks is set aside (`gc.freeze`), where no look goes. A look takes about 10 to 30 ms then, however
many sagas are open.

What is set aside goes as well when its last reference goes. Only a cycle stays, such as a saga's own code may have
among its local variables. So all is gone through when twice as much is set aside as the last time: that is a stall, but
seldom. Sagas themselves leave no cycle behind when they end or are evicted.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Mapping
from typing import Any, Final

YOUNG_OBJECTS: Final = 100_000
"""New objects until the next look: more than a busy turn's worth, since what a look meets in the middle of a turn it
meets for nothing. With half as many a saga cost twice the time for it. Python's default is 700."""

YOUNG_LOOKS: Final = 2
"""After which what has lived through them is looked through as well, and set aside."""

NEVER: Final = 1_000_000_000

LEAST_OBJECTS: Final = 10_000_000
"""As many new ones at least, until all is gone through."""


def collect_rarely() -> None:
    """For the whole process; what is there now is never looked through again. May be called twice."""
    gc.freeze()  # modules, definitions, clients: here to stay
    gc.set_threshold(YOUNG_OBJECTS, YOUNG_LOOKS, NEVER)
    if not any(isinstance(one, SetAside) for one in gc.callbacks):
        gc.callbacks.append(SetAside())


class SetAside:
    """Told by the collector of each look. least: see LEAST_OBJECTS."""

    def __init__(self, least: int = LEAST_OBJECTS) -> None:
        self._least = least
        self._new = 0
        """Objects that were made since all was gone through, or counted: at least so many, not all of them alive."""
        self._objects = 0
        """That were set aside when all was gone through, or counted, the last time."""

    def __call__(self, phase: str, info: Mapping[str, Any]) -> None:
        if phase != "stop":
            return
        self._new += YOUNG_OBJECTS
        if info["generation"] > 0:
            gc.freeze()
            loop = asyncio._get_running_loop()
            if loop is not None and self._new >= max(self._least, self._objects):
                loop.call_soon(self.go_through_all)  # nobody can look within a look

    def go_through_all(self) -> None:
        """If twice as much is set aside as the last time: to count takes a tenth of the time for a look."""
        if self._new < max(self._least, self._objects):
            return  # it was asked for twice
        self._new = 0
        if gc.get_freeze_count() > 2 * self._objects:
            gc.unfreeze()
            gc.collect()
            gc.freeze()
            self._objects = gc.get_freeze_count()
