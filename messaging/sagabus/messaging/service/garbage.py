"""How a service's process looks for garbage in cycles. Objects without cycles go at once, as always.

Theory of operation. Open sagas are millions of objects that live for long, and Python's collector goes through all of
them again and again: 150 ns for each and more, while the event loop stands still. So it looks at young objects alone,
and what lives through a look is set aside (`gc.freeze`), where no look goes. A look takes about 15 to 40 ms then,
however many sagas are open.

Most processes make no cycles, and what grows there are open sagas. So a look that has found next to nothing is a
sample: of what comes after it some is set aside unseen, until the next look. A look that has found something is the
other case, such as sessions of an ORM in handlers: then all is looked at, and what is at work in that moment, and will
be garbage soon, is set aside only if it lives through a second look.

What is set aside goes as well when its last reference goes. Only a cycle stays, such as a saga's own code may have
among its local variables, or one that was never seen. So all is gone through when twice as much is set aside as the
last time: that is a stall, but seldom. Sagas themselves leave no cycle behind when they end or are evicted.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Mapping
from typing import Any, Final

YOUNG_OBJECTS: Final = 100_000
"""New objects until the next look: more than a busy turn's worth, since what a look meets in the middle of a turn it
meets for nothing. With half as many a saga cost twice the time for it. Python's default is 700."""

YOUNG_LOOKS: Final = 1
"""And one more: then, where there is garbage, what has lived through them is looked through as well, and set aside.
That takes three times as long as a look at young ones alone."""

FEW: Final = YOUNG_OBJECTS // 100
"""Objects of a look that were garbage: fewer are next to nothing."""

UNSEEN: Final = 3
"""How often as many new objects are set aside unseen after a look that has found next to nothing. More would save
little, and each may be some ten megabytes of garbage for long, where a process begins to make it."""

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
        self._unseen = 0
        """Looks to come that find nothing to look at."""
        self._new = 0
        """Objects that were made since all was gone through, or counted: at least so many, not all of them alive."""
        self._objects = 0
        """That were set aside when all was gone through, or counted, the last time."""

    def __call__(self, phase: str, info: Mapping[str, Any]) -> None:
        unseen = self._unseen > 0 and not info["generation"]
        if phase == "stop":
            self._looked(unseen, info)
        elif unseen:
            gc.freeze()  # before the look, which so has nothing to go through

    def _looked(self, unseen: bool, info: Mapping[str, Any]) -> None:
        self._new += YOUNG_OBJECTS
        clean = info["collected"] < FEW
        self._unseen = self._unseen - 1 if unseen else UNSEEN * clean
        if not (clean or info["generation"]):
            return
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
