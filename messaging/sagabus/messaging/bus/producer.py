"""Publishing: to named partitions, in order, acknowledged by all replicas. Everybody in a process may share one.

What is asked for while a batch of its partition is under way travels together in the next one (`partition_queue`). What
Kafka will never take is `PublishRefused` and names the message. Everything else is `PublishFailed`: whether it arrived
is unknown; who asked sends again what was not acknowledged. Either reaches only those callers whose messages failed.
The producer goes on, over another connection where it must (`sender`).

It must never reorder messages of one partition, also not by trying again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

from aiokafka import TopicPartition

from sagabus.contracts.envelope import MAX_PAYLOAD, Message
from sagabus.messaging.background import cancelled
from sagabus.messaging.bus.kafka_connection import KafkaConnection, KafkaUnreachable
from sagabus.messaging.bus.partition import partition_of
from sagabus.messaging.bus.partition_queue import PartitionQueue
from sagabus.messaging.bus.publication import Publication
from sagabus.messaging.bus.publish_errors import PublishFailed, PublishRefused, Reason
from sagabus.messaging.bus.sender import Sender
from sagabus.messaging.bus.sender_source import SenderSource

Groups = dict[TopicPartition, list[Message]]

Counts = dict[str, int]
"""How many partitions each topic has; 0: there is none, or we may not see it."""

UNACKNOWLEDGED_SECONDS: Final = 15.0
"""Without any acknowledgement on its partition, after which a publication has failed. By itself an idempotent aiokafka
producer tries for ever."""

DRAIN_SECONDS: Final = 5.0
"""Without any acknowledgement, after which `stop` waits no longer."""

STOPPED: Final = "this producer was stopped: make another one"


class BatchProducer:
    """Made by `Kafka.producer()`. Any number of tasks of one event loop may publish at once."""

    def __init__(
        self,
        connection: KafkaConnection,
        *,
        topic_appears: Callable[[str], None] | None = None,
        timeout: float = UNACKNOWLEDGED_SECONDS,
    ) -> None:
        """topic_appears: told of a topic that appears as it is named, as on the embedded bus; None where topics do not.
        timeout: seconds."""
        self._timeout = timeout
        self._senders = SenderSource(lambda: Sender(connection, topic_appears=topic_appears))
        self._queues: dict[TopicPartition, PartitionQueue] = {}
        self._not_queued: set[asyncio.Future[None]] = set()
        """Calls that do not know yet where their messages go."""
        self._stopped = False

    async def start(self) -> None:
        """Connect, and find out so whether Kafka is there; `publish` would do it as well. Raises KafkaUnreachable."""
        async with self._senders.taken():
            pass

    async def stop(self) -> None:
        """What is being published is awaited for as long as Kafka acknowledges some of it. May be repeated."""
        self._stopped = True
        try:
            await self._drain()
        finally:
            await self._senders.close()
            await cancelled(self._tasks())
            for queue in self._queues.values():
                queue.fail_all("the producer was stopped")

    async def publish(self, messages: Sequence[Message]) -> None:
        """Returns when all are acknowledged; order is kept for each topic and partition.

        Raises PublishRefused, after which the others may be published again; PublishFailed where it is unknown what was
        published; KafkaUnreachable where nothing was. When it is cancelled, batches that are under way may still
        arrive, but none is begun.
        """
        if self._stopped:
            raise PublishFailed(STOPPED)
        if not messages:
            return
        topics = {message.topic for message in messages}
        counts = self._known_counts(topics) or await self._counts(topics)
        await self._queued(_grouped(messages, counts)).published

    def _queued(self, groups: Groups) -> Publication:
        publication = Publication(len(groups))
        for to, group in groups.items():
            self._queue(to).add(publication, group)
        return publication

    def _queue(self, to: TopicPartition) -> PartitionQueue:
        if to not in self._queues:
            self._queues[to] = PartitionQueue(to, self._senders, timeout=self._timeout)
        return self._queues[to]

    def _known_counts(self, topics: set[str]) -> Counts | None:
        """The number of partitions of each; None if something must be asked for."""
        sender = self._senders.take_at_once()
        if sender is None:
            return None
        counts = {topic: sender.known_partitions(topic) for topic in topics}
        self._senders.give_back_at_once(sender)
        return counts if all(counts.values()) else None

    async def _counts(self, topics: set[str]) -> Counts:
        """The number of partitions of each. Raises KafkaUnreachable."""
        told: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._not_queued.add(told)
        try:
            async with self._senders.taken() as sender, asyncio.timeout(self._timeout):
                return {topic: await sender.partitions(topic) for topic in topics}
        except TimeoutError as error:
            said = f"Kafka has not answered for {self._timeout:g} s which topics there are"
            raise KafkaUnreachable(f"not published: {said}") from error
        finally:
            self._not_queued.discard(told)
            told.set_result(None)

    def _tasks(self) -> list[asyncio.Task[None]]:
        return [queue.task for queue in self._queues.values() if queue.task]

    def _ends(self) -> list[asyncio.Future[Any]]:
        return [queue.end for queue in self._queues.values() if queue.end]

    async def _drain(self) -> None:
        if self._not_queued:
            await asyncio.wait(self._not_queued, timeout=DRAIN_SECONDS)
        while ends := self._ends():
            waited, before = asyncio.get_running_loop().time(), self._last_acknowledged()
            await asyncio.wait(ends, timeout=DRAIN_SECONDS)
            late = asyncio.get_running_loop().time() - waited >= DRAIN_SECONDS
            if late and self._last_acknowledged() == before:
                return

    def _last_acknowledged(self) -> float:
        return max(queue.last_acknowledged for queue in self._queues.values())


def _grouped(messages: Sequence[Message], counts: Counts) -> Groups:
    """The messages of each partition, in order. Raises PublishRefused."""
    groups: Groups = {}
    for message in messages:
        to = message.topic, _partition(message, counts[message.topic])
        group = groups.get(to)  # a TopicPartition is equal to such a pair, and takes longer to make
        if group is None:
            groups[TopicPartition(*to)] = [message]
        else:
            group.append(message)
    return groups


def _partition(message: Message, count: int) -> int:
    if len(message.record) > MAX_PAYLOAD and len(value := message.value or b"") > MAX_PAYLOAD:
        said = f"its value has {len(value):,} bytes, {MAX_PAYLOAD:,} are allowed"
        raise PublishRefused(message, Reason.TOO_LARGE, said)
    if not count:
        raise PublishRefused(message, Reason.UNKNOWN_TOPIC, "there is no such topic, or we may not see it")
    if message.partition is None:
        return partition_of(message.saga_id.encode() if (key := message.key) is None else key, count)
    return message.partition % count
