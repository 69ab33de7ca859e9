"""What waits for one partition, and its way out.

One batch is under way at a time, made of whatever waits when the one before it is answered: a thousand callers with one
message each travel in a few batches, and none overtakes another. A batch fails for those whose messages are in it;
what waits behind it goes on. A batch that Kafka refuses is sent again in smaller ones, until the message that it
refuses stands alone.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from aiokafka import TopicPartition
from aiokafka.producer.message_accumulator import BatchBuilder

from sagabus.contracts.envelope import Message
from sagabus.messaging.bus.kafka_connection import KafkaUnreachable
from sagabus.messaging.bus.kafka_refusals import REFUSALS
from sagabus.messaging.bus.publish_errors import PublishFailed, PublishRefused, Reason
from sagabus.messaging.bus.sender import BATCH_BYTES, Sender, SenderSource

BATCHES_BEFORE_GROWTH: Final = 16
"""Acknowledged ones after which batches that were made smaller may be twice as large again. A refusal costs a new
connection, so that it must be rare where a topic takes only small batches."""


class Publication:
    """One call of `publish`: published when each of its parts is acknowledged, over with the first error."""

    def __init__(self, parts: int) -> None:
        self.published: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._open = parts

    @property
    def over(self) -> bool:
        """Nobody waits for it any more: its caller was cancelled, or has an answer."""
        return self.published.done()

    def acknowledge_part(self) -> None:
        self._open -= 1
        if not self._open and not self.over:
            self.published.set_result(None)

    def fail(self, error: Exception) -> None:
        if not self.over:
            self.published.set_exception(error)


@dataclass(slots=True)
class Part:
    """The messages of a publication for one partition. acknowledged: how many of them are; begun: some were sent."""

    publication: Publication
    messages: Sequence[Message]
    since: float
    acknowledged: int = 0
    begun: bool = False


@dataclass(slots=True)
class _Batch:
    """builder: aiokafka's. slices: how many messages of which part, in order."""

    builder: BatchBuilder
    slices: list[tuple[Part, int]] = field(default_factory=list)

    @property
    def count(self) -> int:
        return sum(count for _, count in self.slices)


class PartitionQueue:
    """Of one partition. timeout: seconds in which nothing was acknowledged, after which who waits hears of it."""

    def __init__(self, to: TopicPartition, senders: SenderSource, *, timeout: float) -> None:
        self.to = to
        self._senders = senders
        self._timeout = timeout
        self._waiting: deque[Part] = deque()
        self._batch_bytes = BATCH_BYTES
        self._acknowledged_batches = 0
        self.last_acknowledged = 0.0
        self._task: asyncio.Task[None] | None = None

    @property
    def task(self) -> asyncio.Task[None] | None:
        """Runs while something waits here."""
        return None if self._task is None or self._task.done() else self._task

    def add(self, publication: Publication, messages: Sequence[Message]) -> None:
        """To be sent after all that was added before."""
        self._waiting.append(Part(publication, messages, asyncio.get_running_loop().time()))
        if self.task is None:
            self._task = asyncio.create_task(self._run(), name=f"sagabus publishing to {self.to.topic}")

    def fail_all(self, sentence: str) -> None:
        while self._waiting:
            _fail(self._waiting.popleft(), sentence)

    async def _run(self) -> None:
        try:
            while self._drop_ended():
                await self._send_next()
        except BaseException as error:  # a fault of ours: who waits must hear of it, whatever it is
            self.fail_all(f"{type(error).__name__}: {error}")
            raise

    async def _send_next(self) -> None:
        try:
            sender = await self._senders.take()
        except KafkaUnreachable as error:
            self.fail_all(str(error))
            return
        failure: Exception | None = None
        batch = self._next_batch()
        try:
            async with asyncio.timeout(self._timeout):
                await self._send(sender, batch)
        except Exception as error:
            failure = error
        finally:
            await self._senders.give_back(sender, spoilt=failure is not None)
        if failure is None:
            self._acknowledge(batch)
        else:
            self._fail(batch, failure)

    async def _send(self, sender: Sender, batch: _Batch) -> None:
        if batch.slices:
            for part, _ in batch.slices:
                part.begun = True
            await sender.send(self.to, batch.builder)

    def _next_batch(self) -> _Batch:
        """A message that cannot be put into a record is refused, and the batch is made without that publication."""
        while True:
            batch = _Batch(BatchBuilder(BATCH_BYTES, 0))
            try:
                self._fill(batch)
            except _Unencodable as error:
                error.part.publication.fail(PublishRefused(error.message, Reason.INVALID, str(error)))
            else:
                return batch

    def _fill(self, batch: _Batch) -> None:
        now, builder = int(time.time() * 1000), batch.builder
        for part in self._waiting:
            if part.publication.over:
                continue
            left = len(part.messages) - part.acknowledged
            taken = 0
            while taken < left and (not builder.record_count() or builder.size() < self._batch_bytes):
                if not _append(builder, part, part.messages[part.acknowledged + taken], now):
                    break
                taken += 1
            if taken:
                batch.slices.append((part, taken))
            if taken < left:
                return

    def _acknowledge(self, batch: _Batch) -> None:
        self.last_acknowledged = asyncio.get_running_loop().time()
        for part, count in batch.slices:
            part.acknowledged += count
            if part.acknowledged == len(part.messages):
                part.publication.acknowledge_part()
        self._grow()

    def _grow(self) -> None:
        self._acknowledged_batches += 1
        if self._acknowledged_batches % BATCHES_BEFORE_GROWTH == 0:
            self._batch_bytes = min(BATCH_BYTES, self._batch_bytes * 2)

    def _fail(self, batch: _Batch, error: Exception) -> None:
        reason = REFUSALS.get(type(error))
        if reason is None:
            said = str(error) or f"Kafka has acknowledged nothing for {self._timeout:g} s"
            for part, _ in batch.slices:
                _fail(part, said)
            self._fail_overdue()
        elif batch.count == 1 or reason in (Reason.UNKNOWN_TOPIC, Reason.NOT_AUTHORISED):
            for part, _ in batch.slices:
                refused = PublishRefused(part.messages[part.acknowledged], reason, str(error))
                refused.__cause__ = error
                part.publication.fail(refused)
        else:
            self._batch_bytes = max(1, min(self._batch_bytes, batch.builder.size()) // 2)
            self._acknowledged_batches = 0

    def _fail_overdue(self) -> None:
        """Who has waited behind batches that were not acknowledged, for as long as one may wait, waits no longer."""
        now = asyncio.get_running_loop().time()
        for part in self._waiting:
            if now - max(part.since, self.last_acknowledged) >= self._timeout:
                _fail(part, f"Kafka has acknowledged nothing for {self._timeout:g} s")

    def _drop_ended(self) -> bool:
        """Whether something waits. What is over, or acknowledged, stands in front of it."""
        while self._waiting and _ended(self._waiting[0]):
            self._waiting.popleft()
        return bool(self._waiting)


class _Unencodable(Exception):
    def __init__(self, part: Part, message: Message, error: Exception) -> None:
        super().__init__(f"{type(error).__name__}: {error}")
        self.part = part
        self.message = message


def _append(builder: BatchBuilder, part: Part, message: Message, now: int) -> bool:
    """False if the batch is full. The first record is always taken."""
    try:
        headers = list(message.headers)
        return builder.append(timestamp=now, key=message.key, value=message.value, headers=headers) is not None
    except (TypeError, ValueError) as error:
        raise _Unencodable(part, message, error) from error


def _ended(part: Part) -> bool:
    return part.publication.over or part.acknowledged == len(part.messages)


def _fail(part: Part, sentence: str) -> None:
    """What was never sent is known not to be published."""
    if part.begun:
        part.publication.fail(PublishFailed(f"not known to be published: {sentence}"))
    else:
        part.publication.fail(KafkaUnreachable(f"not published: {sentence}"))
