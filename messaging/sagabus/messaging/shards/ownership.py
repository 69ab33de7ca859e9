"""Owns the shards that the consumer group gives to this process: its processor gets their records and heartbeats.

Theory of operation. The stream says which shards are ours (`assigned`), and they are acquired, or acquired again after
a pause (`tenures`). Records come by `batch`, heartbeats and due timers by the clock (`wakeups`); each is a turn. What
fails ends the tenures that it concerns, and these begin anew from what the database says.

Assignments, batches and acquiring happen under one lock; of a batch, turns over different shards may be under way at
once (`lanes`). It must never run two turns of a shard at once, decide what a record means, or rest on the offsets that
Kafka keeps.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import Final
from uuid import UUID, uuid4

from aiokafka import TopicPartition
from sqlalchemy import MetaData

from sagabus.contracts.envelope import Record
from sagabus.contracts.errors import SagabusError
from sagabus.messaging.background import Background, Supervisor, until_set
from sagabus.messaging.bus.subscription import Assignment
from sagabus.messaging.counters import Counters
from sagabus.messaging.loop_time import monotonic
from sagabus.messaging.postgres.database import Database
from sagabus.messaging.shards.held_back import HeldBack
from sagabus.messaging.shards.lanes import ONE, Lanes
from sagabus.messaging.shards.log_watch import LogWatch
from sagabus.messaging.shards.membership import Membership, Subscribe
from sagabus.messaging.shards.new_records import NewRecords
from sagabus.messaging.shards.ports import Cluster, Processor
from sagabus.messaging.shards.shard_row import Claim, check_partitions
from sagabus.messaging.shards.tenure import Tenure
from sagabus.messaging.shards.tenures import Tenures
from sagabus.messaging.shards.wakeups import HEARTBEAT_SECONDS, Wakeups

log = logging.getLogger(__name__)

UNNUMBERED: Final = 0
"""Partitions of a claim that holds to no number of them."""

LOG_WATCH_SECONDS: Final = 5.0
"""Between two looks at Kafka's logs, for topics that were replaced under us (S6)."""

PING_PAUSE_SECONDS: Final = 1.5
"""Between two looks whether Kafka answers; with the time for an answer, readiness knows within five seconds."""

LEAVE_AFTER_SECONDS: Final = 5.0
"""Without the database for so long the group is left, so that others can acquire our shards (S10)."""

DRAIN_SECONDS: Final = 5.0
"""`stop` waits for so long for acknowledgements. What is not acknowledged then, the next owner publishes."""


class NoSuchTopic(SagabusError):
    """The topic that numbers the shards does not exist."""


class Ownership:
    """The shards of one process. `start` once, `stop` once; between them it is the listener of its stream.

    tables: `messaging_tables(schema)`. main_topic: whose partitions number the shards (requests, or commands); None
    where they are those of topics of others, which may come to have more at any time: no number is held to. clock:
    seconds since 1970, for timers only. tokens: gives each tenure its own; no two may be alike, ever (S1). lanes: into
    which the records of a batch are dealt out.
    """

    def __init__(
        self,
        *,
        kafka: Cluster,
        database: Database,
        tables: MetaData,
        subscribe: Subscribe,
        main_topic: str | None,
        processor: Processor,
        supervisor: Supervisor | None = None,
        counters: Counters | None = None,
        clock: Callable[[], float] = time.time,
        tokens: Callable[[], UUID] = uuid4,
        lanes: Lanes = ONE,
    ) -> None:
        assert tables.schema is not None
        supervisor = supervisor or Supervisor()
        self._kafka = kafka
        self._database = database
        self._schema = tables.schema
        self._main_topic = main_topic
        self._producer = kafka.producer()
        self._tenures = Tenures(
            cluster=kafka,
            database=database,
            schema=self._schema,
            processor=processor,
            publisher=self._producer,
            relay_ended=self._relay_ended,
            turn_requested=lambda: self._wakeups.look(),  # noqa: PLW0108    # made below
            supervisor=supervisor,
            counters=counters or Counters(),
            tokens=tokens,
        )
        self._new_records = NewRecords()
        self._wakeups = Wakeups(processor, clock)
        self._membership = Membership(subscribe, self)
        self._held_back = HeldBack(self._membership, reopen=self._reopen, supervisor=supervisor)
        self._logs = LogWatch(self._tenures, self._membership)
        self._lanes = lanes
        self._lock = asyncio.Lock()
        self._look = asyncio.Event()
        self._stopped = False
        self.given: Collection[int] | None = None
        """The shards that the group has given to this process, held or not; None while it is in no group."""
        self.kafka_away = ""
        """Why Kafka does not answer now, in words; empty while it does."""
        self._background = Background(supervisor)

    @property
    def tenures(self) -> Mapping[int, Tenure]:
        """What is held now, by shard."""
        return self._tenures.held

    @property
    def problem(self) -> str:
        """Why shards that it should have are not held, in words; empty where nothing is known."""
        return self._membership.problem or self._tenures.problem

    @property
    def failing(self) -> str:
        """Which shards take no records in although they are held every now and then, and why; empty where all do."""
        return self._tenures.failing

    async def start(self) -> None:
        """Join the group; shards come when it gives them out.

        Raises DatabaseUnreachable, NoSuchTopic, PartitionsChanged (S11), or what Kafka raises, and is stopped then.
        """
        try:
            await self._database.start()
            await self._producer.start()
            async with self._database.transaction() as connection:
                await check_partitions(connection, self._schema, await self._partitions(), topic=self._numbered_by)
            self._background.start(self._heartbeat, self._acquire_again, self._watch, self._catch_up, self._ping)
            await self._membership.join()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Finish the turn, wait for acknowledgements, store the relays' positions, leave the group."""
        if self._stopped:
            return
        self._stopped = True
        async with self._lock:  # so no turn is cut off
            await self._background.stop()
            await self._held_back.stop()
            await self._drain()
            await self._tenures.release()
        await self._membership.part()
        await self._producer.stop()
        self._kafka.close_unused()

    # Called by the stream.

    async def assigned(self, assignment: Assignment) -> Mapping[TopicPartition, int]:
        """Acquire these shards. What cannot be acquired now is left out, and opened by a seek once it is.

        Raises what Kafka raises, and NoSuchTopic; it is to be called again then.
        """
        self.given = assignment.shards
        async with self._lock:
            return {} if self._stopped else await self._acquire_assigned(assignment)

    async def revoked(self) -> None:
        """Let go of all shards, after the transaction that is under way: the whole group waits for this.

        The rest of a batch is left to the next owner, since it may take long: its handlers may be slow, or each of its
        turns may wait for a row that a process holds that stands still (S4).
        """
        self.given = None
        for tenure in self.tenures.values():
            tenure.leaving = True
        async with self._lock:
            await self._tenures.release()

    async def batch(self, records: Sequence[Record]) -> None:
        """Turn these records, or leave them to be read again. Never raises because of them."""
        async with self._lock:
            if self._stopped:
                return
            new = self._new_records.split(records, await self._held_back.others(self.tenures))
            await self._turn(new.work)
            await self._membership.seek(new.seek)

    # Under the lock.

    async def _acquire_assigned(self, assignment: Assignment) -> Mapping[TopicPartition, int]:
        await self._tenures.release()
        cluster, partitions = await self._kafka.cluster_id(), await self._partitions()
        claim = Claim(cluster=cluster, generation=assignment.generation, partitions=partitions, topic=self._numbered_by)
        self._tenures.want(assignment.shards, assignment.topics, claim)
        places = await self._tenures.acquire_due()
        self._look.set()
        self._wakeups.look()
        return places

    async def _turn(self, work: Mapping[Tenure, Sequence[Record]]) -> None:
        """The suspects each in a turn of their own, all others in one, or in some at once."""
        work = {tenure: records for tenure, records in work.items() if not tenure.ended}
        suspects = [tenure for tenure in work if self._tenures.suspect(tenure.shard)]
        rest = {tenure: records for tenure, records in work.items() if tenure not in suspects}
        behind = [tenure for tenure in work if not tenure.caught_up]
        for portion in [*({tenure: work[tenure]} for tenure in suspects), rest]:
            if any(tenure.leaving for tenure in portion):
                break
            await self._turns_at_once(portion)
        self._wakeups.after_turn(caught_up=any(tenure.caught_up for tenure in behind))
        if any(tenure.ended for tenure in work):
            self._look.set()

    async def _turns_at_once(self, work: Mapping[Tenure, Sequence[Record]]) -> None:
        lanes = self._lanes.dealt({tenure: len(records) for tenure, records in work.items()})
        if len(lanes) == 1:
            await self._tenures.turn(work)
            return
        async with asyncio.TaskGroup() as turns:
            for lane in lanes:
                turns.create_task(self._tenures.turn({tenure: work[tenure] for tenure in lane}))

    async def _drain(self) -> None:
        """The last turn stores the relays' positions, and may itself still send."""
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                await self._flush()
                await self._turn(dict.fromkeys(self.tenures.values(), ()))
                await self._flush()
        await self._logs.tell()

    async def _flush(self) -> None:
        for tenure in self.tenures.values():
            await tenure.relay.below(1)

    # In the background.

    async def _heartbeat(self) -> None:
        await self._wakeups.wait(self._alive())
        async with self._lock:
            await self._turn(dict.fromkeys(self._wakeups.due(self._alive()), ()))

    async def _acquire_again(self) -> None:
        await until_set(self._look, at=self._tenures.next_try())
        async with self._lock:
            self._look.clear()
            await self._tenures.drop([tenure for tenure in self.tenures.values() if tenure.relay.ended])
            places = await self._tenures.acquire_due()
            if not await self._membership.seek(places):
                await self._tenures.drop([self.tenures[place.partition] for place in places])
            self._wakeups.look()
        since = self._tenures.unreachable_since
        if since is not None and monotonic() - since > LEAVE_AFTER_SECONDS:
            await self._stay_away()

    async def _reopen(self, tenure: Tenure) -> None:
        async with self._lock:
            if self.tenures.get(tenure.shard) is not tenure or tenure.ended:
                return
            if not await self._membership.seek(tenure.places):
                await self._tenures.drop([tenure])
                self._look.set()

    async def _stay_away(self) -> None:
        """S10. Others may reach the database."""
        log.warning("no database for %s s: leaving the group until it is back", LEAVE_AFTER_SECONDS)
        await self._membership.part(for_good=True)
        async with self._lock:
            await self._tenures.release()
        await self._database.wait_until_reachable()
        self._tenures.unreachable_since = None
        await self._membership.join_at_last()

    async def _watch(self) -> None:
        await asyncio.sleep(LOG_WATCH_SECONDS)
        strayed = await self._logs.strayed()
        async with self._lock:
            await self._tenures.drop(strayed)
        self._look.set()
        await self._logs.tell()

    async def _ping(self) -> None:
        """What is away is noticed by others only after a session's length, or when something is to be published."""
        await asyncio.sleep(PING_PAUSE_SECONDS)
        try:
            await self._kafka.ping()
        except SagabusError as error:
            if not self.kafka_away:
                log.warning("%s; retrying until it answers", error)
            self.kafka_away = str(error)
            return
        if self.kafka_away:
            log.info("Kafka answers")
        self.kafka_away = ""

    async def _catch_up(self) -> None:
        await asyncio.sleep(HEARTBEAT_SECONDS)
        async with self._lock:
            if await self._logs.catch_up():
                self._wakeups.after_turn(caught_up=True)
                self._wakeups.look()

    # Small things.

    def _alive(self) -> list[Tenure]:
        """One that has ended is not turned any more: it would stay due, and be waited for in circles."""
        return [tenure for tenure in self.tenures.values() if not tenure.ended]

    @property
    def _numbered_by(self) -> str:
        return self._main_topic or "no topic"

    async def _partitions(self) -> int:
        if self._main_topic is None:
            return UNNUMBERED
        topics = await self._kafka.topics([self._main_topic])
        if self._main_topic not in topics:
            raise NoSuchTopic(f"the topic {self._main_topic} does not exist: `sagabus topics` creates what is needed")
        return topics[self._main_topic].partitions

    def _relay_ended(self, tenure: Tenure) -> None:
        tenure.ended = True
        self._look.set()
