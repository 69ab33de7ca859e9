"""The consumer by itself: what it hands on after places were changed, errors met, and odd records read."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import calc_crc32c
from confluent_kafka import Producer

from sagabus.messaging.bus import shard_consumer
from sagabus.messaging.bus.kafka import Kafka
from sagabus.messaging.bus.shard_consumer import ShardConsumer
from sagabus.messaging.bus.subscription import Subscription
from sagabus.messaging.bus.topic_admin import TopicSpec
from tests.messaging.clusters import Listener, message, numbers, publish, running


class Observer:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.changed: list[TopicPartition] = []
        self.errors: list[BaseException] = []
        self.lost: list[bool] = []
        """Whether it was alive, for each membership that was lost."""

    def log_changed(self, partitions: Collection[TopicPartition]) -> None:
        self.changed.extend(partitions)

    def answered(self) -> None:
        """Nothing here asks whether Kafka is there."""

    def member_lost(self, *, alive: bool) -> bool:
        self.lost.append(alive)
        return True

    def broken(self, error: BaseException) -> None:
        self.errors.append(error)


@asynccontextmanager
async def reading(cluster: Kafka, *places: TopicPartition) -> AsyncIterator[ShardConsumer]:
    """A consumer without a group, with these partitions suspended."""
    connection = cluster.connection.aiokafka
    consumer = ShardConsumer(observer=Observer(), group=None, instance=None, **connection)
    await consumer.start()
    await asyncio.sleep(0)  # aiokafka 0.14 cannot be stopped in the step in which it was started
    try:
        consumer.assign(list(places))
        consumer.suspend(places)
        yield consumer
    finally:
        await consumer.stop()


async def given(cluster: Kafka, topic: str, *numbers: int) -> TopicPartition:
    """The numbers on the first partition of a new topic."""
    await cluster.create_topics({topic: TopicSpec(4)})
    await publish(cluster, *(message(topic, number) for number in numbers))
    return TopicPartition(topic, 0)


async def next_of(consumer: ShardConsumer, place: TopicPartition) -> list[int]:
    async with asyncio.timeout(30):
        return numbers((await consumer.getmany(max_records=3))[place])


async def test_batch_that_was_overtaken_by_a_new_place_is_taken_back(embedded: Kafka, namespace: str) -> None:
    place = await given(embedded, namespace, *range(10))
    other = TopicPartition(namespace, 1)
    await publish(embedded, message(namespace, 50, partition=1))
    async with reading(embedded, place, other) as consumer:
        consumer.place({place: 0})
        records = (await consumer.getmany(max_records=3))[place]
        assert consumer.undisturbed(records) == records
        consumer.place({other: 0})
        assert numbers(consumer.undisturbed(records)) == [0, 1, 2], "another partition's place disturbs nothing"
        consumer.place({place: 7})
        assert consumer.undisturbed(records) == []
        consumer.suspend([other])
        assert await next_of(consumer, place) == [7, 8, 9]


@pytest.mark.parametrize("end", ["suspend", "let_go"])
async def test_batch_of_an_assignment_that_has_ended_is_taken_back(embedded: Kafka, namespace: str, end: str) -> None:
    place = await given(embedded, namespace, *range(10))
    async with reading(embedded, place) as consumer:
        consumer.place({place: 0})
        records = (await consumer.getmany())[place]
        if end == "suspend":
            consumer.suspend([place])
        else:
            consumer.let_go()
        assert consumer.undisturbed(records) == []
        assert await consumer.read_to(place) is None


async def test_error_on_one_partition_loses_nothing_of_another(
    embedded: Kafka, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """aiokafka moves positions on over what it drained before the error, and throws it away."""
    place = await given(embedded, namespace, *range(6))
    other = TopicPartition(namespace, 1)
    await publish(embedded, *(message(namespace, number, partition=1) for number in range(6)))
    async with reading(embedded, place, other) as consumer:
        fetched, failures = consumer._fetcher.fetched_records, iter([True])

        async def fails_once_after_draining(*args: object, **options: object) -> object:
            drained = await fetched(*args, **options)
            if drained and next(failures, False):
                raise CorruptRecordException("of another partition")
            return drained

        monkeypatch.setattr(consumer._fetcher, "fetched_records", fails_once_after_draining)
        consumer.place({place: 0, other: 0})
        seen: list[int] = []
        while len(seen) < 12:
            for records in (await consumer.getmany()).values():
                seen.extend(numbers(records))
        assert sorted(seen) == sorted([*range(6), *range(6)])


async def test_records_are_handed_on_before_the_next_fetch_is_looked_for(
    real: Kafka, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """aiokafka's fetcher looks through all partitions: not while records wait to be handed on."""
    place = await given(real, namespace)
    seen: list[str] = []
    async with reading(real, place) as consumer:
        look = consumer._fetcher._get_actions_per_node

        def looked(assignment: object) -> object:
            seen.append("with records" if consumer._fetcher._records else "without")
            return look(assignment)

        monkeypatch.setattr(consumer._fetcher, "_get_actions_per_node", looked)
        consumer.place({place: 0})
        for number in range(5):
            waiting = asyncio.create_task(next_of(consumer, place))
            await asyncio.sleep(0)  # it waits
            await publish(real, message(namespace, number))
            assert await waiting == [number]
    assert "without" in seen
    assert "with records" not in seen


async def publish_with_bad_names(cluster: Kafka, place: TopicPartition, numbers: Sequence[int]) -> None:
    """A batch whose second record has a header name that is not UTF-8, as other clients may write it."""
    producer = AIOKafkaProducer(**cluster.connection.aiokafka, acks="all")
    await producer.start()
    try:
        batch = producer.create_batch()
        for index, number in enumerate(numbers):
            headers = [("NAME", b"v"), ("null", None)] if index == 1 else []
            batch.append(timestamp=5, key=None, value=str(number).encode(), headers=headers)
        data = bytearray(batch._build()).replace(b"NAME", b"\xff\xfe\xfdE")
        struct.pack_into(">I", data, 17, calc_crc32c(bytes(data[21:])))
        batch._buffer = bytes(data)
        await (await producer.send_batch(batch, place.topic, partition=place.partition))
    finally:
        await producer.stop()


async def test_header_name_that_is_not_utf8_stops_nothing(cluster: Kafka, namespace: str) -> None:
    place = await given(cluster, namespace, 0, 1)
    await publish_with_bad_names(cluster, place, [2, 3, 4])
    await publish(cluster, message(namespace, 5), message(namespace, 100, partition=1))
    listener = Listener()
    async with running(Subscription(cluster, group=namespace, topics=[namespace], listener=listener, max_records=2)):
        await listener.has(*range(6), 100)
        await publish(cluster, message(namespace, 6))
        await listener.has(*range(7), 100)
    ordered = [record for record in listener.records if record.partition == 0]
    assert numbers(ordered) == list(range(7))
    assert [record.offset for record in ordered] == list(range(7))
    odd = ordered[3]
    assert odd.headers == (("\\xff\\xfe\\xfdE", b"v"), ("null", None))
    assert (odd.key, odd.timestamp) == (None, 5)


async def test_what_a_transaction_took_back_is_not_read(real: Kafka, namespace: str) -> None:
    place = await given(real, namespace, 0)
    producer = AIOKafkaProducer(**real.connection.aiokafka, transactional_id=namespace)
    await producer.start()
    for number, keep in ((1, False), (2, True), (3, False)):
        await producer.begin_transaction()
        await producer.send_and_wait(namespace, str(number).encode(), partition=0)
        await (producer.commit_transaction() if keep else producer.abort_transaction())
    listener = Listener()
    subscription = Subscription(real, group=namespace, topics=[namespace], listener=listener)
    async with running(subscription):
        await publish(real, message(namespace, 4))
        await listener.has(0, 2, 4)
        await producer.begin_transaction()
        await producer.send_and_wait(namespace, b"5", partition=0)
        assert await real.log_range([place]) == {place: (0, 8)}, "the end is where an open transaction begins"
        await producer.abort_transaction()
        await publish(real, message(namespace, 6))
        await listener.has(0, 2, 4, 6)
    await producer.stop()


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
async def test_compressed_records_are_read(real: Kafka, namespace: str, codec: str) -> None:
    """Others compress as they like; aiokafka needs a library for all but gzip, and stops for good without it."""
    await real.create_topics({namespace: TopicSpec(1)})
    producer = Producer({"bootstrap.servers": real.address, "compression.type": codec})
    producer.produce(namespace, b"1", key=b"k" * 500, partition=0)
    assert await asyncio.to_thread(producer.flush, 10) == 0
    listener = Listener()
    async with running(Subscription(real, group=namespace, topics=[namespace], listener=listener)):
        await listener.has(1)


class Coordinator:
    """What is looked at of aiokafka's. beats: whether the group knows the member."""

    def __init__(self) -> None:
        self.member_id = "one"
        self.beats = True

    async def _do_heartbeat(self) -> bool:
        if not self.beats:
            self.reset_generation()
        return self.beats

    async def _do_rejoin_group(self, _: object) -> bool:
        self.member_id = "another"
        return True

    def reset_generation(self) -> None:
        self.member_id = ""


async def test_membership_is_lost_once_and_who_stood_still_is_told_from_who_did_not(
    embedded: Kafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each answer to a member that is not known says so anew: to a heartbeat, and to a commit that was under way."""
    now = 1000.0
    monkeypatch.setattr(shard_consumer, "monotonic", lambda: now)
    observer, coordinator = Observer(), Coordinator()
    consumer = ShardConsumer(observer=observer, group="g", instance="a", **embedded.connection.aiokafka)
    consumer._watch_membership(coordinator)
    await coordinator._do_heartbeat()
    coordinator.beats = False
    for stands_still in (5.9, 6.1, 0.3):
        now += stands_still
        await coordinator._do_heartbeat()
        coordinator.reset_generation()
        await coordinator._do_rejoin_group(None)
    await consumer.stop()
    assert observer.lost == [True, False, True]
