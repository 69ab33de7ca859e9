"""The shards that this process holds: acquiring, turning, ending and acquiring again.

Not for two callers at once, but for turns over different shards: `Ownership` decides when, and calls under its lock.
Whatever goes wrong with a shard ends its tenure (S2); the shard stays wanted, and is tried again after a pause.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID, uuid4

from aiokafka import TopicPartition

from sagabus.contracts.envelope import Record
from sagabus.contracts.errors import SagabusError
from sagabus.messaging.background import Supervisor, trace
from sagabus.messaging.backoff import Backoff, Reasons
from sagabus.messaging.counters import Counters, Family
from sagabus.messaging.loop_time import monotonic
from sagabus.messaging.postgres.database import Database, DatabaseUnreachable
from sagabus.messaging.publishing import outbox
from sagabus.messaging.publishing.relay import Publisher
from sagabus.messaging.shards.failed_turns import FailedTurns
from sagabus.messaging.shards.ports import Cluster, Processor
from sagabus.messaging.shards.shard_row import Claim, acquire
from sagabus.messaging.shards.tenure import Log, Tenure

log = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS: Final = 0.1
LONGEST_PAUSE_SECONDS: Final = 5.0
"""Until a shard is tried again; the pause doubles from failure to failure."""

UNREACHABLE_PAUSE_SECONDS: Final = 1.0
"""At most, while the database does not answer: one attempt for all shards, and a failover is over within seconds."""

ShardLogs = dict[int, dict[str, Log]]
"""Shard to topic to what Kafka has of it."""


class NotCommitted(SagabusError):
    """A turn returned without having committed: a fault in the side's code."""


@dataclass(slots=True)
class _Wanted:
    """A shard that is ours by the group's word, held or not."""

    failures: int = 0
    """In a row, without a turn over records between them."""
    reasons: Reasons = field(default_factory=Reasons)
    next_try: float = 0.0
    """Monotonic seconds."""
    backoff: Backoff = field(
        default_factory=lambda: Backoff(first_seconds=FIRST_PAUSE_SECONDS, longest_seconds=LONGEST_PAUSE_SECONDS)
    )

    def failed(self, *, unreachable: bool = False) -> None:
        pause = self.backoff.next()
        self.next_try = monotonic() + (min(pause, UNREACHABLE_PAUSE_SECONDS) if unreachable else pause)
        self.failures += 1

    def succeeded(self) -> None:
        self.failures = 0
        self.reasons.over()
        self.backoff.reset()


class Tenures:
    """What is wanted, and what of it is held: shard to tenure."""

    def __init__(
        self,
        *,
        cluster: Cluster,
        database: Database,
        schema: str,
        processor: Processor,
        publisher: Publisher,
        relay_ended: Callable[[Tenure], None],
        turn_requested: Callable[[], None],
        supervisor: Supervisor,
        counters: Counters,
        tokens: Callable[[], UUID] = uuid4,
    ) -> None:
        self.held: dict[int, Tenure] = {}
        self.unreachable = ""
        """What the database said when it last did not answer; empty while it does."""
        self.unreachable_since: float | None = None
        """Since when the database has not answered, in monotonic seconds; None while it does."""
        self._cluster = cluster
        self._database = database
        self._schema = schema
        self._processor = processor
        self._publisher = publisher
        self._relay_ended = relay_ended
        self._turn_requested = turn_requested
        self._supervisor = supervisor
        self._counters = counters
        self._tokens = tokens
        self._claim = Claim(cluster="", generation=0, partitions=0)
        self._topics: Collection[str] = ()
        self._wanted: dict[int, _Wanted] = {}
        self._failed_turns = FailedTurns()

    def want(self, shards: Iterable[int], topics: Collection[str], claim: Claim) -> None:
        """From here on these shards are ours, with these topics, by this claim."""
        self._topics, self._claim = topics, claim
        self._wanted = {shard: _Wanted() for shard in sorted(shards)}

    @property
    def problem(self) -> str:
        """Why shards that are wanted are not held, each reason once."""
        missing = (wanted for shard, wanted in self._wanted.items() if shard not in self.held)
        said = dict.fromkeys(wanted.reasons.last for wanted in missing if wanted.reasons.last)
        return "; ".join(filter(None, [self.unreachable, *said, self.failing]))

    @property
    def failing(self) -> str:
        """Which of the shards that are wanted take no records in, since their turns fail, and why."""
        return self._failed_turns.words(self._wanted)

    async def release(self) -> None:
        """Nothing is ours any more."""
        self._wanted = {}
        await self.drop(list(self.held.values()))

    def next_try(self) -> float | None:
        """When `acquire_due` has something to do, in monotonic seconds."""
        tries = (wanted.next_try for shard, wanted in self._wanted.items() if shard not in self.held)
        return min(tries, default=None)

    def suspect(self, shard: int) -> bool:
        """It has failed lately: its records are to be turned alone, so that it takes no other down with it."""
        wanted = self._wanted.get(shard)
        return (wanted is not None and wanted.failures > 0) or shard in self._failed_turns

    async def acquire_due(self) -> dict[TopicPartition, int]:
        """Take what is wanted and due. Returns where to read what was acquired.

        Raises what Kafka raises; then no tenure is held, though the shards' rows may have new tokens. They are tried
        again after a pause.
        """
        now = monotonic()
        due = [shard for shard, wanted in self._wanted.items() if shard not in self.held and wanted.next_try <= now]
        acquired = await self._acquire_all(due)
        try:
            logs = await self.logs([tenure.shard for tenure in acquired])
        except BaseException:
            for tenure in acquired:
                self._wanted[tenure.shard].failed()
            raise
        held = [tenure for tenure in acquired if await self._start(tenure, logs[tenure.shard])]
        return {place: at for tenure in held for place, at in tenure.places.items()}

    async def turn(self, work: Mapping[Tenure, Sequence[Record]]) -> None:
        """One turn of the processor. If it fails, its tenures have been dropped when this returns."""
        turns = {tenure: tenure.turn for tenure in work}
        for tenure in work:
            tenure.turn_requested = False
        try:
            await self._processor.turn(work)
            if any(tenure.turn == turn for tenure, turn in turns.items()):
                raise NotCommitted("the side's turn returned without committing a Turn over all its tenures")
        except Exception as error:
            shards = ", ".join(str(tenure.shard) for tenure in work)
            self._counters.family(Family.TURNS)["failed"] += 1
            log.error("turn failed, acquiring again the shards %s: %s", shards, error, exc_info=trace(error))
            self._failed_turns.add((tenure.shard for tenure, records in work.items() if records), error)
            await self.drop(work)
        except BaseException:  # cancelled: whether it is committed is unknown
            for tenure in work:
                tenure.ended = True
            raise
        else:
            self._counters.family(Family.TURNS)["committed"] += 1
            self._succeeded(work)

    async def drop(self, tenures: Iterable[Tenure]) -> None:
        """End these tenures; their shards stay wanted. Their relays have stopped when this returns (S2)."""
        for tenure in tenures:
            if self.held.get(tenure.shard) is tenure:
                del self.held[tenure.shard]
                await self._end(tenure)

    async def logs(self, shards: Collection[int]) -> ShardLogs:
        """What Kafka has now for these shards."""
        topics = await self._cluster.topics(self._topics) if shards else {}
        places = [TopicPartition(name, s) for s in shards for name, topic in topics.items() if s < topic.partitions]
        ranges = await self._cluster.log_range(places) if places else {}
        logs: ShardLogs = {shard: {} for shard in shards}
        for (name, shard), (start, end) in ranges.items():
            logs[shard][name] = Log(topics[name].id, start, end)
        return logs

    async def _acquire_all(self, due: Sequence[int]) -> list[Tenure]:
        acquired = []
        for number, shard in enumerate(due):
            try:
                acquired.append(await self._acquire(shard))
                self.unreachable_since, self.unreachable = None, ""
            except DatabaseUnreachable as error:  # for the others as well: not asked twelve times
                self._unreachable(error)
                for shard in due[number:]:
                    self._wanted[shard].failed(unreachable=True)
                break
            except Exception as error:
                self._counters.family(Family.TENURES)["refused"] += 1
                if self._wanted[shard].reasons.new(error):
                    log.warning("shard %s not acquired: %s", shard, error, exc_info=trace(error))
                self._wanted[shard].failed()
        return acquired

    async def _acquire(self, shard: int) -> Tenure:
        async with self._database.transaction() as connection:
            tenure = await acquire(connection, self._schema, shard, self._claim, token=self._tokens())
            tenure.relay.park(await outbox.parked_sagas(connection, self._schema, shard))
            rows = await outbox.unpublished(connection, self._schema, shard, tenure.relay_position)
        tenure.relay.push(rows)
        return tenure

    async def _start(self, tenure: Tenure, logs: Mapping[str, Log]) -> bool:
        tenure.locate(logs)
        tenure.when_requested = self._turn_requested
        tenure.relay.start(
            self._publisher,
            on_end=lambda: self._relay_ended(tenure),
            supervisor=self._supervisor,
            counters=self._counters,
        )
        try:
            await self._processor.acquired(tenure)
        except Exception as error:
            log.error("shard %s: what it needs could not be loaded: %s", tenure.shard, error, exc_info=trace(error))
            await self._end(tenure)
            return False
        except BaseException:  # cancelled
            await self._end(tenure)
            raise
        self.held[tenure.shard] = tenure
        self._counters.family(Family.TENURES)["acquired"] += 1
        log.info("shard %s acquired: %r", tenure.shard, tenure)
        return True

    async def _end(self, tenure: Tenure) -> None:
        tenure.ended = True
        self._counters.family(Family.TENURES)["ended"] += 1
        await tenure.relay.stop()
        self._processor.lost(tenure)
        if tenure.shard in self._wanted:
            self._wanted[tenure.shard].failed()

    def _succeeded(self, work: Mapping[Tenure, Sequence[Record]]) -> None:
        now = monotonic()
        for tenure, records in work.items():
            tenure.turned_at = now
            if records and tenure.shard in self._wanted:
                self._wanted[tenure.shard].succeeded()
            if records or tenure.caught_up:  # one that is behind may only have put off what fails
                self._failed_turns.over(tenure.shard)

    def _unreachable(self, error: DatabaseUnreachable) -> None:
        if self.unreachable_since is None:
            self.unreachable_since = monotonic()
            log.warning("%s", error)
        self.unreachable = str(error)
