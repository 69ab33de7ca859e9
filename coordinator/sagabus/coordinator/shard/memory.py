"""What one tenure knows by heart: its open sagas as far as they fit, its next timers, how many requests are kept.

All of it can be read again from the store; when the tenure ends it is dropped as a whole (S2).
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Collection, Sequence
from shlex import quote
from typing import Final

from sagabus.contracts.names import SagaId
from sagabus.coordinator.core.saga.concern import Concern, read_concerns
from sagabus.coordinator.core.saga.effects import Effects
from sagabus.coordinator.core.saga.saga import Saga
from sagabus.coordinator.shard.early_requests import EarlyRequests
from sagabus.coordinator.shard.replays import Replays
from sagabus.coordinator.shard.timers import TimerQueue
from sagabus.coordinator.shard.unloaded import UnloadedSagas
from sagabus.coordinator.store.rows import SagaKey, SagaRow
from sagabus.messaging.shards.tenure import Tenure

logger = logging.getLogger(__name__)

MOST_SAGAS: Final = 20_000
"""Open sagas in memory, a shard: about 10 KiB each. One that is not here costs a replay of its history."""

LOOK_FOR_STARTS_MICROSECONDS: Final = 10_000_000
"""After a start whose saga is known, and not in memory, more are expected: somebody replays a topic, or tries again.
Each would have the starts of its turn decided twice; to look for them first costs a turn two reads."""


class ShardMemory:
    """Of one tenure. now: when it began, in microseconds since 1970. shards: of the cluster."""

    def __init__(self, tenure: Tenure, *, now: int, shards: int) -> None:
        self.tenure = tenure
        self.timers = TimerQueue()
        self.early = EarlyRequests()
        self.replays = Replays()
        self.unloaded = UnloadedSagas(acquired=now, shards=shards)
        self.lost_records: Sequence[str] | None = None
        """Topics whose records were lost; not None while all open sagas are gone through after a loss of the bus (S6).
        """
        self.starts_known_at: int | None = None
        """When a start came last whose saga was known, in microseconds since 1970."""
        self._sagas: OrderedDict[SagaId, Saga] = OrderedDict()
        self._concerns: dict[SagaKey, frozenset[Concern]] = {}

    def __len__(self) -> int:
        return len(self._sagas)

    @property
    def loaded(self) -> Collection[SagaId]:
        """The sagas in memory."""
        return self._sagas.keys()

    def next_due(self, now: int) -> int:
        """When a turn has something to do here, in microseconds since 1970. now: of the last turn."""
        follows = self.replays.has_ready or self.replays.is_busy or self.early.may_be_delivered
        if follows or self.has_gone_through_all:
            return now + 1
        due = self.timers.first()
        return due if self.unloaded.is_done else min(due, max(self.unloaded.due, now + 1))

    def go_through_all(self, lost_records: Sequence[str]) -> None:
        """The bus has lost what was sent, and these topics what was to be read."""
        self.lost_records = lost_records
        self.unloaded.hurry()

    @property
    def has_gone_through_all(self) -> bool:
        """After a loss, all open sagas have been sent again what is unanswered."""
        at_rest = self.unloaded.is_done and not self.replays.is_busy and not self.replays.has_ready
        return self.lost_records is not None and at_rest

    def looks_for_starts(self, now: int) -> bool:
        """Whether an id that is started is looked for before anything is decided. Otherwise it is presumed new."""
        known_at = self.starts_known_at
        return known_at is not None and 0 <= now - known_at < LOOK_FOR_STARTS_MICROSECONDS

    @property
    def lets_wait(self) -> bool:
        """Whether some saga is on its way back, or has records that are kept. Nothing has to wait otherwise."""
        return bool(self.replays.under_way or self.early.kept)

    def saga(self, saga_id: SagaId) -> Saga | None:
        return self._sagas.get(saga_id)

    def keep(self, saga: Saga) -> None:
        """After a commit: an open saga stays, most recently used last; a closed or blocked one goes."""
        state, sagas = saga.state, self._sagas
        if state.is_closed or state.blocked:
            if sagas.get(state.id) is saga:
                del sagas[state.id]
            self.unloaded.heard_of(state.id)
            if saga.wants_its_history:
                self.replays.want([state.id])
            saga.evict()
            return
        sagas[state.id] = saga
        sagas.move_to_end(state.id)
        if len(sagas) > MOST_SAGAS:
            _, oldest = sagas.popitem(last=False)
            oldest.evict()

    def note_timers(self, saga: Saga, effects: Effects) -> None:
        timers, id, run = self.timers, saga.state.id, saga.state.run
        for key in effects.timers_cleared:
            timers.clear((id, run, key))
        for key, due in effects.timers_set.items():
            timers.set((id, run, key), due)

    def know_concerns(self, row: SagaRow) -> None:
        """As they are stored: they have been told."""
        if row.attention is not None:
            self._concerns[row.key] = frozenset(read_concerns(row.concerns, attention=row.attention))

    def tell_concerns(self, saga: Saga) -> None:
        """After a commit: each new one is a line of the log."""
        concerns = saga.state.concerns
        if not (concerns or self._concerns):
            return
        key = SagaKey(saga.state.id, saga.state.run)
        told = self._concerns.pop(key, frozenset())
        for concern in concerns:
            if concern not in told:
                self._tell(saga, concern)
        if concerns and not saga.state.is_closed:
            self._concerns[key] = frozenset(concerns)

    @staticmethod
    def _tell(saga: Saga, concern: Concern) -> None:
        state, number = saga.state, f" {concern.number}" if concern.number else ""
        logger.warning(
            "saga %s needs attention (%s%s): %s; cure: %s; see `sagabus show %s`", state.id, concern.kind, number,
            state.concerns[concern], state.cure_of(concern), quote(state.id),
            extra={"saga_id": state.id, "run": state.run, "step": concern.number or None},
        )  # fmt: skip

    def forget(self) -> None:
        """Drop everything; no saga's code runs on the way out (L4)."""
        for saga in self._sagas.values():
            saga.evict()
        self._sagas.clear()
        self.replays.forget()
        self.early = EarlyRequests()
        self.timers = TimerQueue()
