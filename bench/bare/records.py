"""Topics of the bare engine, and how its processes read them."""

from __future__ import annotations

from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition

from bench.batches import BATCH_BYTES

PARTITIONS: Final = 4
REQUESTS: Final = "bare.requests"
REPLIES: Final = "bare.replies"
EVENTS: Final = "bare.events"

START: Final = b"start"
COMPLETED: Final = b"SagaCompleted"


def commands_of(service: str) -> str:
    return f"bare.{service}.commands"


TOPICS: Final = (REQUESTS, REPLIES, EVENTS, *map(commands_of, ("inventory", "payment", "shipping")))


async def consumer_from_now_on(kafka: str, *topics: str) -> AIOKafkaConsumer:
    """Started, at the end of all partitions. Without a group: nobody takes them over."""
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka, fetch_max_wait_ms=100, max_partition_fetch_bytes=BATCH_BYTES)
    await consumer.start()
    places = [TopicPartition(topic, number) for topic in topics for number in range(PARTITIONS)]
    consumer.assign(places)
    for place, offset in (await consumer.end_offsets(places)).items():
        consumer.seek(place, offset)
    return consumer
