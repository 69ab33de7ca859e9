"""The coordinator's side of its shards: a batch of records and due timers on its way into one transaction.

    records -> read -> (dead letter | forward | start | input) -> load -> decide -> commit -> publish
    parked, released -> a notice for its saga ------------------^

What a tenure remembers is dropped as a whole when the tenure ends; everything can be read again from the store.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final
from uuid import UUID, uuid4

from sagabus.contracts.envelope import Record
from sagabus.contracts.errors import MessageInvalid
from sagabus.contracts.names import SagaId
from sagabus.contracts.requests import Request
from sagabus.coordinator.core.saga.concern import ConcernKind
from sagabus.coordinator.core.saga.effects import TimerKey, TimerKind
from sagabus.coordinator.core.saga.history import Input, Kind
from sagabus.coordinator.core.saga.saga import Saga
from sagabus.coordinator.shard import parking
from sagabus.coordinator.shard.deciding import Deciding, Offer
from sagabus.coordinator.shard.loading import Loading
from sagabus.coordinator.shard.memory import ShardMemory
from sagabus.coordinator.shard.reading import read
from sagabus.coordinator.shard.retention import SagaRetention
from sagabus.coordinator.shard.timers import TimerPlace
from sagabus.coordinator.shard.unloaded import UnloadedSagas
from sagabus.coordinator.store.rows import SagaKey
from sagabus.coordinator.store.write import Store
from sagabus.messaging.bus.partition import partition_of
from sagabus.messaging.counters import Counters, Family
from sagabus.messaging.postgres.database import Connection, Database
from sagabus.messaging.publishing.dead_letter import DeadLetters
from sagabus.messaging.publishing.reroute import forwarded
from sagabus.messaging.shards.tenure import Tenure
from sagabus.messaging.shards.turn import Turn

logger = logging.getLogger(__name__)

MOST_TIMERS: Final = 2_000
"""Timers fired in one turn; the rest are due in the next, which follows at once."""

_TIMERS: Final = frozenset(TimerKind)

Work = Mapping[Tenure, Sequence[Record]]
Closed = Callable[[Iterable[SagaId]], None]


class SagaProcessor:
    """Implements `sagabus.messaging.shards.ports.Processor`. clock: seconds since 1970.

    closed: told of sagas after the commit that closed them.
    ids: gives each run of a saga its own (S13). purging: what retention does after turns; None: nothing is removed.
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
        clock: Callable[[], float] = time.time,
        ids: Callable[[], UUID] = uuid4,
        purging: SagaRetention | None = None,
        counters: Counters | None = None,
    ) -> None:
        counters = counters or Counters()
        self._database = database
        self._store = store
        self._loading = loading
        self._dead_letters = dead_letters
        self._partitions = partitions
        self._closed = closed
        self._clock = clock
        self._ids = ids
        self._purging = purging
        self._memories: dict[Tenure, ShardMemory] = {}
        self.counts = counters.family(Family.RECORDS)
        self.kept_counts = counters.family(Family.KEPT_REQUESTS)

    async def acquired(self, tenure: Tenure) -> None:
        """Timers and early requests are known by heart; sagas come back when something is there for them."""
        memory = self._memories[tenure] = ShardMemory(tenure)
        async with self._database.transaction() as connection:
            for row in await self._loading.reads.timers(connection, tenure.shard):
                if row.kind not in _TIMERS:  # its saga's history has what that release wrote, and stops it (H1)
                    logger.warning("saga %s has a timer %r that only a later release knows", row.id, row.kind)
                    continue
                key = TimerKey(TimerKind(row.kind), row.number)
                memory.timers.set(TimerPlace(row.id, row.run, key), row.due)
            for early in await self._loading.reads.early(connection, tenure.shard):
                memory.know_early(early)
            memory.blocked = await self._loading.reads.blocked_ids(connection, tenure.shard)
            open_ids = await self._loading.reads.open_ids(connection, tenure.shard)
        memory.silence = UnloadedSagas(open_ids, taken=round(self._clock() * 1_000_000))

    def lost(self, tenure: Tenure) -> None:
        if self._purging is not None:
            self._purging.pruning.forget(tenure)
        memory = self._memories.pop(tenure, None)
        if memory is not None:
            memory.forget()

    def next_due(self) -> float | None:
        dues = [m.timers.first() for tenure, m in self._memories.items() if tenure.caught_up]
        first = min((due for due in dues if due is not None), default=None)
        return None if first is None else first / 1_000_000

    async def turn(self, work: Work) -> None:
        """Raises whatever the database raises; nothing is remembered then that was not committed."""
        now = round(self._clock() * 1_000_000)
        turn = Turn(work, schema=self._store.schema, dead_letters=self._dead_letters, at=now)
        deciding = Deciding(turn, self._loading, now, self._ids)
        if self._purging is not None:
            deciding.until = self._purging.remembered_until(now)
        offers = [*await self._parked(work, turn), *self._read(work, deciding), *self._due(work, now)]
        await self._load(deciding, offers, work)
        for memory, given, record in offers:
            if isinstance(given, Request):
                assert record is not None
                deciding.start(memory, given, record)
            else:
                deciding.offer(Offer(memory, given, record))
        for tenure in work:
            deciding.expire_early(self._memories[tenure])
        await self._commit(deciding, work)
        if self._purging is not None:
            await self._purging.pruning.after(work)

    async def _parked(self, work: Work, turn: Turn) -> Iterable[_Read]:
        """What is parked and what is released, for its sagas' attention; released messages leave before all else."""
        released: Mapping[Tenure, Mapping[str, str]] = {}
        if turn.may_release:
            async with self._database.transaction() as connection:
                released = await turn.release(connection)
        return [
            (self._memories[tenure], notice, None)
            for tenure in work
            for notice in parking.notices(turn.parked(tenure), released.get(tenure, {}))
            if partition_of(notice.saga_id.encode(), self._partitions) == tenure.shard
        ]

    def _read(self, work: Work, deciding: Deciding) -> Iterable[_Read]:
        """Requests before replies: an id must be started before it is answered for."""
        found: list[_Read] = []
        for tenure, records in work.items():
            memory = self._memories[tenure]
            for record in records:
                given = self._read_one(memory, record, deciding)
                if given is not None:
                    found.append((memory, given, record))
        return found

    def _read_one(self, memory: ShardMemory, record: Record, deciding: Deciding) -> Request | Input | None:
        tenure = memory.tenure
        try:
            given = read(record, self._loading.namespace)
        except MessageInvalid as error:
            deciding.dead_letter(tenure, record, error.reason, error.message)
            return None
        if memory.saga(given.saga_id) is not None:
            return given
        home = partition_of(given.saga_id.encode(), self._partitions)
        if home == tenure.shard:
            return given
        self._forward(tenure, record, given.saga_id, home, deciding)
        return None

    def _forward(self, tenure: Tenure, record: Record, saga_id: SagaId, home: int, deciding: Deciding) -> None:
        message = forwarded(record, home, saga_id=saga_id)
        if message is not None:
            deciding.counts["forwarded"] += 1
            deciding.turn.send(tenure, message)
            return
        sentence = f"forwarded once already, and still not in partition {home} of {self._partitions}"
        deciding.dead_letter(tenure, record, "forwarded.twice", sentence)

    def _due(self, work: Work, now: int) -> Iterable[_Read]:
        """Timers fire only once all that waited in the topics has been taken in (H4)."""
        for tenure in work:
            if tenure.caught_up:
                memory = self._memories[tenure]
                for place in memory.timers.take_due(now, most=MOST_TIMERS):
                    yield memory, _timer_input(place), None

    async def _load(self, deciding: Deciding, offers: Sequence[_Read], work: Work) -> None:
        """Everything that this turn may touch is in memory afterwards."""
        ids: dict[SagaId, ShardMemory] = {}
        keys: dict[SagaKey, ShardMemory] = {}
        for memory, given, _ in offers:
            saga = memory.saga(given.saga_id)
            if saga is not None:
                deciding.known(saga)
            run = given.run if isinstance(given, Input) else None
            if saga is None:
                ids[given.saga_id] = memory
            elif run is not None and run != saga.state.run:
                keys[SagaKey(given.saga_id, run)] = memory
        restless = {memory: wanted for memory in self._of(work) if (wanted := self._restless(memory, deciding.now))}
        if not (ids or keys or restless):
            return
        async with self._database.transaction() as connection:
            await self._load_named(connection, deciding, ids, keys, offers)
            for memory, wanted in restless.items():
                await self._load_restless(connection, deciding, memory, wanted)

    def _of(self, work: Work) -> list[ShardMemory]:
        return [self._memories[tenure] for tenure in work]

    def _restless(self, memory: ShardMemory, now: int) -> list[SagaId]:
        """Sagas to be loaded though nothing came for them: blocked ones try again after a take (H1); after a loss of
        the bus all that is unanswered is sent again (S6); of the others some at a time, for their resends."""
        unheard = memory.everybody() if _bus_lost(memory.tenure) else memory.unheard(now)
        return sorted({*memory.blocked, *unheard})

    async def _load_named(
        self,
        connection: Connection,
        deciding: Deciding,
        ids: Mapping[SagaId, ShardMemory],
        keys: dict[SagaKey, ShardMemory],
        offers: Sequence[_Read],
    ) -> None:
        found = await self._loading.by_id(connection, list(ids), now=deciding.now) if ids else {}
        for saga in found.values():
            deciding.known(saga)
            deciding.touch(saga, ids[saga.state.id])
        for memory, given, _ in offers:
            saga_found = found.get(given.saga_id)
            run = given.run if isinstance(given, Input) else None
            if saga_found is not None and run is not None and saga_found.state.run != run:
                keys[SagaKey(given.saga_id, run)] = memory
        if keys:
            for key, saga in (await self._loading.by_key(connection, list(keys), now=deciding.now)).items():
                deciding.by_key[key] = saga
                deciding.touch(saga, keys[key])
        if unknown := ids.keys() - found.keys():
            deciding.started = await self._loading.reads.started_ids(connection, unknown)

    async def _load_restless(
        self, connection: Connection, deciding: Deciding, memory: ShardMemory, ids: Sequence[SagaId]
    ) -> None:
        missing = [id for id in ids if id not in deciding.by_id]
        for saga in (await self._loading.by_id(connection, missing, now=deciding.now)).values():
            deciding.known(saga)
        for saga in (deciding.by_id[id] for id in ids if id in deciding.by_id):
            deciding.touch(saga, memory)
            self._after_loss(saga, memory.tenure, deciding.now)

    def _after_loss(self, saga: Saga, tenure: Tenure, now: int) -> None:
        if saga.state.blocked or saga.state.is_closed or not _bus_lost(tenure):
            return
        if tenure.lost_records:
            notice = f"records of {', '.join(tenure.lost_records)} were removed by retention before they were read"
            lost = ConcernKind.RECORDS_LOST
            saga.take(Input(saga.state.id, None, Kind.NOTICE, name=lost, payload=notice.encode()), now=now)
        saga.resend_outstanding(now=now)

    async def _commit(self, deciding: Deciding, work: Work) -> None:
        gathered = list(deciding.gather())
        writes = deciding.writes.encoded()
        async with self._database.transaction() as connection:
            await deciding.turn.write(connection)
            await self._store.write(connection, writes)
        deciding.turn.committed()
        self.counts.update(deciding.counts)
        self.kept_counts.update(deciding.kept_counts)
        for saga, memory, effects in gathered:
            memory.note_timers(saga, effects)
            memory.keep(saga)
        for tenure in work:
            self._memories[tenure].blocked = ()
            tenure.new_logs = tenure.lost_records = ()
        self._closed(saga.state.id for saga, _, _ in gathered if saga.state.is_closed)


_Read = tuple[ShardMemory, Request | Input, Record | None]


def _bus_lost(tenure: Tenure) -> bool:
    return bool(tenure.new_logs or tenure.lost_records)


def _timer_input(place: TimerPlace) -> Input:
    kind, number = place.key
    cause = f"{place.saga_id}:{place.run}:timer:{kind}:{number}"
    return Input(place.saga_id, place.run, Kind.TIMER, number, name=kind, cause=cause)
