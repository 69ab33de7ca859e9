"""Sagas started at a fixed rate, whatever becomes of them, and how long each takes.

A saga's time begins when it is due and not when it is sent: a sender that is late hides nothing. Only some partitions
of the events are read, so that the reader takes little of a machine that it shares with what it measures.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from bench.one_by_one import client
from bench.wire import Wire
from sagabus.messaging.bus.partition import partition_of
from tests.support.conditions import until

READ: Final = (0, 3)
"""Partitions of the events that are read, which both engines have: of twelve a sixth."""

PATIENCE: Final = 120.0
"""Seconds until the last saga must have ended."""


@dataclass
class Sample:
    """due: of the sagas that are watched, by key. took: seconds of those that have ended."""

    due: dict[bytes, float] = field(default_factory=dict)
    took: list[float] = field(default_factory=list)


async def at_rate(kafka: str, wire: Wire, numbers: Sequence[int], rate: float) -> list[float]:
    """Seconds that the watched sagas took; returns when all of those have ended."""
    sample = Sample()
    async with client(kafka, wire, READ) as (producer, consumer), _watching(consumer, wire, sample):
        await _send(producer, wire, dict(zip(numbers, moments(rate, time.perf_counter()), strict=False)), sample)
        await until(lambda: not sample.due, within=PATIENCE, what="all sagas have ended")
    return sample.took


def moments(rate: float, begin: float) -> Iterator[float]:
    """When each saga is due, evenly, without end."""
    number = 0
    while True:
        yield begin + number / rate
        number += 1


async def _send(producer: AIOKafkaProducer, wire: Wire, due: dict[int, float], sample: Sample) -> None:
    for number, moment in due.items():
        key, value, headers = wire.request(number)
        if partition_of(key, wire.partitions) in READ:
            sample.due[key] = moment
        await asyncio.sleep(max(0.0, moment - time.perf_counter()))
        await producer.send(wire.requests, value, key=key, headers=headers)
    await producer.flush()


@asynccontextmanager
async def _watching(consumer: AIOKafkaConsumer, wire: Wire, sample: Sample) -> AsyncIterator[None]:
    task = asyncio.create_task(_watch(consumer, wire, sample))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def _watch(consumer: AIOKafkaConsumer, wire: Wire, sample: Sample) -> None:
    async for record in consumer:
        if wire.ends(record) and (due := sample.due.pop(record.key, None)) is not None:
            sample.took.append(time.perf_counter() - due)
