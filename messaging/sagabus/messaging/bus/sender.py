"""One aiokafka producer: it sends a batch to a partition, and tells which topics there are.

It must be given one batch of a partition at a time. Two at once would not do: aiokafka gives a batch its sequence
number when it sends it, and a broker that does not know the producer yet takes any number, so the second could be
accepted after the first was refused. And aiokafka's `send_batch` waits in vain behind other batches of the partition:
its `add_batch` subtracts the whole time that has passed again after each of them.

After a batch that was not acknowledged the sequence numbers of its partition have a gap, which aiokafka does not
recover from. So the sender is spoilt: who still sends through it goes on, and `SenderSource` makes another one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final, NamedTuple, TypeVar, cast

import aiokafka
from aiokafka import TopicPartition
from aiokafka.errors import ClusterAuthorizationFailedError, KafkaError, UnknownTopicOrPartitionError

from sagabus.messaging.bus.kafka_connection import KafkaConnection, KafkaUnreachable
from sagabus.messaging.bus.lookups import STOPPED, Lookups, heard
from sagabus.messaging.bus.record_batch import RecordBatch
from sagabus.messaging.loop_time import monotonic

T = TypeVar("T")

BATCH_BYTES: Final = 256 * 1024
"""Larger ones gain nothing, and a request holds one batch of every partition. A larger message goes alone."""

UNDER_WAY_BYTES: Final = 32 * 1024 * 1024
"""Of one sender. A broker closes the connection over a request of 100 MiB (`socket.request.max.bytes`)."""

REQUEST_TIMEOUT_SECONDS: Final = 10.0
"""For one request; a broker that hangs is then asked again over a new connection."""

TOPIC_APPEARS_SECONDS: Final = 2.0
"""Within which a topic that was just made is known everywhere."""

MISSING_SECONDS: Final = 30.0
"""For which a missing topic is looked up at each call, but not waited for."""

LOOK_PAUSE_SECONDS: Final = 0.1

DELETED: Final = "there is no such topic any more"


class Answer(NamedTuple):
    """What a batch under way waits for. size: bytes of the batch."""

    future: asyncio.Future[Any]
    topic: str
    size: int


class Sender:
    """An aiokafka producer. `users` counts what is being done with it, `spoilt` says that nothing more is begun."""

    def __init__(self, connection: KafkaConnection, *, topic_appears: Callable[[str], None] | None) -> None:
        self.users = 0
        self.spoilt = False
        self._topic_appears = topic_appears
        self._missing: dict[str, float] = {}
        self._lookups = Lookups()
        self._room = _Room(UNDER_WAY_BYTES)
        self._given_up: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._producer = aiokafka.AIOKafkaProducer(
            **connection.aiokafka,
            acks="all",
            enable_idempotence=True,
            max_batch_size=BATCH_BYTES,
            request_timeout_ms=int(REQUEST_TIMEOUT_SECONDS * 1000),
        )

    async def start(self) -> None:
        """Raises KafkaUnreachable, with nothing left to close."""
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_SECONDS):
                await self._producer.start()
        except BaseException as error:
            await self._producer.stop()
            if not isinstance(error, Exception):
                raise
            raise KafkaUnreachable(_not_started(error)) from error

    async def partitions(self, topic: str) -> int:
        """How many the topic has; 0 if Kafka says for some time that there is none.

        Waits while Kafka is away, or empty. Who asks at the same time shares the answer.
        """
        known = self._producer.client.cluster.partitions_for_topic(topic)
        return len(known) if known else await self._lookups.ask(topic, lambda: self._look_up(topic))

    def known_partitions(self, topic: str) -> int:
        """How many the topic has, as far as is known without asking; 0 if it is not known."""
        return len(self._producer.client.cluster.partitions_for_topic(topic) or ())

    def begin(self, to: TopicPartition, batch: RecordBatch) -> Answer | None:
        """Send the batch, if nothing need be waited for before; otherwise nothing is done. `send` waits.

        No other batch of this partition may be under way. The answer is handed to `end` when it is there and good, to
        `answered` in all other cases.
        """
        if not self._room.free(size := batch.size()) or not self.known_partitions(to.topic):
            return None
        try:
            future = _result_at_once(self._producer.send_batch(batch, to.topic, partition=to.partition))
        except Exception:  # `send` meets it again, and tells
            return None
        if future is None:
            return None
        self._room.take(size)
        return _answer(future, to, size)

    def end(self, answer: Answer) -> None:
        """To be called once for an answer that `answered` is not asked for."""
        self._room.leave(answer.size)

    async def send(self, to: TopicPartition, batch: RecordBatch) -> None:
        """Returns when the batch is acknowledged; no other one of this partition may be under way.

        Raises what aiokafka raises, and KafkaUnreachable once this sender is abandoned.
        """
        size = batch.size()
        await self._room.enter(size)
        try:
            if not await self.partitions(to.topic):  # `send_batch` would wait long for it
                raise UnknownTopicOrPartitionError(DELETED)
            future = await self._producer.send_batch(batch, to.topic, partition=to.partition)
        except BaseException:
            self._room.leave(size)
            raise
        await self.answered(_answer(future, to, size), late=False)

    async def answered(self, answer: Answer, *, late: bool = True) -> None:
        """Returns when the batch is acknowledged. Raises as `send`. late: it should have been answered already.

        That a topic has been deleted, aiokafka never says: it tries again without end. So it is looked up here.
        """
        try:
            if not late:
                await self._wait_for(answer.future)
            looks = 0
            while not answer.future.done():
                looks = looks + 1 if await self._exists(answer.topic) is False else 0
                if looks > 1 and not answer.future.done():
                    raise UnknownTopicOrPartitionError(DELETED)
                await self._wait_for(answer.future)
            if answer.future.cancelled():
                raise KafkaUnreachable(STOPPED)
            answer.future.result()
        finally:
            self.end(answer)

    async def abandon(self) -> None:
        """Stop at once, and let nobody wait any longer. Nothing is sent after it returns.

        aiokafka's own `stop` waits for ever while Kafka is away. So its sender is ended and the connections are closed,
        after which nothing is left that could send.
        """
        sender = self._producer._sender.sender_task
        for _ in range(2):  # the first cancellation lets it wait for requests under way, the second does not
            sender.cancel()
            await self._producer.client.close()
            await asyncio.wait([sender], timeout=LOOK_PAUSE_SECONDS)
        self._producer._closed = True
        self._lookups.cancel()
        if not self._given_up.done():
            self._given_up.set_result(None)

    async def _wait_for(self, answer: asyncio.Future[Any]) -> None:
        """For as long as no topic is looked up."""
        ends: list[asyncio.Future[Any]] = [answer, self._given_up]
        await asyncio.wait(ends, timeout=TOPIC_APPEARS_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if self._given_up.done() and not answer.done():
            raise KafkaUnreachable(STOPPED)

    async def _look_up(self, topic: str) -> int:
        end = monotonic() + (0 if self._missed(topic) else TOPIC_APPEARS_SECONDS)
        client = self._producer.client
        while not (known := client.cluster.partitions_for_topic(topic)):
            there = await self._exists(topic)
            if there:
                client.add_topic(topic)
                await client.force_metadata_update()
            if there is False and monotonic() >= end:
                self._missing[topic] = monotonic()
                return 0
            await asyncio.sleep(0 if client.cluster.partitions_for_topic(topic) else LOOK_PAUSE_SECONDS)
        return len(known)

    def _missed(self, topic: str) -> bool:
        return monotonic() - self._missing.get(topic, -MISSING_SECONDS) < MISSING_SECONDS

    async def _exists(self, topic: str) -> bool | None:
        """None without an answer. Asked without naming it: `auto.create.topics.enable` makes what is named.

        A bus without any topic has taken the place of ours and is still being set up: no answer either.
        """
        if self._topic_appears is not None:
            self._topic_appears(topic)
            return True
        there = await self._lookups.ask(None, self._topics)
        return topic in there if there else None

    async def _topics(self) -> set[str]:
        """All that there are; empty without an answer."""
        try:
            return cast("set[str]", (await self._producer.client.fetch_all_metadata()).topics())
        except KafkaError:
            return set()


class _Room:
    """Bytes that may be under way at once. Who came first goes first; what is larger than all of it goes alone."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._taken = 0
        self._entrance = asyncio.Lock()
        self._left = asyncio.Event()

    def free(self, size: int) -> bool:
        """Whether nobody waits, and there is room for so many bytes."""
        return not self._entrance.locked() and self._fits(size)

    def take(self, size: int) -> None:
        self._taken += size

    async def enter(self, size: int) -> None:
        """Returns when there is room for so many bytes, which are taken then."""
        async with self._entrance:
            while not self._fits(size):
                self._left.clear()
                await self._left.wait()
            self.take(size)

    def leave(self, size: int) -> None:
        self._taken -= size
        self._left.set()

    def _fits(self, size: int) -> bool:
        return not self._taken or self._taken + size <= self._size


def _not_started(error: Exception) -> str:
    if isinstance(error, ClusterAuthorizationFailedError):  # the answer to whoever asks for a producer id
        return "Kafka refuses: this user may write to no topic; give it WRITE as docs/kafka.md says"
    return f"Kafka is unreachable: {str(error) or type(error).__name__}"


def _answer(future: asyncio.Future[Any], to: TopicPartition, size: int) -> Answer:
    future.add_done_callback(heard)
    return Answer(future, to.topic, size)


def _result_at_once(coroutine: Coroutine[Any, Any, T]) -> T | None:
    """What the coroutine returns, if it waits for nothing; else it is closed where it would wait first."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return cast("T", end.value)
    coroutine.close()
    return None
