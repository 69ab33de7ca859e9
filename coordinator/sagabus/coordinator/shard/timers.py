"""The timers of one shard, in the order in which they fire: (due, saga, number). A heap with lazy deletion."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import NamedTuple

from sagabus.contracts.names import RunId, SagaId
from sagabus.coordinator.core.saga.effects import TimerKey


class TimerPlace(NamedTuple):
    """Which timer of which saga."""

    saga_id: SagaId
    run: RunId
    key: TimerKey


class TimerQueue:
    """Setting a timer again moves it. due: microseconds since 1970."""

    def __init__(self) -> None:
        self._due: dict[TimerPlace, int] = {}
        self._heap: list[tuple[int, TimerPlace]] = []

    def __len__(self) -> int:
        return len(self._due)

    def set(self, place: TimerPlace, due: int) -> None:
        self._due[place] = due
        heapq.heappush(self._heap, (due, place))

    def clear(self, place: TimerPlace) -> None:
        self._due.pop(place, None)
        if len(self._heap) > 1_000 and len(self._heap) > 4 * len(self._due):
            self._heap = [(due, place) for place, due in self._due.items()]  # else answered calls pile up until due
            heapq.heapify(self._heap)

    def first(self) -> int | None:
        """When the next one is due."""
        self._skip_cleared()
        return self._heap[0][0] if self._heap else None

    def take_due(self, now: int, *, most: int) -> Iterator[TimerPlace]:
        """Those that are due, each once; at most so many."""
        for _ in range(most):
            self._skip_cleared()
            if not self._heap or self._heap[0][0] > now:
                return
            _, place = heapq.heappop(self._heap)
            del self._due[place]
            yield place

    def _skip_cleared(self) -> None:
        heap, due = self._heap, self._due
        while heap and due.get(heap[0][1]) != heap[0][0]:
            heapq.heappop(heap)
