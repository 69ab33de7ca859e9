"""The coordinator's work on its shards: a batch of records and due timers on its way into one transaction.

    records -> read -> (dead letter | forward | start | input) -> load -> decide -> commit -> publish
    parked, released -> a notice for its saga ------------------^

What is remembered under a tenure is dropped as a whole when the tenure ends; all of it can be read again from the
store.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final
from uuid import UUID, uuid4

from sagabus.contracts.envelope import Record
from sagabus.contracts.names import SagaId
from sagabus.coordinator.core.saga.effects import Effects, RequestAnswer
from sagabus.coordinator.core.saga.state import SagaState
from sagabus.coordinator.shard.batch import Batch, Gathered
from sagabus.coordinator.shard.decisions import Decisions
from sagabus.coordinator.shard.loading import Loading
from sagabus.coordinator.shard.memory import ShardMemory
from sagabus.coordinator.shard.replaying import Replaying
from sagabus.coordinator.shard.retention import SagaRetention
from sagabus.coordinator.store.owners import keep_owner
from sagabus.coordinator.store.rows import ShardOwner
from sagabus.coordinator.store.write import Store
from sagabus.messaging.counters import Counters, Family
from sagabus.messaging.postgres.database import Database
from sagabus.messaging.publishing.dead_letter import DeadLetters
from sagabus.messaging.shards.tenure import Tenure
from sagabus.messaging.shards.turn import Turn

logger = logging.getLogger(__name__)

IDS_OF_A_PAGE: Final = 1_000
"""Ids that are read at a time when a shard is acquired."""

MOST_WARNED: Final = 1_000
"""Lines of which a process remembers that the log has them; beyond that it forgets all, and may say one again."""

Work = Mapping[Tenure, Sequence[Record]]
Closed = Callable[[Iterable[SagaId]], None]
Answered = Callable[[Iterable[RequestAnswer]], None]


class SagaProcessor:
    """Implements `sagabus.messaging.shards.ports.Processor`. clock: seconds since 1970.

    closed: told of sagas after the commit that closed them. answered: told of verbs after the commit that decided upon
    them. ids: gives each run of a saga its own (S13).
    retention: what is removed after turns; None: nothing.
    """

    def __init__(
        self,
        *,
        database: Database,
        store: Store,
        loading: Loading,
        dead_letters: DeadLetters,
        partitions: int,
        closed: Closed,
        answered: Answered = lambda _: None,
        clock: Callable[[], float] = time.time,
        ids: Callable[[], UUID] = uuid4,
        retention: SagaRetention | None = None,
        counters: Counters | None = None,
    ) -> None:
        counters = counters or Counters()
        self._database = database
        self._store = store
        self._loading = loading
        self._replaying = Replaying(database, loading)
        self._dead_letters = dead_letters
        self._partitions = partitions
        self._closed = closed
        self._answered = answered
        self._clock = clock
        self._ids = ids
        self._retention = retention
        self._memories: dict[Tenure, ShardMemory] = {}
        self._turned = 0
        self._deciding = asyncio.Lock()
        """Of turns that are under way at once, one is decided at a time: it is being written while the next one is."""
        self._warned: set[tuple[str, str]] = set()
        """Definitions, and what of them the log has its one line of (`Effects.log_once`)."""
        self.counts = counters.family(Family.RECORDS)
        self.kept_counts = counters.family(Family.KEPT_REQUESTS)

    async def acquired(self, tenure: Tenure) -> None:
        """Little is read here, page by page: sagas come back when something is there for them, and timers in time."""
        memory = ShardMemory(tenure, now=self._now, shards=self._partitions)
        await self._keep_owner(memory)
        await self._count_early(memory)
        await self._want_blocked(memory)
        self._memories[tenure] = memory

    async def _keep_owner(self, memory: ShardMemory) -> None:
        """Who has the shard; and whether its open sagas are to be gone through, after a loss of the bus (S6)."""
        definitions, tenure = self._loading.definitions, memory.tenure
        identity = definitions.identity
        owner = ShardOwner(tenure.shard, identity.host, identity.process, identity.instance, definitions.encoded())
        lost = tenure.lost_records if tenure.new_logs or tenure.lost_records else None
        async with self._database.transaction() as connection:
            schema = self._store.schema
            left = await keep_owner(connection, schema, owner, token=tenure.token, lost_records=lost)
        if left is not None:
            memory.go_through_all(left)

    async def _count_early(self, memory: ShardMemory) -> None:
        after, reads = "", self._loading.reads
        while True:
            async with self._database.transaction() as connection:
                page = await reads.early_counts(connection, memory.tenure.shard, after=after, most=IDS_OF_A_PAGE)
            for one in page:
                memory.early.know(one)
            if len(page) < IDS_OF_A_PAGE:
                return
            after = page[-1].saga_id

    async def _want_blocked(self, memory: ShardMemory) -> None:
        """Sagas that could not go on: after an acquisition it may be another code (H1)."""
        after, reads = "", self._loading.reads
        while True:
            async with self._database.transaction() as connection:
                page = await reads.blocked_ids(connection, memory.tenure.shard, after=after, most=IDS_OF_A_PAGE)
            memory.replays.want(page)
            if len(page) < IDS_OF_A_PAGE:
                return
            after = page[-1]

    def lost(self, tenure: Tenure) -> None:
        if self._retention is not None:
            self._retention.schedule.forget(tenure)
        memory = self._memories.pop(tenure, None)
        if memory is not None:
            memory.forget()

    def next_due(self) -> float | None:
        dues = [memory.next_due(self._turned) for tenure, memory in self._memories.items() if tenure.caught_up]
        return min(dues) / 1_000_000 if dues else None

    async def turn(self, work: Work) -> None:
        """Raises whatever the database raises; nothing is remembered then that was not committed."""
        now = self._now
        memories = {tenure: self._memories[tenure] for tenure in work}
        turn = Turn(work, schema=self._store.schema, dead_letters=self._dead_letters, at=now)
        batch = Batch(
            self._database,
            self._loading,
            memories,
            Decisions(turn, self._loading.namespace, now),
            self._partitions,
            self._ids,
            until=0 if self._retention is None else self._retention.remembered_until(now),
        )
        async with self._deciding:
            await batch.take_in(work)
            await batch.load()
            await batch.decide()
            await batch.prepare()
        gathered = await batch.commit(self._store)
        self._remember(batch.decisions, gathered)
        batch.forget_losses()
        self._turned = now
        for tenure, records in work.items():
            memories[tenure].unloaded.took(len(records))
        await self._replaying.go_on([*memories.values()], now=now)
        if self._retention is not None:
            await self._retention.schedule.after(work.keys())

    def _remember(self, decisions: Decisions, gathered: Gathered) -> None:
        """It is committed."""
        self.counts.update(decisions.counts)
        self.kept_counts.update(decisions.kept_counts)
        for saga, memory in decisions.begun:
            memory.early.start(saga.state.id)
        for saga, memory, effects in gathered:
            memory.note_timers(saga, effects)
            if effects.saga_changed:
                memory.tell_concerns(saga)
            if effects.log or effects.log_once or effects.raised:
                self._tell(saga.state, effects)
            if effects.answers:
                self._answered(effects.answers)
            memory.keep(saga)
        self._closed(saga.state.id for saga, _, _ in gathered if saga.state.is_closed)

    def _tell(self, state: SagaState, effects: Effects) -> None:
        extra = {"saga_id": state.id, "run": state.run}
        for words in effects.log:
            logger.warning("saga %s: %s", state.id, words, extra=extra)
        for words, error in effects.raised:
            logger.error("saga %s: %s", state.id, words, exc_info=error, extra=extra)
        for about, words in effects.log_once:
            if len(self._warned) > MOST_WARNED:
                self._warned.clear()
            if (state.definition, about) not in self._warned:
                self._warned.add((state.definition, about))
                logger.warning("saga %s, and perhaps others: %s", state.id, words, extra=extra)

    @property
    def _now(self) -> int:
        """Microseconds since 1970."""
        return round(self._clock() * 1_000_000)
