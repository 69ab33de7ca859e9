"""Records sent as whole batches, one a partition: the least that a sender can cost, so that it disturbs nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from aiokafka import AIOKafkaProducer

from sagabus.messaging.bus.partition import partition_of

BATCH_BYTES: Final = 1 << 20

Headers: TypeAlias = list[tuple[str, bytes]]
Message: TypeAlias = tuple[bytes, bytes, Headers]
"""Key, value, headers."""

Outgoing: TypeAlias = Mapping[tuple[str, int], Sequence[Message]]
"""By topic and partition."""


async def producer_at(kafka: str) -> AIOKafkaProducer:
    """Started. Idempotent, and acknowledged by all replicas."""
    producer = AIOKafkaProducer(
        bootstrap_servers=kafka, acks="all", enable_idempotence=True, linger_ms=0, max_batch_size=BATCH_BYTES
    )
    await producer.start()
    return producer


def by_partition(topic: str, partitions: int, messages: Iterable[Message]) -> Outgoing:
    """Each in the partition of its key, as Kafka's own clients choose it."""
    outgoing: dict[tuple[str, int], list[Message]] = {}
    for message in messages:
        outgoing.setdefault((topic, partition_of(message[0], partitions)), []).append(message)
    return outgoing


async def publish(producer: AIOKafkaProducer, outgoing: Outgoing) -> None:
    """All of it; returns when it is acknowledged."""
    sent: list[Any] = []
    for (topic, partition), messages in outgoing.items():
        batch = producer.create_batch()
        for key, value, headers in messages:
            if batch.append(key=key, value=value, timestamp=None, headers=headers) is None:
                batch.close()
                sent.append(await producer.send_batch(batch, topic, partition=partition))
                batch = producer.create_batch()
                batch.append(key=key, value=value, timestamp=None, headers=headers)
        batch.close()
        sent.append(await producer.send_batch(batch, topic, partition=partition))
    await asyncio.gather(*sent)
