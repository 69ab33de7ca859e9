"""Records that cannot be taken in yet: nobody has started their saga, or its long history is being replayed.

They are rows, and only their number is known here: whoever dies takes nothing along. A saga takes them in, in the order
in which they came and before anything newer, as soon as it is there.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from sagabus.contracts.names import SagaId
from sagabus.coordinator.store.rows import EarlyCount

EARLY_LIMIT: Final = 100
"""Requests kept for an id that has not been started; producers overtake each other, but not without end."""

EARLY_MICROSECONDS: Final = 3_600 * 1_000_000
"""How long they are kept for an id that nobody starts."""

EXPIRED_IDS_OF_A_TURN: Final = 20
"""Each with a hundred requests at most; the next turn goes on."""

DELIVERED_OF_A_TURN: Final = 500
"""Records that come back into one turn."""

LOOKED_AT_OF_A_TURN: Final = 1_000
"""Sagas on their way that are passed over in one turn, in search of one that is there. The next turn goes on."""

HEAP_SLACK: Final = 1_000
"""Entries beyond twice the ids, after which the heap is made anew."""


@dataclass(slots=True)
class _Kept:
    count: int
    first_at: int
    started: bool


class EarlyRequests:
    """Of one tenure: how many are kept, by saga id."""

    def __init__(self) -> None:
        self.kept: dict[SagaId, _Kept] = {}
        """How many, by saga id; without those of which none is left."""
        self._started: OrderedDict[SagaId, None] = OrderedDict()
        self._waiting: list[tuple[int, SagaId]] = []
        """A heap of ids that nobody has started, by the time of their first request. Some have been since."""
        self._last_number = 0

    def know(self, found: EarlyCount) -> None:
        """As it is stored."""
        self._last_number = max(self._last_number, found.last_number)
        self.kept[found.saga_id] = _Kept(found.kept, found.first_at, found.started)
        if found.started:
            self._started[found.saga_id] = None
        else:
            self.wait(found.saga_id, found.first_at)

    def add(self, id: SagaId, *, at: int, started: bool = False) -> int:
        """One more; its number."""
        self._last_number += 1
        kept = self.kept.get(id)
        if kept is None:
            kept = self.kept[id] = _Kept(0, at, started)
            if not started:
                self.wait(id, at)
        kept.count += 1
        if started:
            self.start(id)
        return self._last_number

    def start(self, id: SagaId) -> None:
        """Its saga is there now."""
        if id in self.kept:
            self.kept[id].started = True
            self._started[id] = None

    def remove(self, id: SagaId) -> None:
        """One of them has been taken in, or is a dead letter."""
        kept = self.kept[id]
        kept.count -= 1
        if not kept.count:
            del self.kept[id]
            self._started.pop(id, None)

    def count(self, id: SagaId) -> int:
        kept = self.kept.get(id)
        return 0 if kept is None else kept.count

    def are_full(self, id: SagaId) -> bool:
        return self.count(id) >= EARLY_LIMIT

    def is_gone(self, id: SagaId) -> None:
        """Its saga is not there after all: what is kept for it waits for a start."""
        if id in self._started:
            del self._started[id]
            self.kept[id].started = False
            self.wait(id, self.kept[id].first_at)

    def wait(self, id: SagaId, since: int) -> None:
        """For a start: since then nobody has started it."""
        self.kept[id].first_at = since
        heapq.heappush(self._waiting, (since, id))
        if len(self._waiting) > 2 * len(self.kept) + HEAP_SLACK:
            self._waiting = [(kept.first_at, id) for id, kept in self.kept.items() if not kept.started]
            heapq.heapify(self._waiting)

    @property
    def may_be_delivered(self) -> bool:
        """Whether something is kept for a saga that is there."""
        return bool(self._started)

    def deliverable(self, is_under_way: Callable[[SagaId], bool]) -> list[SagaId]:
        """Whose sagas are there; as many as fit into a turn, and one in any case.

        Those that are under way are passed over, and come last in the next turn.
        """
        chosen: list[SagaId] = []
        passed: list[SagaId] = []
        room = DELIVERED_OF_A_TURN
        for id in self._started:
            if is_under_way(id):
                passed.append(id)
                if len(passed) == LOOKED_AT_OF_A_TURN:
                    break
                continue
            room -= self.kept[id].count
            if chosen and room < 0:
                break
            chosen.append(id)
        for id in passed:
            self._started.move_to_end(id)
        return chosen

    def expired(self, now: int) -> list[SagaId]:
        """Of ids that nobody has started in time; some of them, the oldest first.

        Each is named once: who is still waiting after that is to be told by `wait`.
        """
        old: list[SagaId] = []
        while self._waiting and self._waiting[0][0] < now - EARLY_MICROSECONDS and len(old) < EXPIRED_IDS_OF_A_TURN:
            since, id = heapq.heappop(self._waiting)
            kept = self.kept.get(id)
            if kept is not None and not kept.started and kept.first_at == since and id not in old:
                old.append(id)
        return old
