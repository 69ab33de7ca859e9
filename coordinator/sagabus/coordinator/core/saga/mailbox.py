"""The events of one saga: those that came and nobody has taken, and who waits for one (H5).

A wait takes the oldest event of its name; the first to wait is the first served. A wait that is cancelled in the turn
in which its event came gives the event back. Nothing is read here: bodies are kept as they came.
"""

from __future__ import annotations

import asyncio
from collections import deque
from itertools import islice

from sagabus.coordinator.core.loop.loop import SagaFuture, SagaLoop

Delivery = tuple[str, bytes]
"""An event's name, and the body of the request that brought it."""

_Waiters = dict[SagaFuture[Delivery], int]
"""In the order of waiting: since when each waits, on the loop's clock."""


class Mailbox:
    """On one saga's loop."""

    __slots__ = ("_loop", "_untaken", "_waiters", "bytes", "count", "has_changed")

    def __init__(self, loop: SagaLoop) -> None:
        self._loop = loop
        self._waiters: dict[str, _Waiters] = {}
        """By name; none without anybody who waits."""
        self._untaken: dict[str, deque[Delivery]] = {}
        """By name, in the order in which they came; none without an event."""
        self.count = 0
        """Events that nobody has taken."""
        self.bytes = 0
        """Of their bodies."""
        self.has_changed = False
        """A wait has begun or ended, an event was kept or taken. Whoever looks at it resets it."""

    def awaited(self, *, most: int) -> list[tuple[int, str]]:
        """Since when who is served next waits for an event of each name, on the loop's clock; in this order."""
        firsts = sorted((next(iter(waiters.values())), name) for name, waiters in self._waiters.items())
        return firsts[:most]

    def kept(self, *, most: int) -> list[tuple[str, int]]:
        """Names of events that nobody has taken, and how many of each; the first that came first."""
        return [(name, len(events)) for name, events in islice(self._untaken.items(), most)]

    @property
    def is_awaited(self) -> bool:
        """Whether anybody waits for an event."""
        return bool(self._waiters)

    def deliver(self, event: Delivery) -> None:
        """By the loop's owner. Whoever waits for it goes on in the next pump."""
        if not self._handed_over(event):
            self._untaken.setdefault(event[0], deque()).append(event)
            self._counted(event, 1)

    async def take(self, name: str, *, since: int) -> Delivery:
        """The oldest one of this name, or the next to come. since: when the wait began, on the loop's clock."""
        untaken = self._untaken.get(name)
        if untaken is None:
            return await self._next(name, since)
        event = untaken.popleft()
        if not untaken:
            del self._untaken[name]
        self._counted(event, -1)
        return event

    async def _next(self, name: str, since: int) -> Delivery:
        future: SagaFuture[Delivery] = self._loop.create_future()
        self._waiters.setdefault(name, {})[future] = since
        self.has_changed = True
        try:
            event: Delivery = await future
        except asyncio.CancelledError as gone:
            gone.add_note(f"while it waited for event {name}")  # which a timeout would not say
            self._leave(name, future)
            if future.done() and not future.cancelled():
                self._give_back(future.result())  # it came in the turn of the cancellation
            raise
        return event

    def _give_back(self, event: Delivery) -> None:
        """To who waits next; else it is the oldest of its name."""
        if not self._handed_over(event):
            self._untaken.setdefault(event[0], deque()).appendleft(event)
            self._counted(event, 1)

    def _handed_over(self, event: Delivery) -> bool:
        waiters = self._waiters.get(event[0], ())
        found = next((future for future in waiters if not future.done()), None)
        if found is None:
            return False
        self._leave(event[0], found)
        self._loop.resolve(found, event)
        return True

    def _leave(self, name: str, future: SagaFuture[Delivery]) -> None:
        """It waits no more. Idempotent."""
        waiters = self._waiters.get(name, {})
        waiters.pop(future, None)
        if not waiters:
            self._waiters.pop(name, None)
        self.has_changed = True

    def _counted(self, event: Delivery, by: int) -> None:
        self.has_changed = True
        self.count += by
        self.bytes += by * len(event[1])
