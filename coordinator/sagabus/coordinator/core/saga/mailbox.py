"""The events of one saga: those that came and nobody has taken, and who waits for one (H5).

A wait takes the oldest event of its name; the first to wait is the first served. A wait that is cancelled in the turn
in which its event came gives the event back. Nothing is read here: bodies are kept as they came.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque

from sagabus.coordinator.core.loop.loop import SagaFuture, SagaLoop

Delivery = tuple[str, bytes]
"""An event's name, and the body of the request that brought it."""

_Waiters = dict[SagaFuture[Delivery], None]
"""In the order of waiting."""


class Mailbox:
    """On one saga's loop."""

    __slots__ = ("_loop", "_untaken", "_waiters", "bytes", "count")

    def __init__(self, loop: SagaLoop) -> None:
        self._loop = loop
        self._waiters: defaultdict[str, _Waiters] = defaultdict(dict)
        self._untaken: defaultdict[str, deque[Delivery]] = defaultdict(deque)
        """By name, in the order in which they came."""
        self.count = 0
        """Events that nobody has taken."""
        self.bytes = 0
        """Of their bodies."""

    @property
    def awaited(self) -> dict[str, int]:
        """The names that somebody waits for, and how many do."""
        return {name: len(waiters) for name, waiters in sorted(self._waiters.items()) if waiters}

    @property
    def is_awaited(self) -> bool:
        """Whether anybody waits for an event."""
        return any(self._waiters.values())

    def deliver(self, event: Delivery) -> None:
        """By the loop's owner. Whoever waits for it goes on in the next pump."""
        if not self._handed_over(event):
            self._untaken[event[0]].append(event)
            self._counted(event, 1)

    async def take(self, name: str) -> Delivery:
        """The oldest one of this name, or the next to come."""
        untaken = self._untaken[name]
        if not untaken:
            return await self._next(name)
        event = untaken.popleft()
        self._counted(event, -1)
        return event

    async def _next(self, name: str) -> Delivery:
        waiters, future = self._waiters[name], self._loop.create_future()
        waiters[future] = None
        try:
            event: Delivery = await future
        except asyncio.CancelledError:
            waiters.pop(future, None)
            if future.done() and not future.cancelled():
                self._give_back(future.result())  # it came in the turn of the cancellation
            raise
        return event

    def _give_back(self, event: Delivery) -> None:
        """To who waits next; else it is the oldest of its name."""
        if not self._handed_over(event):
            self._untaken[event[0]].appendleft(event)
            self._counted(event, 1)

    def _handed_over(self, event: Delivery) -> bool:
        waiters = self._waiters[event[0]]
        found = next((future for future in waiters if not future.done()), None)
        if found is None:
            return False
        del waiters[found]
        self._loop.resolve(found, event)
        return True

    def _counted(self, event: Delivery, by: int) -> None:
        self.count += by
        self.bytes += by * len(event[1])
