"""Publishing: whole batches to named partitions, in order, acknowledged by all replicas.

What Kafka will never take is `PublishRefused` and names the message: a refused batch is sent again in ever smaller ones
until the message stands alone. Everything else is `PublishFailed`: whether it arrived is unknown ("timed out" means
unknown), and this producer is finished, since aiokafka does not recover from a gap in its sequence numbers. The owner
makes another one and sends again what was not acknowledged.

It must never reorder messages of one partition, also not by trying again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from enum import StrEnum
from typing import Final

from aiokafka import errors

from sagabus.contracts.envelope import MAX_PAYLOAD, Message
from sagabus.contracts.errors import SagabusError
from sagabus.messaging.bus.kafka_connection import KafkaConnection
from sagabus.messaging.bus.partition import partition_of
from sagabus.messaging.bus.sender import Failure, Place, Sender, Unencodable

Groups = dict[Place, list[Message]]

PUBLISH_TIMEOUT: Final = 15.0
"""Seconds for one call of `publish`. By itself an idempotent aiokafka producer tries for ever."""


class Reason(StrEnum):
    """Why a message can never be published."""

    TOO_LARGE = "too_large"
    UNKNOWN_TOPIC = "unknown_topic"
    NOT_AUTHORISED = "not_authorised"
    INVALID = "invalid"


class PublishFailed(SagabusError):
    """It is not known whether these messages were published. The producer cannot be used any more."""


class PublishRefused(SagabusError):
    """Kafka will never take `message`, which is the very object that was handed over. The producer goes on.

    Messages to other partitions may have been published, and those before it to its own; none after it there.
    """

    def __init__(self, message: Message, reason: Reason, said: str) -> None:
        super().__init__(f"a message to {message.topic} can never be published: {reason}: {said}")
        self.message = message
        self.reason = reason

    @property
    def topic(self) -> str | None:
        """The topic, if nothing at all can be published to it; None if only this message is refused."""
        return self.message.topic if self.reason in (Reason.UNKNOWN_TOPIC, Reason.NOT_AUTHORISED) else None


class InvalidRecordError(errors.BrokerResponseError):  # type: ignore[misc]    # aiokafka has no types
    """INVALID_RECORD, which aiokafka 0.14 does not know: a record without a key on a compacted topic, for one."""

    errno = 87
    message = "INVALID_RECORD"


errors.kafka_errors.setdefault(InvalidRecordError.errno, InvalidRecordError)

REFUSALS: Final[Mapping[type[BaseException], Reason]] = {
    errors.MessageSizeTooLargeError: Reason.TOO_LARGE,
    errors.RecordListTooLargeError: Reason.TOO_LARGE,
    errors.InvalidTopicError: Reason.UNKNOWN_TOPIC,
    errors.UnknownTopicOrPartitionError: Reason.UNKNOWN_TOPIC,
    errors.TopicAuthorizationFailedError: Reason.NOT_AUTHORISED,
    errors.InvalidTimestampError: Reason.INVALID,
    errors.PolicyViolationError: Reason.INVALID,
    InvalidRecordError: Reason.INVALID,
}
"""Errors that the same message would meet again. All others count as unknown."""


class BatchProducer:
    """Made by `Kafka.producer()`. Several tasks may publish at once: their batches share requests."""

    def __init__(
        self, connection: KafkaConnection, *, makes_topics: bool = False, timeout: float = PUBLISH_TIMEOUT
    ) -> None:
        """`makes_topics`: on the embedded bus a topic appears when it is named."""
        self._connection = connection
        self._makes_topics = makes_topics
        self._timeout = timeout
        self._sender: Sender | None = None
        self._renewing = asyncio.Lock()

    async def start(self) -> None:
        """Raises KafkaUnreachable."""
        self._sender = self._sender or await self._open()

    async def stop(self) -> None:
        """What is being published is awaited, within bounds. May be repeated."""
        sender, self._sender = self._sender, None
        if sender is not None:
            await sender.close()

    async def publish(self, messages: Sequence[Message]) -> None:
        """Returns when all are acknowledged; order is kept for each topic and partition.

        Raises PublishRefused, after which the others may be published again, or PublishFailed, after which nothing may.
        When it is cancelled, batches that are under way may still arrive, but none is begun.
        """
        try:
            async with asyncio.timeout(self._timeout):
                await self._publish(messages)
        except PublishRefused:
            raise
        except Exception as error:
            await self._give_up()
            raise PublishFailed(f"not known to be published: {str(error) or type(error).__name__}") from error

    async def _publish(self, messages: Sequence[Message]) -> None:
        async with self._using() as sender:
            groups = await _grouped(sender, messages)
        limit = None
        while groups:
            async with self._using() as sender:
                failures = await _sent(sender, groups, limit)
            if failures:
                await self._renew(sender)
                limit = _smaller(failures)
            groups = {failure.place: failure.unsent for failure in failures}

    @asynccontextmanager
    async def _using(self) -> AsyncIterator[Sender]:
        sender = self._sender
        if sender is None:
            raise PublishFailed("this producer has failed or was stopped: make another one")
        sender.users += 1
        try:
            yield sender
        finally:
            sender.users -= 1
            await self._close_unused(sender)

    async def _renew(self, refused: Sender) -> None:
        """After a refusal the sequence numbers of that partition have a gap. Who still uses the old sender goes on."""
        async with self._renewing:
            if self._sender is refused:
                self._sender = await self._open()
            refused.retired = True
        await self._close_unused(refused)

    async def _close_unused(self, sender: Sender) -> None:
        if sender.retired and not sender.users:
            await sender.close()

    async def _give_up(self) -> None:
        sender, self._sender = self._sender, None
        if sender is not None:
            await sender.abandon()

    async def _open(self) -> Sender:
        sender = Sender(self._connection, makes_topics=self._makes_topics)
        await sender.start()
        return sender


async def _grouped(sender: Sender, messages: Sequence[Message]) -> Groups:
    """The messages of each partition, in order. Raises PublishRefused."""
    counts = {topic: await sender.partitions(topic) for topic in {message.topic for message in messages}}
    groups: Groups = {}
    for message in messages:
        place = (message.topic, _partition(message, counts[message.topic]))
        if place in groups:
            groups[place].append(message)
        else:
            groups[place] = [message]
    return groups


def _partition(message: Message, count: int) -> int:
    if message.value is not None and len(message.value) > MAX_PAYLOAD:
        said = f"its value has {len(message.value):,} bytes, {MAX_PAYLOAD:,} are allowed"
        raise PublishRefused(message, Reason.TOO_LARGE, said)
    if not count:
        raise PublishRefused(message, Reason.UNKNOWN_TOPIC, "there is no such topic, or we may not see it")
    if message.partition is None:
        return partition_of(message.saga_id.encode() if message.key is None else message.key, count)
    return message.partition % count


async def _sent(sender: Sender, groups: Groups, limit: int | None) -> list[Failure]:
    """The batches that Kafka refuses. Raises PublishRefused, or the error of a batch whose fate is unknown."""
    try:
        failures = await sender.send(groups, limit=limit)
    except Unencodable as error:
        raise PublishRefused(error.message, Reason.INVALID, str(error)) from error
    for failure in failures:
        if type(failure.error) not in REFUSALS:
            raise failure.error
    return failures


def _smaller(failures: Collection[Failure]) -> int:
    """How many messages a batch may have in the next try. Raises PublishRefused if that would be of no use."""
    for failure in failures:
        refused = PublishRefused(failure.tried[0], REFUSALS[type(failure.error)], str(failure.error))
        if len(failure.tried) == 1 or refused.topic is not None:
            raise refused from failure.error
    return min(len(failure.tried) for failure in failures) // 2
