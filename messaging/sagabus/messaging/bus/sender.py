"""One aiokafka producer, and the sending of batches through it. `producer` says what a failure means.

One batch of each partition is under way at a time, all partitions together, so no batch overtakes one that failed. Two
at once would not do: aiokafka gives a batch its sequence number when it sends it, and a broker that does not know the
producer yet takes any number, so the second could be accepted after the first was refused.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import aiokafka
from aiokafka.errors import KafkaError, UnknownTopicOrPartitionError

from sagabus.contracts.envelope import Message
from sagabus.messaging.bus.kafka_connection import KafkaConnection, KafkaUnreachable

Place = tuple[str, int]
"""Topic and partition."""

Batch = tuple[Any, Sequence[Message]]
"""aiokafka's builder, and what is in it."""

BATCH_BYTES: Final = 256 * 1024
"""Larger ones gain nothing, and a request holds one batch of every partition. A larger message goes alone."""

ROUND_BYTES: Final = 32 * 1024 * 1024
"""Under way at once. A broker closes the connection over a request of 100 MiB (`socket.request.max.bytes`)."""

REQUEST_TIMEOUT: Final = 10.0
"""Seconds for one request; a broker that hangs is then asked again over a new connection."""

TOPIC_PATIENCE: Final = 2.0
"""Seconds for a topic that was just made to be known everywhere."""

MISSING_FOR: Final = 30.0
"""Seconds for which a missing topic is looked up at each call, but not waited for."""

LOOK_AGAIN: Final = 0.1

DELETED: Final = "there is no such topic any more"

CLOSE_TIMEOUT: Final = 5.0


@dataclass(slots=True)
class Failure:
    """A batch that was not taken, and everything from it on."""

    place: Place
    error: BaseException
    tried: Sequence[Message]
    unsent: list[Message]


class Unencodable(Exception):
    """A message that cannot be put into a record. `message` is the one."""

    def __init__(self, message: Message, error: Exception) -> None:
        super().__init__(f"{type(error).__name__}: {error}")
        self.message = message


class Sender:
    """An aiokafka producer. `users` counts the calls that are sending through it."""

    def __init__(self, connection: KafkaConnection, *, makes_topics: bool) -> None:
        self.users = 0
        self.retired = False
        self._stuck = False
        self._makes_topics = makes_topics
        self._missing: dict[str, float] = {}
        self._given_up: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._producer = aiokafka.AIOKafkaProducer(
            **connection.aiokafka,
            acks="all",
            enable_idempotence=True,
            max_batch_size=BATCH_BYTES,
            request_timeout_ms=int(REQUEST_TIMEOUT * 1000),
        )

    async def start(self) -> None:
        """Raises KafkaUnreachable, with nothing left to close."""
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT):
                await self._producer.start()
        except BaseException as error:
            await self._producer.stop()
            if not isinstance(error, Exception):
                raise
            raise KafkaUnreachable(f"Kafka is out of reach: {str(error) or type(error).__name__}") from error

    async def partitions(self, topic: str) -> int:
        """How many the topic has; 0 if Kafka says for some time that there is none.

        Waits while Kafka is away, or empty.
        """
        end = time.monotonic() + (0 if self._missed(topic) else TOPIC_PATIENCE)
        client = self._producer.client
        while not (known := client.cluster.partitions_for_topic(topic)):
            there = await self._exists(topic)
            if there:
                client.add_topic(topic)
                await client.force_metadata_update()
            if there is False and time.monotonic() >= end:
                self._missing[topic] = time.monotonic()
                return 0
            await asyncio.sleep(0 if client.cluster.partitions_for_topic(topic) else LOOK_AGAIN)
        return len(known)

    async def send(self, groups: Mapping[Place, list[Message]], *, limit: int | None) -> list[Failure]:
        """Send each partition's messages in order, in batches of at most `limit`; returns when all are answered.

        Gives the partitions on which a batch failed. Raises Unencodable before anything is sent. That a topic has been
        deleted, aiokafka never says: it tries again until the patience for all is used up. So it is looked up here.
        """
        queues = {place: self._batches(messages, limit) for place, messages in groups.items()}
        failures = []
        while queues:
            under_way = await self._begin(queues)
            await self._answered(under_way)
            for place, future in under_way.items():
                if error := future.exception() if future.done() else UnknownTopicOrPartitionError(DELETED):
                    failures.append(_failure(place, error, queues.pop(place)))
                elif not queues[place][1:]:
                    del queues[place]
                else:
                    queues[place].pop(0)
        return failures

    async def close(self) -> None:
        """What is under way is awaited for some seconds, then given up. Nothing is sent after it returns."""
        with suppress(TimeoutError):
            if self._stuck:
                raise TimeoutError  # for a topic that is gone
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self._producer.flush()
        await self.abandon()

    async def abandon(self) -> None:
        """Stop at once, and let nobody wait any longer.

        aiokafka's own `stop` waits for ever while Kafka is away. So its sender is ended and the connections are closed,
        after which nothing is left that could send.
        """
        sender = self._producer._sender.sender_task
        for _ in range(2):  # the first cancellation lets it wait for requests under way, the second does not
            sender.cancel()
            await self._producer.client.close()
            await asyncio.wait([sender], timeout=LOOK_AGAIN)
        self._producer._closed = True
        if not self._given_up.done():
            self._given_up.set_result(None)

    async def _answered(self, under_way: Mapping[Place, asyncio.Future[Any]]) -> None:
        """Returns when each is answered, or can never be, because its topic is gone for `TOPIC_PATIENCE`."""
        everything: asyncio.Future[Any] = asyncio.gather(*under_way.values(), return_exceptions=True)
        looks = 0
        while not everything.done():
            ends = [everything, self._given_up]
            await asyncio.wait(ends, timeout=TOPIC_PATIENCE, return_when=asyncio.FIRST_COMPLETED)
            if self._given_up.done() and not everything.done():
                raise KafkaUnreachable("the producer was given up")
            waiting = {topic for (topic, _), future in under_way.items() if not future.done()}
            looks = looks + 1 if waiting and await self._gone(waiting) else 0
            if looks > 1:
                self._stuck = True
                return

    async def _begin(self, queues: Mapping[Place, list[Batch]]) -> dict[Place, asyncio.Future[Any]]:
        """Put the first batch of each partition under way, as far as one round may carry."""
        under_way: dict[Place, asyncio.Future[Any]] = {}
        size = 0
        for place, batches in queues.items():
            builder, _ = batches[0]
            size += builder.size()
            if under_way and size > ROUND_BYTES:
                break
            under_way[place] = await self._sent(builder, place)
            under_way[place].add_done_callback(_heard)
        return under_way

    async def _sent(self, builder: Any, place: Place) -> asyncio.Future[Any]:
        """aiokafka's `send_batch` waits long for a topic that the last metadata have no more."""
        if await self.partitions(place[0]):
            sent: asyncio.Future[Any] = await self._producer.send_batch(builder, place[0], partition=place[1])
            return sent
        never: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        never.set_exception(UnknownTopicOrPartitionError(DELETED))
        return never

    def _batches(self, messages: Iterable[Message], limit: int | None) -> list[Batch]:
        now = int(time.time() * 1000)
        batches: list[Batch] = []
        builder: Any = None
        taken: list[Message] = []
        for message in messages:
            if builder is None or len(taken) == limit or not _append(builder, message, now):
                builder, taken = self._producer.create_batch(), []
                batches.append((builder, taken))
                _append(builder, message, now)
            taken.append(message)
        return batches

    def _missed(self, topic: str) -> bool:
        return time.monotonic() - self._missing.get(topic, -MISSING_FOR) < MISSING_FOR

    async def _gone(self, topics: Iterable[str]) -> bool:
        return all([await self._exists(topic) is False for topic in topics])

    async def _exists(self, topic: str) -> bool | None:
        """None without an answer. Asked without naming it: `auto.create.topics.enable` makes what is named.

        A bus without any topic has taken the place of ours and is still being set up: no answer either.
        """
        if self._makes_topics:
            return True
        try:
            cluster = await self._producer.client.fetch_all_metadata()
        except KafkaError:
            return None
        return topic in there if (there := cluster.topics()) else None


def _append(builder: Any, message: Message, now: int) -> bool:
    """False if the batch is full. The first record is always taken."""
    try:
        headers = list(message.headers)
        return builder.append(timestamp=now, key=message.key, value=message.value, headers=headers) is not None
    except (TypeError, ValueError) as error:
        raise Unencodable(message, error) from error


def _failure(place: Place, error: BaseException, batches: Sequence[Batch]) -> Failure:
    return Failure(place, error, batches[0][1], [message for _, messages in batches for message in messages])


def _heard(future: asyncio.Future[Any]) -> None:
    """A failure of which nobody asks, because `publish` was cancelled, is no news for the log."""
    if not future.cancelled():
        future.exception()
