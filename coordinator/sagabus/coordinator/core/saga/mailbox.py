"""The events of one saga: those that came and nobody has taken, and who waits for one (H5).

A wait takes the oldest event of its name; the first to wait is the first served. A wait that is cancelled in the turn
in which its event came gives the event back. Nothing is read here: bodies are kept as they came.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass

from sagabus.coordinator.core.loop.loop import SagaFuture, SagaLoop

Delivery = tuple[str, bytes]
"""An event's name, and the body of the request that brought it."""


@dataclass(slots=True, eq=False)
class _Waiter:
    name: str
    future: SagaFuture[Delivery]


class Mailbox:
    """On one saga's loop."""

    __slots__ = ("_loop", "_waiters", "untaken")

    def __init__(self, loop: SagaLoop) -> None:
        self._loop = loop
        self._waiters: list[_Waiter] = []
        self.untaken: deque[Delivery] = deque()
        """In the order in which they came."""

    @property
    def awaited(self) -> list[str]:
        """The names that somebody waits for, in the order of waiting."""
        return [waiter.name for waiter in self._waiters]

    def deliver(self, event: Delivery) -> None:
        """By the loop's owner. Whoever waits for it goes on in the next pump."""
        if not self._handed_over(event):
            self.untaken.append(event)

    async def take(self, name: str) -> Delivery:
        """The oldest one of this name, or the next to come."""
        for index, event in enumerate(self.untaken):
            if event[0] == name:
                del self.untaken[index]
                return event
        return await self._next(name)

    async def _next(self, name: str) -> Delivery:
        waiter = _Waiter(name, self._loop.create_future())
        self._waiters.append(waiter)
        try:
            return await waiter.future
        except asyncio.CancelledError:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
            if waiter.future.done() and not waiter.future.cancelled():
                self._give_back(waiter.future.result())  # it came in the turn of the cancellation
            raise

    def _give_back(self, event: Delivery) -> None:
        """To who waits next; else it is the oldest of its name."""
        if not self._handed_over(event):
            self.untaken.appendleft(event)

    def _handed_over(self, event: Delivery) -> bool:
        for index, waiter in enumerate(self._waiters):
            if waiter.name == event[0] and not waiter.future.done():
                del self._waiters[index]
                self._loop.resolve(waiter.future, event)
                return True
        return False
