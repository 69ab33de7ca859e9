"""A consumer beside the demo: reads what leaves the outboxes, tells it line by line, and keeps it for the last check.

It reads the embedded bus by assigned partitions, from the first record on, and has no part in what happens.
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import aiokafka

from sagabus.contracts.envelope import Record
from sagabus.contracts.headers import HeaderReader
from sagabus.messaging.background import cancelled
from sagabus.messaging.bus.kafka import Kafka

FETCH_WAIT: Final = 10
"""Milliseconds: the embedded bus does not wake a waiting fetch."""

ENDS: Final = frozenset({"completed", "compensated", "cancelled", "terminated"})


@dataclass(frozen=True, slots=True)
class Happening:
    """One event as it was read. sequence: 0 for a domain event."""

    id: str
    type: str
    saga_id: str
    key: str
    sequence: int
    body: Mapping[str, Any]

    @property
    def is_end(self) -> bool:
        head, _, status = self.type.rpartition(".")
        return head == "sagabus.saga" and status in ENDS

    def __str__(self) -> str:
        number = f" #{self.sequence}" if self.sequence else ""
        return f"{self.type.removeprefix('sagabus.')} {self.saga_id}{number}{self._more()}"

    def _more(self) -> str:
        about = [str(self.body[name]) for name in ("activity",) if name in self.body]
        error = self.body.get("error")
        if isinstance(error, Mapping):
            about.append(f"{error.get('code')}: {error.get('message')}")
        return f": {', '.join(about)}" if about else ""


class Witness:
    """What was seen, in the order of reading. Each `ce_id` counts once: delivery is at least once."""

    def __init__(self, tell: Callable[[Happening], None]) -> None:
        self._tell = tell
        self._seen: dict[str, Happening] = {}
        self._news = asyncio.Condition()

    @property
    def happenings(self) -> Collection[Happening]:
        return self._seen.values()

    def lifecycles(self) -> Mapping[str, Sequence[Happening]]:
        """The numbered events of each saga, in their order."""
        found = defaultdict(list)
        for happening in sorted(self._seen.values(), key=lambda one: one.sequence):
            if happening.sequence:
                found[happening.saga_id].append(happening)
        return found

    async def end_of(self, saga_id: str) -> Happening:
        """Wait until the saga has closed."""
        async with self._news:
            await self._news.wait_for(lambda: self._end(saga_id) is not None)
        end = self._end(saga_id)
        assert end is not None
        return end

    def _end(self, saga_id: str) -> Happening | None:
        return next((one for one in self._seen.values() if one.saga_id == saga_id and one.is_end), None)

    async def sees(self, records: Sequence[Record]) -> None:
        """Keep and tell what these say, and wake who waits for it."""
        self.keep([_happening(record) for record in records])
        async with self._news:
            self._news.notify_all()

    def keep(self, happenings: Iterable[Happening]) -> None:
        for happening in happenings:
            if happening.id not in self._seen:
                self._seen[happening.id] = happening
                self._tell(happening)


@asynccontextmanager
async def watching(kafka: Kafka, topics: Collection[str], tell: Callable[[Happening], None]) -> AsyncIterator[Witness]:
    """Reads these topics until the block is left."""
    witness = Witness(tell)
    found = await kafka.topics(topics)
    places = [aiokafka.TopicPartition(topic.name, n) for topic in found.values() for n in range(topic.partitions)]
    consumer = aiokafka.AIOKafkaConsumer(
        **kafka.connection.aiokafka, auto_offset_reset="earliest", fetch_max_wait_ms=FETCH_WAIT
    )
    await consumer.start()
    consumer.assign(places)
    reading = asyncio.create_task(_read(consumer, witness), name="witness")
    try:
        yield witness
    finally:
        await cancelled([reading])
        await consumer.stop()


async def _read(consumer: aiokafka.AIOKafkaConsumer, witness: Witness) -> None:
    while True:
        for records in (await consumer.getmany(timeout_ms=1000)).values():
            await witness.sees(records)


def _happening(record: Record) -> Happening:
    headers = HeaderReader(record.headers)
    return Happening(
        id=headers.required("ce_id"),
        type=headers.required("ce_type"),
        saga_id=headers.required("ce_subject"),
        key=(record.key or b"").decode(),
        sequence=int(headers.text("ce_sequence") or 0),
        body=json.loads(record.value or b"{}"),
    )
