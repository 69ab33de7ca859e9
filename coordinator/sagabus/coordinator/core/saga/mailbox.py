"""The events of one saga: those that came and nobody has taken, and who waits for one (H5).

A wait takes the oldest event of its name that it wants; the first to wait is the first served. A wait that is
cancelled in the turn in which its event came gives the event back. Nothing is read here: bodies are kept as they came.

A wait may want certain events only: then its `look` is asked, once for each event. What a wait has left it is not shown
again: a new event is shown to those that wait, a new wait to the events that are kept. So nothing is asked twice.
"""

from __future__ import annotations

import asyncio
from bisect import insort
from collections import deque
from collections.abc import Callable
from itertools import islice
from operator import attrgetter
from typing import Any, Final, NamedTuple

from sagabus.coordinator.core.loop.loop import SagaFuture, SagaLoop


class Arrival:
    """An event that came. number: in the order of coming. body: of the request that brought it.

    readings: by model what it was read as, for those waits that had to read it to know whether they want it.
    """

    __slots__ = ("body", "name", "number", "readings")

    def __init__(self, name: str, body: bytes, number: int) -> None:
        self.name = name
        self.body = body
        self.number = number
        self.readings: dict[type[Any], Any] | None = None


Look = Callable[[Arrival], bool | None]
"""Whether a wait wants this event. None: it cannot read it, and sets it aside; then nobody gets it. May raise: then the
event is left, and the wait ends with what was raised. Only called while the loop is pumped."""


class _Wait(NamedTuple):
    """since: on the loop's clock. number: in the order of waiting. look: None for a wait that wants any event."""

    since: int
    number: int
    look: Look | None


_Waiters = dict[SagaFuture[Arrival], _Wait]
"""In the order of waiting."""

_NUMBER: Final = attrgetter("number")


class Mailbox:
    """On one saga's loop."""

    __slots__ = ("_arrived", "_loop", "_new", "_untaken", "_waiters", "_waits", "bytes", "count", "has_changed")

    def __init__(self, loop: SagaLoop) -> None:
        self._loop = loop
        self._waiters: dict[str, _Waiters] = {}
        """By name; none without anybody who waits."""
        self._untaken: dict[str, deque[Arrival]] = {}
        """By name, in the order in which they came; none without an event."""
        self._new: deque[Arrival] = deque()
        """Those among them that are still to be shown to who waits, in the pump that comes."""
        self._arrived = 0
        self._waits = 0
        self.count = 0
        """Events that nobody has taken."""
        self.bytes = 0
        """Of their bodies."""
        self.has_changed = False
        """A wait has begun or ended, an event was kept or taken. Whoever looks at it resets it."""

    def awaited(self, *, most: int) -> list[tuple[int, str, bool]]:
        """Since when who is served next waits for an event of each name, on the loop's clock; in this order. And
        whether all who wait for this name want certain events only."""
        firsts = sorted((next(iter(waiters.values())).since, name) for name, waiters in self._waiters.items())
        return [(since, name, self._all_look(name)) for since, name in firsts[:most]]

    def _all_look(self, name: str) -> bool:
        return all(wait.look is not None for wait in self._waiters[name].values())

    def kept(self, *, most: int) -> list[tuple[str, int]]:
        """Names of events that nobody has taken, and how many of each; the first that came first."""
        return [(name, len(events)) for name, events in islice(self._untaken.items(), most)]

    @property
    def is_awaited(self) -> bool:
        """Whether anybody waits for an event."""
        return bool(self._waiters)

    def close(self) -> None:
        """The saga leaves memory: nobody waits any more. What its waits want knows the saga, which knows this."""
        self._waiters.clear()
        self._new.clear()

    def deliver(self, name: str, body: bytes) -> None:
        """By the loop's owner. Whoever waits for it goes on in the next pump."""
        self._arrived += 1
        event = Arrival(name, body, self._arrived)
        waiters = self._waiters.get(name, {})
        found = next((future for future in waiters if not future.done()), None)
        if found is not None and waiters[found].look is None:
            self._hand_over(event, found)
            return
        self._keep(event)
        if found is not None:
            if not self._new:
                self._loop.call(self._show_new)
            self._new.append(event)

    async def take(self, name: str, *, since: int, look: Look | None = None) -> Arrival:
        """The oldest one of this name that it wants, or the next to come. since: when the wait began, on the loop's
        clock. Raises what `look` raises."""
        if self._new:
            self._show_new()  # who waited before comes first
        event = self._oldest(name, look) if name in self._untaken else None
        return event if event is not None else await self._next(name, since, look)

    def _oldest(self, name: str, look: Look | None) -> Arrival | None:
        if look is None:
            event = self._untaken[name][0]
            self._drop(event)
            return event
        for event in tuple(self._untaken[name]):
            wanted = look(event)
            if wanted is False:
                continue
            self._drop(event)
            if wanted:
                return event
        return None

    async def _next(self, name: str, since: int, look: Look | None) -> Arrival:
        future: SagaFuture[Arrival] = self._loop.create_future()
        self._waits += 1
        wait = _Wait(since, self._waits, look)
        self._waiters.setdefault(name, {})[future] = wait
        self.has_changed = True
        try:
            return await future
        except asyncio.CancelledError as gone:
            gone.add_note(f"while it waited for event {name}")  # which a timeout would not say
            self._leave(name, future)
            if future.done() and not future.cancelled() and future.exception() is None:
                self._give_back(future.result(), wait)  # it came in the turn of the cancellation
            raise

    def _give_back(self, event: Arrival, wait: _Wait) -> None:
        """To who waits next and wants it; else it is kept at its place. Who waits longer than this one has left it."""
        if not self._shown(event, behind=wait.number):
            self._keep(event)

    def _show_new(self) -> None:
        """In a pump, since `look` is code of the saga's author."""
        while self._new:
            event = self._new.popleft()
            if self._shown(event):
                self._drop(event)

    def _shown(self, event: Arrival, *, behind: int = 0) -> bool:
        """To those that wait, in their order, from this number on. Whether it is taken now, or set aside."""
        waiters = self._waiters.get(event.name, {})
        ended: list[SagaFuture[Arrival]] = []
        found: SagaFuture[Arrival] | None = None
        wanted: bool | None = False
        for future, wait in waiters.items():
            if wait.number <= behind or future.done():
                continue
            try:
                wanted = wait.look is None or wait.look(event)
            except Exception as error:
                self._loop.reject(future, error)
                ended.append(future)
                continue
            if wanted is not False:
                found = future
                break
        for future in ended:
            self._leave(event.name, future)
        if found is not None and wanted:
            self._hand_over(event, found)
        return found is not None

    def _hand_over(self, event: Arrival, waiter: SagaFuture[Arrival]) -> None:
        self._leave(event.name, waiter)
        self._loop.resolve(waiter, event)

    def _leave(self, name: str, future: SagaFuture[Arrival]) -> None:
        """It waits no more. Idempotent."""
        waiters = self._waiters.get(name, {})
        waiters.pop(future, None)
        if not waiters:
            self._waiters.pop(name, None)
        self.has_changed = True

    def _keep(self, event: Arrival) -> None:
        events = self._untaken.setdefault(event.name, deque())
        if not events or events[-1].number < event.number:
            events.append(event)
        else:  # it was given back
            insort(events, event, key=_NUMBER)
        self._counted(event, 1)

    def _drop(self, event: Arrival) -> None:
        """It is kept no more. Mostly it is the oldest or the newest: these are at hand, however many are kept."""
        events = self._untaken[event.name]
        if events[0] is event:
            events.popleft()
        elif events[-1] is event:
            events.pop()
        else:
            events.remove(event)
        if not events:
            del self._untaken[event.name]
        self._counted(event, -1)

    def _counted(self, event: Arrival, by: int) -> None:
        self.has_changed = True
        self.count += by
        self.bytes += by * len(event.body)
