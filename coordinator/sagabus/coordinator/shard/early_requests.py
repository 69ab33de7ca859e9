"""Records that cannot be taken in yet: nobody has started their saga, or its long history is being replayed.

They are rows, and only their number is known here: whoever dies takes nothing along. A saga takes them in, in the order
in which they came and before anything newer, as soon as it is there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sagabus.contracts.names import SagaId
from sagabus.coordinator.store.rows import EarlyCount

EARLY_LIMIT: Final = 100
"""Requests kept for an id that has not been started; producers overtake each other, but not without end."""

EARLY_MICROSECONDS: Final = 3_600 * 1_000_000
"""How long they are kept for an id that nobody starts."""

EARLY_LOOK_MICROSECONDS: Final = 10_000_000
"""Between two looks for those that nobody has started."""

EXPIRED_IDS_OF_A_TURN: Final = 20
"""Each with a hundred requests at most; the next turn goes on."""

DELIVERED_OF_A_TURN: Final = 500
"""Records that come back into one turn."""


@dataclass(slots=True)
class _Kept:
    count: int
    first_at: int
    started: bool


class EarlyRequests:
    """Of one tenure: how many are kept, by saga id."""

    def __init__(self) -> None:
        self._kept: dict[SagaId, _Kept] = {}
        self._started: dict[SagaId, None] = {}
        self._last_number = 0
        self._look = 0

    def know(self, found: EarlyCount) -> None:
        """As it is stored."""
        self._last_number = max(self._last_number, found.last_number)
        self._kept[found.saga_id] = _Kept(found.kept, found.first_at, found.started)
        if found.started:
            self._started[found.saga_id] = None

    def add(self, id: SagaId, *, at: int, started: bool = False) -> int:
        """One more; its number."""
        self._last_number += 1
        kept = self._kept.setdefault(id, _Kept(0, at, started))
        kept.count += 1
        if started:
            self.start(id)
        return self._last_number

    def start(self, id: SagaId) -> None:
        """Its saga is there now."""
        if id in self._kept:
            self._kept[id].started = True
            self._started[id] = None

    def remove(self, id: SagaId) -> None:
        """One of them has been taken in, or is a dead letter."""
        kept = self._kept[id]
        kept.count -= 1
        if not kept.count:
            del self._kept[id]
            self._started.pop(id, None)

    def count(self, id: SagaId) -> int:
        kept = self._kept.get(id)
        return 0 if kept is None else kept.count

    def are_full(self, id: SagaId) -> bool:
        return self.count(id) >= EARLY_LIMIT

    def is_gone(self, id: SagaId) -> None:
        """Its saga is not there after all: what is kept for it waits for a start."""
        if id in self._started:
            del self._started[id]
            self._kept[id].started = False

    @property
    def may_be_delivered(self) -> bool:
        """Whether something is kept for a saga that is there."""
        return bool(self._started)

    def deliverable(self) -> list[SagaId]:
        """Whose sagas are there; as many as fit into a turn, and one in any case."""
        chosen: list[SagaId] = []
        room = DELIVERED_OF_A_TURN
        for id in self._started:
            room -= self._kept[id].count
            if chosen and room < 0:
                break
            chosen.append(id)
        return chosen

    def expired(self, now: int) -> list[SagaId]:
        """Of ids that nobody has started in time; some of them. Looks through all of them now and then."""
        if now < self._look:
            return []
        before = now - EARLY_MICROSECONDS
        old = [id for id, kept in self._kept.items() if kept.first_at < before and not kept.started]
        if len(old) <= EXPIRED_IDS_OF_A_TURN:
            self._look = now + EARLY_LOOK_MICROSECONDS
        return old[:EXPIRED_IDS_OF_A_TURN]
