"""What waits for one partition, and its way out.

One batch is under way at a time, made of whatever waits when the one before it is answered: a thousand callers with one
message each travel in a few batches, and none overtakes another. A batch fails for those whose messages are in it;
what waits behind it goes on. A batch that Kafka refuses is sent again in smaller ones, until the message that it
refuses stands alone.

A batch is sent where it is asked for, and its answer is heard where it arrives, without a task. A task runs only while
something must be waited for: a connection, a topic that is not known, a late answer, the end of a spoilt sender.

    a sender is taken -> `begin` -> a good answer    -> the sender is given back -> `end`
                                 -> failed, or late  -> a task: `answered`, with its `end` -> the sender is given back

An answer is late after TOPIC_APPEARS_SECONDS: aiokafka never says that a topic was deleted, so `answered` asks.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine, Sequence
from typing import Any, Final, NamedTuple

from aiokafka import TopicPartition

from sagabus.contracts.envelope import Message
from sagabus.messaging.bus.kafka_connection import KafkaUnreachable
from sagabus.messaging.bus.kafka_refusals import REFUSALS
from sagabus.messaging.bus.publication import Batch, Part, Publication, next_batch
from sagabus.messaging.bus.publish_errors import Reason
from sagabus.messaging.bus.sender import BATCH_BYTES, TOPIC_APPEARS_SECONDS, Answer, Sender
from sagabus.messaging.bus.sender_source import SenderSource

BATCHES_BEFORE_GROWTH: Final = 16
"""Acknowledged ones after which batches that were made smaller may be twice as large again. A refusal costs a new
connection, so that it must be rare where a topic takes only small batches."""


class _UnderWay(NamedTuple):
    """late: ends the waiting without a task."""

    sender: Sender
    batch: Batch
    answer: Answer
    late: asyncio.TimerHandle


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
        self._under_way: _UnderWay | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def task(self) -> asyncio.Task[None] | None:
        """Runs while something must be waited for but an answer in time."""
        return None if self._task is None or self._task.done() else self._task

    @property
    def end(self) -> asyncio.Future[Any] | None:
        """Of what is going on here; more may follow. None: nothing waits."""
        return self._under_way.answer.future if self._under_way else self.task

    def add(self, publication: Publication, messages: Sequence[Message]) -> None:
        """To be sent after all that was added before."""
        self._waiting.append(Part(publication, messages, asyncio.get_running_loop().time()))
        if self._under_way is None and self.task is None:
            self._go_on()

    def fail_all(self, sentence: str) -> None:
        """Also what is under way: its answer is not heard any more."""
        if self._under_way is not None:
            self._off_the_way()
        while self._waiting:
            self._waiting.popleft().fail(sentence)

    def _go_on(self) -> None:
        """Send what waits: at once, or in a task where something must be waited for before."""
        try:
            if self._something_waits() and not self._send_at_once():
                self._run(self._send_next())
        except BaseException as error:
            self._fail_by_fault(error)
            raise

    def _send_at_once(self) -> bool:
        batch = next_batch(self._waiting, self._batch_bytes)
        sender = self._senders.take_at_once() if batch.slices else None
        if sender is None:
            return False
        if (answer := sender.begin(self.to, batch.records)) is None:
            self._senders.give_back_at_once(sender)
            return False
        batch.begin()
        late = asyncio.get_running_loop().call_later(min(TOPIC_APPEARS_SECONDS, self._timeout), self._wait_on)
        self._under_way = _UnderWay(sender, batch, answer, late)
        answer.future.add_done_callback(self._hear)
        return True

    def _hear(self, future: asyncio.Future[Any]) -> None:
        """The answer of what is under way is there."""
        sender, batch, answer, _ = self._off_the_way()
        failed = future.cancelled() or future.exception() is not None
        if failed or not self._senders.give_back_at_once(sender):
            self._run(self._finish(sender, batch, sender.answered(answer)))
            return
        sender.end(answer)
        self._acknowledge(batch)
        self._go_on()

    def _wait_on(self) -> None:
        """The answer of what is under way is late."""
        sender, batch, answer, _ = self._off_the_way()
        left = max(0.0, self._timeout - TOPIC_APPEARS_SECONDS)
        self._run(self._finish(sender, batch, sender.answered(answer), seconds=left))

    def _off_the_way(self) -> _UnderWay:
        """Its answer is not heard any more, and the next batch may begin."""
        under_way = self._under_way
        assert under_way is not None
        under_way.late.cancel()
        under_way.answer.future.remove_done_callback(self._hear)
        self._under_way = None
        return under_way

    def _run(self, first: Coroutine[Any, Any, None]) -> None:
        self._task = asyncio.create_task(self._send_all(first), name=f"sagabus publishing to {self.to.topic}")

    async def _send_all(self, first: Coroutine[Any, Any, None]) -> None:
        try:
            await first
            while self._something_waits():
                await self._send_next()
        except BaseException as error:
            self._fail_by_fault(error)
            raise

    async def _send_next(self) -> None:
        try:
            sender = await self._senders.take()
        except KafkaUnreachable as error:
            self.fail_all(str(error))
            return
        batch = next_batch(self._waiting, self._batch_bytes)
        batch.begin()
        await self._finish(sender, batch, self._send(sender, batch))

    async def _send(self, sender: Sender, batch: Batch) -> None:
        if batch.slices:
            await sender.send(self.to, batch.records)

    async def _finish(
        self, sender: Sender, batch: Batch, sending: Coroutine[Any, Any, None], *, seconds: float | None = None
    ) -> None:
        """seconds: for which the batch may go on waiting for its acknowledgement."""
        failure: Exception | None = None
        try:
            async with asyncio.timeout(self._timeout if seconds is None else seconds):
                await sending
        except Exception as error:
            failure = error
        finally:
            await self._senders.give_back(sender, spoilt=failure is not None)
        if failure is None:
            self._acknowledge(batch)
        else:
            self._fail(batch, failure)

    def _acknowledge(self, batch: Batch) -> None:
        self.last_acknowledged = asyncio.get_running_loop().time()
        batch.acknowledge()
        self._acknowledged_batches += 1
        if self._acknowledged_batches % BATCHES_BEFORE_GROWTH == 0:
            self._batch_bytes = min(BATCH_BYTES, self._batch_bytes * 2)

    def _fail(self, batch: Batch, error: Exception) -> None:
        reason = REFUSALS.get(type(error))
        if reason is None:
            batch.fail(str(error) or f"Kafka has acknowledged nothing for {self._timeout:g} s")
            self._fail_overdue()
        elif batch.count == 1 or reason in (Reason.UNKNOWN_TOPIC, Reason.NOT_AUTHORISED):
            batch.refuse(reason, error)
        else:
            self._batch_bytes = max(1, min(self._batch_bytes, batch.records.size()) // 2)
            self._acknowledged_batches = 0

    def _fail_overdue(self) -> None:
        """Who has waited behind batches that were not acknowledged, for as long as one may wait, waits no longer."""
        now = asyncio.get_running_loop().time()
        for part in self._waiting:
            if now - max(part.since, self.last_acknowledged) >= self._timeout:
                part.fail(f"Kafka has acknowledged nothing for {self._timeout:g} s")

    def _fail_by_fault(self, error: BaseException) -> None:
        """A fault of ours: who waits must hear of it, whatever it is."""
        self.fail_all(f"{type(error).__name__}: {error}")

    def _something_waits(self) -> bool:
        """What is over, or acknowledged, stands in front of it."""
        while self._waiting and self._waiting[0].ended:
            self._waiting.popleft()
        return bool(self._waiting)
