"""The timers of one shard, in the order in which they fire: (due, saga, number). A heap with lazy deletion.

Stored timers are in memory up to a horizon; a turn reads on from there, page by page, before they are due. Those that
are set beyond it are stored alone. So a shard with hundreds of thousands of sleeping sagas is taken at once.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from typing import Final

from sagabus.contracts.names import RunId, SagaId
from sagabus.coordinator.core.saga.effects import IN_MEMORY, TimerKey
from sagabus.coordinator.store.rows import TimerCursor

HORIZON_MICROSECONDS: Final = 60_000_000
"""How far ahead stored timers are read."""

READ_AHEAD_MICROSECONDS: Final = 30_000_000
"""They are read on when less than this is left."""

_BEGINNING: Final = TimerCursor(0, "", "", "", 0)
_AFTER_ALL: Final = "\U0010ffff"
"""After every id, as PostgreSQL compares them too (collation C)."""


TimerPlace = tuple[SagaId, RunId, TimerKey]
"""Which timer of which saga. A plain tuple: one is made for each command, and for each answer, in a tenth of the time.
"""


class TimerQueue:
    """Setting a timer again moves it. due: microseconds since 1970."""

    def __init__(self) -> None:
        self.read_to = _BEGINNING
        """Stored timers up to here are in memory."""
        self._due: dict[TimerPlace, int] = {}
        self._heap: list[tuple[int, TimerPlace]] = []

    def __len__(self) -> int:
        return len(self._due)

    def set(self, place: TimerPlace, due: int) -> None:
        """A stored timer beyond the horizon will be read when its time comes near."""
        saga_id, run, (kind, number) = place
        if kind not in IN_MEMORY and (due, saga_id, run, kind, number) > self.read_to:
            self.clear(place)
        else:
            self._due[place] = due
            heapq.heappush(self._heap, (due, place))

    def clear(self, place: TimerPlace) -> None:
        self._due.pop(place, None)
        if len(self._heap) > 1_000 and len(self._heap) > 4 * len(self._due):
            self._heap = [(due, place) for place, due in self._due.items()]  # else answered calls pile up until due
            heapq.heapify(self._heap)

    def wants_more(self, now: int) -> bool:
        """Whether the next page is to be read: the horizon is near. What is due fires before more is read."""
        near = self.read_to.due < now + READ_AHEAD_MICROSECONDS
        return near and (self.read_to.due > now or not self._is_due(now))

    def read_on(self, timers: Iterable[tuple[TimerPlace, int]], read_to: TimerCursor) -> None:
        """The timers between the horizon so far and the new one."""
        self.read_to = read_to
        for place, due in timers:
            self.set(place, due)

    def first(self) -> int:
        """When the next one is due, or more are to be read."""
        self._skip_cleared()
        return min(self._heap[0][0], self.read_to.due) if self._heap else self.read_to.due

    def take_due(self, now: int, *, most: int) -> Iterator[TimerPlace]:
        """Those that are due, each once; at most so many."""
        for _ in range(most):
            if not self._is_due(now):
                return
            _, place = heapq.heappop(self._heap)
            del self._due[place]
            yield place

    def _is_due(self, now: int) -> bool:
        self._skip_cleared()
        return bool(self._heap) and self._heap[0][0] <= now

    def _skip_cleared(self) -> None:
        heap, due = self._heap, self._due
        while heap and due.get(heap[0][1]) != heap[0][0]:
            heapq.heappop(heap)


def everything_until(due: int) -> TimerCursor:
    """After all timers that are due then."""
    return TimerCursor(due, _AFTER_ALL, "", "", 0)
