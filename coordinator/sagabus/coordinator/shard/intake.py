"""What is there for the sagas of one turn, in the order in which it is decided upon.

    sagas that come back -> notices -> kept records -> new records -> due timers

A record that cannot be understood is a dead letter, one of another shard is forwarded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from sagabus.contracts.envelope import Record
from sagabus.contracts.errors import MessageInvalid
from sagabus.contracts.names import SagaId
from sagabus.contracts.requests import Request
from sagabus.coordinator.core.saga.effects import TimerKey, TimerKind
from sagabus.coordinator.core.saga.history import Input
from sagabus.coordinator.shard import parking
from sagabus.coordinator.shard.decisions import Decisions
from sagabus.coordinator.shard.delivery import EARLY_EXPIRED
from sagabus.coordinator.shard.early_requests import DELIVERED_OF_A_TURN, EARLY_MICROSECONDS
from sagabus.coordinator.shard.memory import ShardMemory
from sagabus.coordinator.shard.pace import LOOK_EVERY, Pace
from sagabus.coordinator.shard.reading import broken_reply, read, timer_input
from sagabus.coordinator.shard.timers import HORIZON_MICROSECONDS, TimerPlace, everything_until
from sagabus.coordinator.store.read import Reads
from sagabus.coordinator.store.rows import EarlyRequest, TimerRow
from sagabus.messaging.bus.partition import partition_of
from sagabus.messaging.postgres.database import Database
from sagabus.messaging.publishing.reroute import MOST_HEADERS, fits, forwarded
from sagabus.messaging.shards.tenure import Tenure

TIMERS_OF_A_TURN: Final = 2_000
"""Fired; the rest are due in the next turn, which follows at once."""

TIMER_PAGE: Final = 2_000
"""Stored timers read at a time."""

_TIMERS: Final = frozenset(TimerKind)


Incoming = tuple[ShardMemory, Request | Input, Record | None]
"""A start or an input on its way to its saga, and the record that it came in; a timer or a notice has none."""


@dataclass(slots=True)
class Intake:
    """Of one turn."""

    database: Database
    reads: Reads
    partitions: int
    decisions: Decisions
    pace: Pace
    incoming: list[Incoming] = field(default_factory=list)
    noticed: set[SagaId] = field(default_factory=set)
    """Sagas of which something is parked, or released, in this turn: no other one would tell them."""

    async def notices(self, memories: Mapping[Tenure, ShardMemory]) -> None:
        """What is parked and what is released, for its sagas' attention; released messages leave before all else."""
        turn, released = self.decisions.turn, {}
        if turn.may_release:
            released = {**await self.database.read(turn.release)}
        for tenure, memory in memories.items():
            for notice in parking.notices(turn.parked(tenure), released.get(tenure, {})):
                self.noticed.add(notice.saga_id)
                if partition_of(notice.saga_id.encode(), self.partitions) == tenure.shard:
                    self.incoming.append((memory, notice, None))

    def put_aside(self, memory: ShardMemory, timers: Iterable[Input]) -> None:
        """They had to wait for their saga."""
        self.incoming += [(memory, timer, None) for timer in timers]

    async def stored(self, memory: ShardMemory) -> None:
        """Timers that come near; kept records whose sagas are there now, or will never be."""
        now, shard = self.decisions.now, memory.tenure.shard
        deliverable = memory.early.deliverable(lambda id: memory.replays.of(id) is not None)
        expired = memory.early.expired(now)
        if memory.timers.wants_more(now):
            await self._timers(memory, until=now + HORIZON_MICROSECONDS)
        for ids in filter(None, (deliverable, expired)):
            early = partial(self.reads.early, shard=shard, ids=ids, most=DELIVERED_OF_A_TURN)
            kept = await self.database.read(early)
            if ids is deliverable:
                await self.records(memory, kept)
            else:
                self._expire(memory, ids, kept)

    async def _timers(self, memory: ShardMemory, *, until: int) -> None:
        queue, shard = memory.timers, memory.tenure.shard
        page = await self.database.read(
            partial(self.reads.timers, shard=shard, after=queue.read_to, until=until, most=TIMER_PAGE)
        )
        queue.read_on(_known(page), page[-1].cursor if len(page) == TIMER_PAGE else everything_until(until))

    def _expire(self, memory: ShardMemory, ids: Iterable[SagaId], kept: Iterable[EarlyRequest]) -> None:
        """Nobody has started their sagas in time. Of some, more may be kept than was read, or a younger request."""
        oldest: dict[SagaId, int] = {}
        for early in kept:
            if early.at < self.decisions.now - EARLY_MICROSECONDS:
                message = f"saga {early.saga_id} was not started within an hour"
                self.decisions.unkeep(memory, early)
                self.decisions.dead_letter(memory.tenure, early, EARLY_EXPIRED, message)
            else:
                oldest.setdefault(early.saga_id, early.at)
        for id in filter(memory.early.count, ids):
            memory.early.wait(id, oldest.get(id, 0))

    async def records(self, memory: ShardMemory, records: Sequence[Record]) -> None:
        """New ones, or kept ones whose sagas are there; in their order."""
        pace, take = self.pace, self._record
        for number, record in enumerate(records):
            if not number % LOOK_EVERY and pace.is_out_of_breath:
                await pace.breathe()
            take(memory, record)

    def _record(self, memory: ShardMemory, record: Record) -> None:
        try:
            input = read(record, self.decisions.namespace)
        except MessageInvalid as error:
            if isinstance(record, EarlyRequest):  # an older release took it
                self.decisions.unkeep(memory, record)
            self.decisions.dead_letter(memory.tenure, record, error.reason, error.message)
            self._tell_broken(memory, record, error)
            return
        is_ours = memory.saga(input.saga_id) is not None or isinstance(record, EarlyRequest)
        if is_ours or self._is_at_home(memory.tenure, record, input.saga_id):
            self.incoming.append((memory, input, record))

    def _tell_broken(self, memory: ShardMemory, record: Record, error: MessageInvalid) -> None:
        """A reply that is a dead letter is told to the saga that waits for it, if that is in memory: it is when its
        command is sent again. For the sake of a broken record nothing is loaded."""
        found = broken_reply(record, self.decisions.namespace, error)
        if found is None:
            return
        notice, service = found
        saga = memory.saga(notice.saga_id)
        step = None if saga is None or saga.state.run != notice.run else saga.state.steps.get(notice.step)
        if step is not None and step.service == service:
            self.incoming.append((memory, notice, None))

    def _is_at_home(self, tenure: Tenure, record: Record, id: SagaId) -> bool:
        """Whether its saga belongs to this shard. If not, it goes on to its own (S12)."""
        home = partition_of(id.encode(), self.partitions)
        if home == tenure.shard:
            return True
        if not fits(record):
            sentence = f"it is to be forwarded to partition {home}, and has more than {MOST_HEADERS} bytes of headers"
            self.decisions.dead_letter(tenure, record, "headers.too_long", sentence)
            return False
        message = forwarded(record, home, saga_id=id)
        if message is not None:
            self.decisions.count(record, "forwarded")
            self.decisions.turn.send(tenure, message)
        else:
            sentence = f"forwarded once already, and still not in partition {home} of {self.partitions}"
            self.decisions.dead_letter(tenure, record, "forwarded.twice", sentence)
        return False

    def due_timers(self, memory: ShardMemory) -> None:
        """Only once all that waited in the topics has been taken in (H4)."""
        if memory.tenure.caught_up:
            due = memory.timers.take_due(self.decisions.now, most=TIMERS_OF_A_TURN)
            self.incoming += [(memory, timer_input(place), None) for place in due]


def _known(rows: Iterable[TimerRow]) -> Iterator[tuple[TimerPlace, int]]:
    """A kind of a later release is left to that one: the saga's history stops it as well (H1)."""
    for row in rows:
        if row.kind in _TIMERS:
            yield (row.id, row.run, TimerKey(TimerKind(row.kind), row.number)), row.due
