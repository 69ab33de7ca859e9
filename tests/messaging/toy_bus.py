"""A bus in memory, for tests of ownership that are about everything but Kafka. The test itself plays the group."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from aiokafka import TopicPartition

from sagabus.contracts.envelope import Record
from sagabus.messaging.bus.kafka_connection import KafkaUnreachable
from sagabus.messaging.bus.subscription import Assignment, SubscriptionListener
from tests.messaging.shards_fixture import Given, Recorder


@dataclass
class ToyTopic:
    """What Kafka says of a topic."""

    id: str
    partitions: int


@dataclass
class ToyBus:
    """Topics and their records. `Bus` of the code under test; all processes of a test share one."""

    topics_: dict[str, ToyTopic] = field(default_factory=dict)
    logs: dict[TopicPartition, list[Record]] = field(default_factory=dict)
    ends: dict[TopicPartition, int] = field(default_factory=dict)
    """Where the end lies further on than the last record: transaction markers."""
    recorder: Recorder = field(default_factory=Recorder)
    away: str = ""
    """Why it does not answer a ping."""

    def make(self, topic: str, *, partitions: int = 4, id: str | None = None) -> None:
        """Also again: under a new id, empty."""
        self.topics_[topic] = ToyTopic(id or f"{topic}-id", partitions)
        for partition in range(partitions):
            self.logs[TopicPartition(topic, partition)] = []

    def put(self, topic: str, partition: int, *values: object) -> None:
        """Append records."""
        log = self.logs[TopicPartition(topic, partition)]
        for value in values:
            offset = log[-1].offset + 1 if log else 0
            log.append(Given(topic, partition, offset, value=str(value).encode()))

    async def ping(self) -> None:
        if self.away:
            raise KafkaUnreachable(self.away)

    async def cluster_id(self) -> str:
        return "toy"

    async def topics(self, names: Collection[str]) -> Mapping[str, ToyTopic]:
        return {name: topic for name, topic in self.topics_.items() if name in names}

    async def log_range(self, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, tuple[int, int]]:
        return {partition: self._range(partition) for partition in partitions}

    def producer(self) -> Recorder:
        return self.recorder

    def close_unused(self) -> None: ...

    def _range(self, partition: TopicPartition) -> tuple[int, int]:
        log = self.logs[partition]
        start, end = (log[0].offset, log[-1].offset + 1) if log else (0, 0)
        return start, max(end, self.ends.get(partition, 0))


class ToyStream:
    """Reads the bus for one process. The test plays the group: `assign`, `revoke`."""

    def __init__(self, bus: ToyBus, *, listener: SubscriptionListener) -> None:
        self.problem = ""
        self.bus = bus
        self.listener = listener
        self.places: dict[TopicPartition, int] = {}
        self.done: dict[TopicPartition, int] = {}
        self.seeks: list[Mapping[TopicPartition, int]] = []
        self.committed: dict[TopicPartition, int] = {}
        self.started = asyncio.Event()
        self.stopped = asyncio.Event()
        self.left: bool | None = None
        self.most = 1000
        """Records of one poll."""
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self.started.set()
        self._task = asyncio.create_task(self._poll())

    async def stop(self, *, leave: bool | None = None) -> None:
        self.left = leave
        self.stopped.set()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def assign(self, *shards: int, topics: Iterable[str] = ("in",), generation: int = 1) -> None:
        await self.revoke()
        assignment = Assignment(shards=frozenset(shards), topics=frozenset(topics), generation=generation)
        await self.seek(await self.listener.assigned(assignment))

    async def revoke(self) -> None:
        self.places = {}
        await self.listener.revoked()

    async def seek(self, offsets: Mapping[TopicPartition, int]) -> None:
        self.seeks.append(offsets)
        self.places |= offsets
        self.done |= offsets

    async def suspend(self, partitions: Collection[TopicPartition]) -> None:
        for partition in partitions:
            self.places.pop(partition, None)

    async def position(self, partition: TopicPartition) -> int | None:
        done = self.done.get(partition)
        at_end = done is not None and all(record.offset < done for record in self.bus.logs[partition])
        return self.bus.ends.get(partition, done) if at_end else done

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> bool:
        self.committed |= offsets
        return True

    async def _poll(self) -> None:
        while True:
            records = [record for partition in list(self.places) for record in self._new(partition)][: self.most]
            for record in records:
                self.places[TopicPartition(record.topic, record.partition)] = record.offset + 1
            reached = dict(self.places)
            if records:
                await self.listener.batch(records)
            self.done |= {partition: at for partition, at in reached.items() if self.places.get(partition) == at}
            await asyncio.sleep(0 if records else 0.002)

    def _new(self, partition: TopicPartition) -> Sequence[Record]:
        place = self.places[partition]
        return [record for record in self.bus.logs[partition] if record.offset >= place]
