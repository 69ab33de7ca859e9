"""What one tenure knows by heart: its open sagas as far as they fit, its timers, its early requests.

All of it can be read again from the store; when the tenure ends it is dropped as a whole (S2).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Final

from sagabus.contracts.names import SagaId
from sagabus.coordinator.core.saga.effects import Effects
from sagabus.coordinator.core.saga.saga import Saga
from sagabus.coordinator.shard.timers import TimerPlace, TimerQueue
from sagabus.coordinator.shard.unloaded import UnloadedSagas
from sagabus.coordinator.store.rows import EarlyRequest
from sagabus.messaging.shards.tenure import Tenure

MOST_SAGAS: Final = 20_000
"""Open sagas in memory, a shard: about 10 KiB each. One that is not here costs a replay of its history."""


EARLY_LOOK: Final = 10_000_000
"""Microseconds between two looks for early requests that nobody has started."""


class ShardMemory:
    """Of one tenure."""

    def __init__(self, tenure: Tenure) -> None:
        self.tenure = tenure
        self.timers = TimerQueue()
        self.blocked: Sequence[SagaId] = ()
        """Sagas that were blocked at the take; the first turn tries whether their code is back."""
        self.silence = UnloadedSagas((), taken=0)
        self._early_look = 0
        self.last_early = 0
        """The last number given to an early request; each is given once."""
        self.early: defaultdict[SagaId, list[EarlyRequest]] = defaultdict(list)
        self._sagas: dict[SagaId, Saga] = {}

    def __len__(self) -> int:
        return len(self._sagas)

    def everybody(self) -> list[SagaId]:
        """All sagas that were open at the take. For its first turn, when none is in memory yet."""
        return self.silence.everybody()

    def unheard(self, now: int) -> list[SagaId]:
        """Some open sagas that nobody has loaded since the take; each is named once."""
        return self.silence.portion(self._sagas, now)

    def saga(self, saga_id: SagaId) -> Saga | None:
        return self._sagas.get(saga_id)

    def keep(self, saga: Saga) -> None:
        """After a commit: an open saga stays, most recently used last; a closed or blocked one goes."""
        state = saga.state
        self._sagas.pop(state.id, None)
        if state.is_closed or state.blocked:
            saga.evict()
            return
        self._sagas[state.id] = saga
        if len(self._sagas) > MOST_SAGAS:
            oldest = next(iter(self._sagas))
            self._sagas.pop(oldest).evict()

    def note_timers(self, saga: Saga, effects: Effects) -> None:
        state = saga.state
        for key in effects.timers_cleared:
            self.timers.clear(TimerPlace(state.id, state.run, key))
        for key, due in effects.timers_set.items():
            self.timers.set(TimerPlace(state.id, state.run, key), due)

    def know_early(self, early: EarlyRequest) -> None:
        self.early[early.saga_id].append(early)
        self.last_early = max(self.last_early, early.number)

    def outdated_early(self, before: int) -> list[EarlyRequest]:
        """Take those that came before this time: nobody has started their sagas. Looks through them now and then."""
        if before < self._early_look:
            return []
        self._early_look = before + EARLY_LOOK
        old = [early for kept in self.early.values() for early in kept if early.at < before]
        for early in old:
            self.early[early.saga_id].remove(early)
            if not self.early[early.saga_id]:
                del self.early[early.saga_id]
        return old

    def forget(self) -> None:
        """Drop everything; no saga's code runs on the way out (L4)."""
        for saga in self._sagas.values():
            saga.evict()
        self._sagas.clear()
        self.early.clear()
        self.timers = TimerQueue()
