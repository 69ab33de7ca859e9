"""The bare engine on a stage, as something to measure beside the product: same broker, same database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import asyncpg
from aiokafka import AIOKafkaProducer

from bench.bare import tables
from bench.bare.messages import encoded, order
from bench.bare.records import COMPLETED, EVENTS, PARTITIONS, REQUESTS, START, TOPICS
from bench.batches import Message, by_partition, producer_at, publish
from bench.load_run import COORDINATORS, KAFKA, PARTICIPANTS, POSTGRESQL, Run, measured
from bench.processor_time import Kinds
from bench.stage import Stage
from bench.wire import Wire
from tests.support.processes import Child

WARM: Final = 300
"""Sagas before a measurement."""


def request(number: int) -> Message:
    made = order(number)
    return made.order_id.encode(), encoded(made), [("ce_type", START)]


WIRE: Final = Wire(REQUESTS, EVENTS, PARTITIONS, COMPLETED, request)


@dataclass
class Bare:
    """One process that decides, one that answers. Rows of an earlier start are removed by the next."""

    stage: Stage
    connection: asyncpg.Connection[asyncpg.Record]
    producer: AIOKafkaProducer
    started: int = field(default=0, init=False)
    """Sagas so far, over all starts."""
    _children: list[Child] = field(default_factory=list, init=False)
    _starts: int = field(default=0, init=False)
    _rows: int = field(default=0, init=False)

    @property
    def kinds(self) -> Kinds:
        engine, participant = self._children
        return {
            COORDINATORS: [engine.pid], PARTICIPANTS: [participant.pid], KAFKA: [self.stage.broker.process.pid],
            POSTGRESQL: [self.stage.server.process.pid],
        }  # fmt: skip

    async def start(self, *, warm: int = WARM) -> None:
        """When this returns, so many sagas have ended."""
        await self.connection.execute(tables.EMPTY)
        self._starts, self._rows = self._starts + 1, 0
        for module in ("engine", "participant"):
            child = Child.python(
                f"bench.bare.{module}", self.stage.kafka, self.stage.database,
                folder=self.stage.deployment.folder, name=f"bare-{module}-{self._starts}",
            )  # fmt: skip
            self._children.append(child)
            await child.says("ready")
        await self.run(warm)

    async def stop(self) -> None:
        for child in self._children:
            child.kill()
        self._children.clear()

    @property
    def wire(self) -> Wire:
        return WIRE

    def numbers(self, count: int) -> range:
        """Of so many new sagas."""
        self.started += count
        return range(self.started - count + 1, self.started + 1)

    async def run(self, count: int) -> Run:
        """So many sagas at once; all complete."""
        outgoing = by_partition(REQUESTS, PARTITIONS, map(request, self.numbers(count)))
        self._rows += count

        async def ended() -> bool:
            return bool(await self.connection.fetchval(tables.ENDED) == self._rows)

        return await measured(self.kinds, self.connection, count, lambda: publish(self.producer, outgoing), ended)


@asynccontextmanager
async def bare_on(stage: Stage) -> AsyncIterator[Bare]:
    """Topics and tables are made; nothing of it runs yet. Nothing of it runs on leaving."""
    stage.broker.create_topics(*TOPICS, partitions=PARTITIONS)
    connection = await asyncpg.connect(stage.database)
    await connection.execute(tables.SCHEMA)
    producer = await producer_at(stage.kafka)
    bare = Bare(stage, connection, producer)
    try:
        yield bare
    finally:
        await bare.stop()
        await producer.stop()
        await connection.close()
