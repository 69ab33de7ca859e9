"""Ownership on a real PostgreSQL and both Kafkas; on the real one by processes that are stopped and killed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from sagabus.contracts.envelope import Message
from sagabus.messaging.bus.kafka import Kafka
from sagabus.messaging.bus.producer import BatchProducer
from sagabus.messaging.bus.topic_admin import TopicSpec
from tests.messaging.clusters import embedded_kafka, numbers, read, real_kafka
from tests.messaging.counting_process import owner
from tests.messaging.counting_processor import Counter
from tests.messaging.shards_fixture import Condition, Shards, opened
from tests.support.conditions import until
from tests.support.processes import Child

PARTITIONS = 4
CHUNK = 500


class OwnershipFixture:
    """The topics, the tables, and the processes of one test."""

    def __init__(self, kafka: Kafka, url: str, shards: Shards, producer: BatchProducer, folder: Path) -> None:
        self.kafka, self.url, self.shards, self.producer, self.folder = kafka, url, shards, producer, folder
        self.namespace = shards.schema
        self.given = 0

    async def give(self, chunks: int) -> None:
        """Publish the next numbers, spread over the partitions."""
        for _ in range(chunks):
            last = self.given + CHUNK
            topic = f"{self.namespace}.in"
            await self.producer.publish(
                [Message.of(topic, b"k", str(n).encode(), (), "S", n % PARTITIONS) for n in range(self.given, last)]
            )
            self.given = last

    async def counted(self) -> list[int]:
        return [int(value) for _, value in await Counter(self.shards).rows()]

    async def until_counted(self, number: int) -> None:
        async def enough() -> bool:
            return len(await self.counted()) >= number

        condition: Condition = enough
        await until(condition, within=120, what=f"{number} of {self.given} were counted")

    async def all_counted_once(self) -> None:
        await self.until_counted(self.given)
        assert sorted(await self.counted()) == [*range(self.given)]

    async def first_copies_in_order(self) -> None:
        """Copies may follow, but the first ones have left in order."""

        async def all_out() -> bool:
            found = await read(self.kafka, f"{self.namespace}.out")
            return len({n for records in found.values() for n in numbers(records)}) == self.given

        condition: Condition = all_out
        await until(condition, every=0.5, what="all have left")
        for partition, records in (await read(self.kafka, f"{self.namespace}.out")).items():
            assert [*dict.fromkeys(numbers(records))] == [*range(partition, self.given, PARTITIONS)]

    async def start(self, name: str) -> Child:
        arguments = (self.kafka.address, self.url, self.namespace)
        child = Child.python("tests.messaging.counting_process", *arguments, folder=self.folder, name=name)
        await child.says("started")
        return child


@pytest.fixture
def real(kafka: str) -> Kafka:
    return real_kafka(kafka)


@pytest.fixture
def embedded() -> Iterator[Kafka]:
    with embedded_kafka() as cluster:
        yield cluster


@pytest.fixture(params=["real"])
async def fixture(
    request: pytest.FixtureRequest, database: str, namespace: str, run_folder: Path
) -> AsyncIterator[OwnershipFixture]:
    cluster: Kafka = request.getfixturevalue(request.param)
    names = [f"{namespace}.in", f"{namespace}.out"]
    await cluster.create_topics(dict.fromkeys(names, TopicSpec(PARTITIONS)))
    producer = cluster.producer()
    await producer.start()
    async with opened(database, namespace) as shards:
        await Counter(shards).create()
        yield OwnershipFixture(cluster, database, shards, producer, run_folder)
    await producer.stop()


@pytest.mark.parametrize("fixture", ["real", "embedded"], indirect=True)
async def test_each_record_counts_once_and_stop_hands_over_at_once(fixture: OwnershipFixture) -> None:
    for _ in range(2):
        ownership = owner(fixture.kafka, fixture.shards)
        await ownership.start()
        await fixture.give(4)
        await fixture.all_counted_once()
        await ownership.stop()
        assert await fixture.shards.rows("outbox") == []
    positions = {row["relay_position"] for row in await fixture.shards.rows("shard")}
    assert positions == {fixture.given // PARTITIONS}
    await fixture.first_copies_in_order()


@pytest.mark.ring("faults")
async def test_s1_s2_s3_each_record_counts_once_with_a_zombie_and_a_killed_process(fixture: OwnershipFixture) -> None:
    """One is stopped in the middle of its work, another takes over; the first wakes up as a zombie, and is killed."""
    first = await fixture.start("first")
    await fixture.give(2)
    await fixture.until_counted(CHUNK)
    await fixture.give(20)
    first.pause()
    second = await fixture.start("second")
    await fixture.until_counted(fixture.given)
    await fixture.give(4)
    first.resume()
    await fixture.give(20)
    await fixture.all_counted_once()
    await fixture.give(20)
    first.kill()
    await fixture.give(4)
    await fixture.all_counted_once()
    second.terminate()
    assert await second.ended() == 0, second.report()
    await fixture.first_copies_in_order()
