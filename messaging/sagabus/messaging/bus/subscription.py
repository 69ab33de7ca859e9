"""Reading the shards that the consumer group gives to this process, from offsets that are kept elsewhere.

Theory of operation. FastStream starts the consumer, runs the loop and gives each batch to one handler, a batch at a
time; the consumer itself is ours (`shard_consumer`). Nothing is acknowledged to Kafka. Partitions that are assigned
stay closed until the listener has said where to read on (`handover`).

On the embedded bus there are no groups: partitions are assigned by hand, with generation 0, and again when topics
appear. A consumer that is broken beyond repair is replaced; to the listener that is one more rebalance.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final

from aiokafka import ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.errors import IllegalStateError, KafkaError

from sagabus.messaging.background import Supervisor, cancelled, trace
from sagabus.messaging.backoff import Backoff, Reasons
from sagabus.messaging.bus.handover import Assignment, Handover, SubscriptionListener
from sagabus.messaging.bus.kafka import Kafka
from sagabus.messaging.bus.kafka_connection import KafkaUnreachable
from sagabus.messaging.bus.shard_consumer import ShardConsumer
from sagabus.messaging.bus.topic_choice import TopicChoice
from sagabus.messaging.bus.twins import Twins
from sagabus.messaging.counters import Counters, Family
from sagabus.messaging.loop_time import monotonic

__all__ = ["Assignment", "Subscription", "SubscriptionListener"]

log = logging.getLogger(__name__)

MAX_RECORDS: Final = 1000
"""In one batch: a turn of some ten milliseconds."""

DISCOVERY_SECONDS: Final = 1.0
"""Between two looks for new topics on the embedded bus."""

DRAIN_SECONDS: Final = 10.0
"""`stop` waits for so long for the batch under way, and then for `revoked`."""

FIRST_PAUSE_SECONDS: Final = 0.2
LONGEST_PAUSE_SECONDS: Final = 5.0
"""Until another consumer is made in place of a broken one, doubling from the first."""

COMMIT_TIMEOUT_SECONDS: Final = 2.0

AFTER_ERROR_SECONDS: Final = 0.5
"""Until a batch comes again that the listener did not take."""

ASK_AGAIN_PAUSE_SECONDS: Final = 1.0
"""Until the listener is asked again for places that exist."""


class Subscription(ConsumerRebalanceListener):  # type: ignore[misc]    # aiokafka has no types
    """One member of one group. `start` once, `stop` once."""

    def __init__(
        self,
        kafka: Kafka,
        *,
        group: str,
        topics: Sequence[str] = (),
        pattern: str | None = None,
        listener: SubscriptionListener,
        instance: str | None = None,
        max_records: int = MAX_RECORDS,
        supervisor: Supervisor | None = None,
        counters: Counters | None = None,
    ) -> None:
        """The topics, and those that match `pattern` as a whole, later ones too. `instance`: static membership."""
        self._supervisor = supervisor or Supervisor()
        self._commits = (counters or Counters()).family(Family.OFFSET_COMMITS)
        self._kafka = kafka
        self._group = group
        self._choice = TopicChoice(tuple(topics), pattern)
        self._listener = listener
        self._instance = instance or None
        self._max_records = max_records
        self._handover = Handover(listener, self._supervisor)
        self._consumer: ShardConsumer | None = None
        self._broker: Any = None
        self._following: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._twins = Twins()
        self._sole = kafka.sole_reader(group)
        self.problem = ""
        """Why nothing is read now, in words; empty where nothing is known."""
        self._runner: asyncio.Task[Any] | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self._closing = True

    async def start(self) -> None:
        """Join the group. Returns with the first assignment, which the listener may still be taking.

        Raises KafkaUnreachable, KafkaRefused for a topic that is missing, AnotherReader on the embedded bus; nothing is
        left running then.
        """
        if self._sole is not None:
            self._sole.take()
        try:
            await self._open()
        except BaseException:
            await self.stop()
            raise

    async def stop(self, *, leave: bool | None = None) -> None:
        """The batch under way is awaited, the listener hears `revoked`, the group is left.

        A static member stays in the group unless `leave`: its shards wait for its return, for as long as a session.
        """
        await cancelled(self._tasks)
        if self._consumer is not None and leave:
            self._consumer.leave_for_good()
        await self._close()
        if self._sole is not None:
            self._sole.give_back()

    async def seek(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Read on from here; opens what `assigned` had left out. Raises IllegalStateError for what is not assigned."""
        self._reading().place(offsets)

    async def suspend(self, partitions: Collection[TopicPartition]) -> None:
        """Hand on nothing of these until `seek`; what is not assigned is left aside."""
        consumer = self._reading()
        consumer.suspend(consumer.assignment().intersection(partitions))

    async def position(self, partition: TopicPartition) -> int | None:
        """The offset up to which `batch` has returned, transaction markers included; None if it is not read now."""
        try:
            return await self._reading().read_to(partition)
        except (IllegalStateError, KafkaUnreachable):
            return None

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> bool:
        """For tools that show lag. Failures are counted, not raised: nothing depends on it. Whether it was done."""
        if self._kafka.embedded or not offsets:
            return False
        try:
            async with asyncio.timeout(COMMIT_TIMEOUT_SECONDS):
                await self._reading().commit(dict(offsets))
        except Exception as error:
            self._commits["failed"] += 1
            log.debug("offsets were not committed to Kafka: %s", error)
            return False
        self._commits["told"] += 1
        return True

    # Called by aiokafka, in its coordinator's task.

    async def on_partitions_revoked(self, _: Collection[TopicPartition]) -> None:
        if self._consumer is not None:
            await self._handover.end(self._consumer)

    def on_partitions_assigned(self, partitions: Collection[TopicPartition]) -> None:
        if self._consumer is not None and not self._closing:
            log.info("group %s: generation %d, %d partitions", self._group, self._consumer.generation, len(partitions))
            self.problem = ""
            self._handover.begin(self._consumer, partitions)

    # Called by the consumer.

    def log_changed(self, partitions: Collection[TopicPartition]) -> None:
        log.warning("no record at the offsets asked for: the log was truncated or replaced: %s", sorted(partitions))
        self._spawn(self._again())

    def answered(self) -> None:
        self._kafka.answered()

    def broken(self, error: BaseException) -> None:
        if not self._closing:
            self._closing = True
            log.error("the consumer of group %s is broken, another one is made: %s", self._group, error)
            self._spawn(self._replace())

    def member_lost(self, *, alive: bool) -> bool:
        if self._closing:
            return False
        # One that stood still for a session was forgotten for that, and one that did not by another process's joining.
        pause = self._twins.forgotten(monotonic()) if self._instance is not None and alive else None
        if pause is None:
            return True
        self._closing = True
        self.problem = (
            f"another process is in the group {self._group} as SAGABUS_INSTANCE={self._instance}: give each process an "
            "instance of its own, or none"
        )
        log.error("%s; joining again in %.0f s", self.problem, pause)
        self._spawn(self._replace(after=pause))
        return False

    # The consumer's life.

    async def _open(self) -> None:
        from sagabus.messaging.bus.faststream_broker import make_broker  # slow to import, and needed here alone

        with _translated():
            await self._choice.require(self._kafka)
            self._broker = await make_broker(
                self._kafka.address,
                topics=() if self._choice.pattern else self._choice.names,
                pattern=self._choice.regex if self._choice.pattern else None,
                listener=self,
                max_records=self._max_records,
                make_consumer=self._make_consumer,
                handle=self._consume,
            )
            self._closing = False
            await self._broker.start()
            await asyncio.sleep(0)  # aiokafka 0.14 cannot be stopped in the step in which it was started
            if self._kafka.embedded:
                await self._assign_by_hand()
                self._following = self._spawn(self._follow())

    async def _close(self) -> None:
        self._closing = True
        if self._following is not None:
            self._following.cancel()
        await self._finish_batch()
        if self._consumer is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(DRAIN_SECONDS):
                    await self._handover.end(self._consumer)
        broker, self._broker, self._consumer = self._broker, None, None
        if broker is not None:
            await broker.stop()

    async def _replace(self, *, after: float = 0.0) -> None:
        await self._close()
        await asyncio.sleep(after)
        backoff = Backoff(first_seconds=FIRST_PAUSE_SECONDS, longest_seconds=LONGEST_PAUSE_SECONDS)
        reasons = Reasons()
        while True:
            try:
                return await self._open()
            except Exception as error:
                if reasons.new(error):
                    log.error("group %s is not read, retrying: %s", self._group, error, exc_info=trace(error))
                await self._close()
            await backoff.pause()

    async def _again(self) -> None:
        await asyncio.sleep(ASK_AGAIN_PAUSE_SECONDS)
        with suppress(KafkaUnreachable):  # it is being replaced, and asks anew then
            await self._handover.again(self._reading())

    async def _assign_by_hand(self) -> None:
        await self._handover.by_hand(self._reading(), await self._choice.found(self._kafka))

    async def _follow(self) -> None:
        reasons = Reasons()
        while True:
            await asyncio.sleep(DISCOVERY_SECONDS)
            try:
                await self._assign_by_hand()
                reasons.over()
            except Exception as error:
                if reasons.new(error):
                    log.warning("group %s: %s", self._group, error, exc_info=trace(error))

    def _make_consumer(self, **_: Any) -> ShardConsumer:
        """FastStream's options are left aside: all of ours are in one place."""
        self._consumer = ShardConsumer(
            observer=self,
            group=None if self._kafka.embedded else self._group,
            instance=self._instance,
            **self._kafka.connection.aiokafka,
        )
        return self._consumer

    async def _consume(self, records: Sequence[ConsumerRecord]) -> None:
        consumer = self._consumer
        if self._closing or consumer is None:
            return
        self._runner = asyncio.current_task()
        self._idle.clear()
        try:
            if current := consumer.undisturbed(records):
                await self._listener.batch(current)
        except Exception as error:
            log.error("a batch failed and is read again: %s", error, exc_info=trace(error))
            consumer.hand_on_again()
            await asyncio.sleep(AFTER_ERROR_SECONDS)
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # in a task of FastStream's, which would end without a word
            self._closing = True
            self._supervisor.died(f"the consumer of group {self._group}", error)
        finally:
            self._idle.set()

    async def _finish_batch(self) -> None:
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                await self._idle.wait()
        except TimeoutError:
            log.error("group %s: a batch takes longer than %.0f s and is given up", self._group, DRAIN_SECONDS)
            if self._runner is not None:
                await cancelled([self._runner])

    # Small things.

    def _reading(self) -> ShardConsumer:
        if self._consumer is None or self._closing:
            raise KafkaUnreachable(f"group {self._group} is not read at the moment")
        return self._consumer

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._supervisor.spawn(work, name=f"subscription {self._group}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (KafkaError, OSError, TimeoutError) as error:
        raise KafkaUnreachable(f"Kafka is unreachable: {str(error) or type(error).__name__}") from error
