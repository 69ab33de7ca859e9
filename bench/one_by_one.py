"""How long sagas take that are alone: each is started when the one before it has ended."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from bench.batches import producer_at
from bench.wire import Wire


async def one_by_one(kafka: str, wire: Wire, numbers: Iterable[int]) -> list[float]:
    """Seconds from the request to the event that the saga has completed, as a client meets them."""
    async with client(kafka, wire, range(wire.partitions)) as (producer, consumer):
        return [await _one(producer, consumer, wire, number) for number in numbers]


async def _one(producer: AIOKafkaProducer, consumer: AIOKafkaConsumer, wire: Wire, number: int) -> float:
    key, value, headers = wire.request(number)
    begun = time.perf_counter()
    await producer.send(wire.requests, value, key=key, headers=headers)
    async for record in consumer:
        if record.key == key and wire.ends(record):
            return time.perf_counter() - begun
    raise AssertionError("a consumer without an end has ended")


@asynccontextmanager
async def client(
    kafka: str, wire: Wire, partitions: Iterable[int]
) -> AsyncIterator[tuple[AIOKafkaProducer, AIOKafkaConsumer]]:
    """A producer, and a consumer of these partitions of the events from now on."""
    producer = await producer_at(kafka)
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka)
    await consumer.start()
    try:
        places = [TopicPartition(wire.events, number) for number in partitions]
        consumer.assign(places)
        for place, offset in (await consumer.end_offsets(places)).items():
            consumer.seek(place, offset)
        yield producer, consumer
    finally:
        await consumer.stop()
        await producer.stop()
