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
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from contextlib import asynccontextmanager
from typing import Any, Final, Generic, TypeVar, cast

import aiokafka
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError, UnknownTopicOrPartitionError
from aiokafka.producer.message_accumulator import BatchBuilder

from sagabus.messaging.bus.kafka_connection import KafkaConnection, KafkaUnreachable
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

STOPPED: Final = "the producer was stopped before the answer"


class Sender:
    """An aiokafka producer. `users` counts what is being done with it, `spoilt` says that nothing more is begun."""

    def __init__(self, connection: KafkaConnection, *, makes_topics: bool) -> None:
        self.users = 0
        self.spoilt = False
        self._makes_topics = makes_topics
        self._missing: dict[str, float] = {}
        self._lookups = _Lookups()
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
            raise KafkaUnreachable(f"Kafka is out of reach: {str(error) or type(error).__name__}") from error

    async def partitions(self, topic: str) -> int:
        """How many the topic has; 0 if Kafka says for some time that there is none.

        Waits while Kafka is away, or empty. Who asks at the same time shares the answer.
        """
        known = self._producer.client.cluster.partitions_for_topic(topic)
        return len(known) if known else await self._lookups.ask(topic, lambda: self._look_up(topic))

    async def send(self, to: TopicPartition, batch: BatchBuilder) -> None:
        """Returns when the batch is acknowledged; no other one of this partition may be under way.

        Raises what aiokafka raises. That a topic has been deleted, aiokafka never says: it tries again without end. So
        it is looked up here.
        """
        topic, partition = to
        async with self._room.taken(batch.size()):
            if not await self.partitions(topic):  # `send_batch` would wait long for it
                raise UnknownTopicOrPartitionError(DELETED)
            answer: asyncio.Future[Any] = await self._producer.send_batch(batch, topic, partition=partition)
            answer.add_done_callback(_heard)
            await self._answered(answer, topic)

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

    async def _answered(self, answer: asyncio.Future[Any], topic: str) -> None:
        looks = 0
        while not answer.done():
            ends: list[asyncio.Future[Any]] = [answer, self._given_up]
            await asyncio.wait(ends, timeout=TOPIC_APPEARS_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if self._given_up.done() and not answer.done():
                raise KafkaUnreachable(STOPPED)
            looks = looks + 1 if not answer.done() and await self._exists(topic) is False else 0
            if looks > 1:
                raise UnknownTopicOrPartitionError(DELETED)
        answer.result()

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
        if self._makes_topics:
            return True
        there = await self._lookups.ask(None, self._topics)
        return topic in there if there else None

    async def _topics(self) -> set[str]:
        """All that there are; empty without an answer."""
        try:
            return cast("set[str]", (await self._producer.client.fetch_all_metadata()).topics())
        except KafkaError:
            return set()


class SenderSource:
    """The sender that is in use, made when it is first needed, and anew when it is spoilt."""

    def __init__(self, make: Callable[[], Sender]) -> None:
        self._make = make
        self._current: Sender | None = None
        self._lookups = _Lookups()
        self._given: set[Sender] = set()
        self._closed = False

    async def take(self) -> Sender:
        """To be given back. Raises KafkaUnreachable where none can be started."""
        while (sender := self._current) is None or sender.spoilt:
            if self._closed:
                raise KafkaUnreachable(STOPPED)
            await self._lookups.ask("sender", self._open)
        sender.users += 1
        return sender

    async def give_back(self, sender: Sender, *, spoilt: bool = False) -> None:
        """spoilt: a batch was not acknowledged. The last to give it back then waits until nothing is left of it."""
        sender.users -= 1
        sender.spoilt = sender.spoilt or spoilt
        if sender.spoilt and not sender.users and sender in self._given:
            self._given.discard(sender)
            await sender.abandon()

    @asynccontextmanager
    async def taken(self) -> AsyncIterator[Sender]:
        sender = await self.take()
        try:
            yield sender
        finally:
            await self.give_back(sender)

    async def close(self) -> None:
        """Whatever is under way is given up, and nothing is begun any more."""
        self._closed, self._current = True, None
        self._lookups.cancel()
        while self._given:
            await self._given.pop().abandon()

    async def _open(self) -> None:
        sender = self._make()
        await sender.start()
        self._given.add(sender)
        self._current = sender


class _Lookups:
    """Who asks for what is being looked up already waits for the same answer. It ends when nobody waits any more."""

    def __init__(self) -> None:
        self._running: dict[Hashable, _Lookup[Any]] = {}

    async def ask(self, key: Hashable, look: Callable[[], Awaitable[T]]) -> T:
        lookup = self._running.get(key)
        if lookup is None:
            lookup = self._running[key] = _Lookup(look)
        lookup.waiting += 1
        try:
            return cast("T", await lookup.answer())
        finally:
            lookup.waiting -= 1
            if self._running.get(key) is lookup and (lookup.task.done() or not lookup.waiting):
                del self._running[key]
            if not lookup.waiting:
                lookup.task.cancel()

    def cancel(self) -> None:
        for lookup in self._running.values():
            lookup.task.cancel()


class _Lookup(Generic[T]):
    """waiting: how many do."""

    def __init__(self, look: Callable[[], Awaitable[T]]) -> None:
        self.waiting = 0
        self.task: asyncio.Task[T] = asyncio.ensure_future(_coroutine(look))
        self.task.add_done_callback(_heard)

    async def answer(self) -> T:
        try:
            return await asyncio.shield(self.task)
        except KafkaUnreachable as error:
            raise KafkaUnreachable(str(error)) from error  # each of them one of its own
        except asyncio.CancelledError:
            if self.task.cancelled():
                raise KafkaUnreachable(STOPPED) from None
            raise


async def _coroutine(look: Callable[[], Awaitable[T]]) -> T:
    return await look()


class _Room:
    """Bytes that may be under way at once. Who came first goes first; what is larger than all of it goes alone."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._taken = 0
        self._entrance = asyncio.Lock()
        self._left = asyncio.Event()

    @asynccontextmanager
    async def taken(self, size: int) -> AsyncIterator[None]:
        async with self._entrance:
            while self._taken and self._taken + size > self._size:
                self._left.clear()
                await self._left.wait()
            self._taken += size
        try:
            yield
        finally:
            self._taken -= size
            self._left.set()


def _heard(future: asyncio.Future[Any]) -> None:
    """A failure of which nobody asks, because its callers were cancelled, is no news for the log."""
    if not future.cancelled():
        future.exception()
