"""Tells a listener which shards it has, and opens partitions where the listener says they are to be read on.

The listener is asked in a task of its own: aiokafka sends no heartbeats while its callback runs, and taking shards may
take longer than a session. Until it has answered, the partitions are suspended.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from aiokafka import TopicPartition
from aiokafka.errors import IllegalStateError

from sagabus.contracts.envelope import Record
from sagabus.messaging.background import Supervisor, cancelled, trace
from sagabus.messaging.backoff import Backoff, Reasons
from sagabus.messaging.bus.shard_consumer import ShardConsumer
from sagabus.messaging.bus.topic_admin import TopicInfo

log = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS: Final = 0.2
LONGEST_PAUSE_SECONDS: Final = 5.0
"""Until the listener is asked again, doubling from the first."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """What this process reads: partition n of every topic is shard n. `generation` is the group's, 0 without one."""

    shards: frozenset[int]
    topics: frozenset[str]
    generation: int


class SubscriptionListener(Protocol):
    """Who takes the records. `revoked` may come while `batch` runs; apart from that, one call at a time."""

    async def assigned(self, assignment: Assignment) -> Mapping[TopicPartition, int]:
        """Where each partition is to be read from. What is left out stays closed until `Subscription.seek`.

        Called again when it raises. Cancelled when the assignment ends before it returns.
        """

    async def revoked(self) -> None:
        """The assignment has ended: no record of it is handed on any more. Called once for each that was announced."""

    async def batch(self, records: Sequence[Record]) -> None:
        """The next records, in order for each partition. The next call waits for this one.

        When it raises, the same records come again. It must not call `Subscription.stop`.
        """


class Handover:
    """The listener's side of one assignment after the other."""

    def __init__(self, listener: SubscriptionListener, supervisor: Supervisor) -> None:
        self._listener = listener
        self._supervisor = supervisor
        self._task: asyncio.Task[None] | None = None
        self._partitions: Collection[TopicPartition] = ()
        self._announced = False
        self._ending = asyncio.Lock()

    def begin(self, consumer: ShardConsumer, partitions: Collection[TopicPartition]) -> None:
        """These are assigned from now on. Nothing of them is read before the listener has answered."""
        consumer.suspend(partitions)
        self._partitions = partitions
        shards = frozenset(partition.partition for partition in partitions)
        topics = frozenset(partition.topic for partition in partitions)
        assignment = Assignment(shards, topics, consumer.generation)
        self._task = self._supervisor.spawn(self._announce(consumer, assignment), name="assignment")

    async def end(self, consumer: ShardConsumer) -> None:
        """The assignment is over, and the listener knows when this returns. Without one, nothing."""
        async with self._ending:
            await self._end(consumer)

    async def again(self, consumer: ShardConsumer) -> None:
        """The places that the listener gave do not hold any more: the same assignment, from the beginning."""
        async with self._ending:
            if self._task is not None:
                await self._end(consumer)
                self.begin(consumer, self._partitions)

    async def by_hand(self, consumer: ShardConsumer, topics: Iterable[TopicInfo]) -> None:
        """Where there is no group: all partitions of these topics, unless they are assigned already."""
        found = {TopicPartition(topic.name, number) for topic in topics for number in range(topic.partitions)}
        if self._task is None or found != self._partitions:
            await self.end(consumer)
            consumer.assign(sorted(found))
            self.begin(consumer, found)

    async def _end(self, consumer: ShardConsumer) -> None:
        consumer.let_go()
        task, self._task = self._task, None
        if task is None:
            return
        await cancelled([task])
        if self._announced:
            self._announced = False
            await self._revoke()

    async def _announce(self, consumer: ShardConsumer, assignment: Assignment) -> None:
        offsets = await self._ask(assignment)
        try:
            consumer.place({place: offset for place, offset in offsets.items() if place in self._partitions})
        except IllegalStateError as error:  # the next rebalance has begun
            log.info("%s", error)

    async def _ask(self, assignment: Assignment) -> Mapping[TopicPartition, int]:
        backoff = Backoff(first_seconds=FIRST_PAUSE_SECONDS, longest_seconds=LONGEST_PAUSE_SECONDS)
        reasons = Reasons()
        while True:
            self._announced = True
            try:
                return await self._listener.assigned(assignment)
            except Exception as error:
                if reasons.new(error):
                    log.error("shards cannot be acquired yet, retrying: %s", error, exc_info=trace(error))
            await backoff.pause()

    async def _revoke(self) -> None:
        try:
            await self._listener.revoked()
        except Exception as error:
            log.error("shards were not given up in order: %s", error, exc_info=error)
