"""Both Kafkas for tests of this house, and what is written to them and read back."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from sagabus.contracts.envelope import Message, Record
from sagabus.messaging.bus.kafka import Bus, Kafka
from sagabus.messaging.bus.subscription import Assignment, Subscription
from sagabus.messaging.embedded.embedded_kafka import EmbeddedKafka
from sagabus.messaging.settings import Settings
from tests.support.conditions import until


def real_kafka(address: str) -> Kafka:
    return Kafka(Settings(kafka=address))


@contextmanager
def embedded_kafka() -> Iterator[Kafka]:
    with EmbeddedKafka() as bus:
        yield Kafka(Settings(kafka="embedded"), bus=Bus(bus.address, bus.id))


def message(topic: str, number: int, *, partition: int | None = 0, size: int = 0, key: bytes | None = b"k") -> Message:
    return Message.of(topic, key, str(number).encode().ljust(size), (("n", b"1"),), "SAGA", partition)


async def publish(cluster: Kafka, *messages: Message) -> None:
    producer = cluster.producer()
    await producer.start()
    try:
        await producer.publish(messages)
    finally:
        await producer.stop()


async def read(cluster: Kafka, topic: str) -> dict[int, list[ConsumerRecord]]:
    """All records of the topic, by partition."""
    topics = await cluster.topics([topic])
    places = [TopicPartition(topic, number) for number in range(topics[topic].partitions)]
    ends = {place: end for place, (_, end) in (await cluster.log_range(places)).items()}
    consumer = AIOKafkaConsumer(**cluster.connection.aiokafka, fetch_max_wait_ms=5)
    await consumer.start()
    await asyncio.sleep(0)  # aiokafka 0.14 cannot be stopped in the step in which it was started
    found: dict[int, list[ConsumerRecord]] = defaultdict(list)
    try:
        consumer.assign(places)
        for place in places:
            consumer.seek(place, 0)
        while [place for place in places if await consumer.position(place) < ends[place]]:
            for place, records in (await consumer.getmany(timeout_ms=100)).items():
                found[place.partition].extend(records)
    finally:
        await consumer.stop()
    return found


def numbers(records: Sequence[Record]) -> list[int]:
    return [int(record.value or b"-1") for record in records]


class Listener:
    """Takes everything from the start, or from where `start` says, and remembers what it was told."""

    def __init__(self, start: Callable[[TopicPartition], int] = lambda _: 0) -> None:
        self.start = start
        self.told: list[Assignment | None] = []
        """Assignments, and None for each end of one."""
        self.records: list[Record] = []
        self.batches = 0

    @property
    def assignment(self) -> Assignment | None:
        return self.told[-1] if self.told else None

    @property
    def shards(self) -> frozenset[int]:
        return self.assignment.shards if self.assignment else frozenset()

    @property
    def topics(self) -> frozenset[str]:
        return self.assignment.topics if self.assignment else frozenset()

    @property
    def read(self) -> list[int]:
        return numbers(self.records)

    async def assigned(self, assignment: Assignment) -> Mapping[TopicPartition, int]:
        self.told.append(assignment)
        return {place: self.start(place) for place in places(assignment)}

    async def revoked(self) -> None:
        assert self.assignment is not None, "revoked without an assignment"
        self.told.append(None)

    async def batch(self, records: Sequence[Record]) -> None:
        self.batches += 1
        self.records.extend(records)

    async def has(self, *wanted: int) -> None:
        """Wait until these numbers and no others were read, in any order of partitions."""
        await until(lambda: sorted(self.read) == sorted(wanted), what=f"{wanted} are read, not {self.read}")

    async def owns(self, *shards: int) -> None:
        await until(lambda: self.assignment and self.shards == set(shards), what=f"{shards} are owned: {self.told}")


def places(assignment: Assignment) -> list[TopicPartition]:
    return [TopicPartition(topic, shard) for topic in sorted(assignment.topics) for shard in sorted(assignment.shards)]


@asynccontextmanager
async def running(subscription: Subscription) -> AsyncIterator[Subscription]:
    await subscription.start()
    try:
        yield subscription
    finally:
        await subscription.stop()
