"""The product on a stage, as something to measure: started and stopped as a whole, and given sagas."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Final

import asyncpg
import psutil
from aiokafka import AIOKafkaProducer

from bench.batches import Message, by_partition, producer_at, publish
from bench.load_run import COORDINATORS, KAFKA, LONGEST, PARTICIPANTS, POSTGRESQL, Run, measured
from bench.processor_time import Kinds
from bench.stage import PARTITIONS, SHOP, Stage
from bench.wire import Wire
from sagabus.coordinator.store.tables import IS_OPEN
from tests.support.conditions import until
from tests.support.processes import Child
from tests.system.orders import REQUESTS, Fate, Order
from tests.system.ordinary.loop_watch import FOLDER_VARIABLE

WARM: Final = 300
"""Sagas before a measurement: statements are prepared, and caches are full."""

STOCK: Final = 100_000_000
"""Pieces of each product: the shop never runs out of one."""

STOPS: Final = 30.0
"""Seconds of patience for a process to end after SIGTERM."""

TAKEN: Final = "SELECT coalesce(sum((topics->'sagabus.requests'->>'next')::bigint), 0)::bigint FROM sagabus.shard"
ANY_OPEN: Final = f"SELECT id FROM sagabus.saga WHERE {IS_OPEN} AND id >= 'ORD-' AND id < 'ORD.' ORDER BY id LIMIT 1"
"""One is looked for, and none is counted: a count reads all that are open, again and again, and entries of the index
whose sagas have ended. So a look costs the same with an empty table and with millions that wait for something."""

LOOKS: Final = {"enable_seqscan": "off", "enable_bitmapscan": "off"}
"""Of the connection that looks. Each entry of an ended saga is then read once, and marked; a bitmap marks nothing."""


def request(number: int, fate: Fate = Fate.COMPLETED) -> Message:
    """As any program sends it: JSON, and no headers."""
    order = Order(number, fate)
    return order.id.encode(), json.dumps(order.request).encode(), []


WIRE: Final = Wire(REQUESTS, "sagabus.events", PARTITIONS, b"sagabus.saga.completed", request)


async def taken(connection: asyncpg.Connection[asyncpg.Record]) -> int:
    """Requests that the coordinators have taken in, since ever."""
    found: int = await connection.fetchval(TAKEN)
    return found


async def is_quiet(connection: asyncpg.Connection[asyncpg.Record]) -> bool:
    """No order saga is open."""
    return await connection.fetchval(ANY_OPEN) is None


@dataclass
class Product:
    """coordinators: so many processes. The participants of a module are one process."""

    stage: Stage
    connection: asyncpg.Connection[asyncpg.Record]
    producer: AIOKafkaProducer
    coordinators: int = 1
    started: int = field(default=0, init=False)
    """Sagas so far. Their numbers are 1 to this."""
    _coordinators: list[Child] = field(default_factory=list, init=False)
    _participants: list[Child] = field(default_factory=list, init=False)
    _starts: int = field(default=0, init=False)
    _probed: int = field(default=0, init=False)

    @property
    def kinds(self) -> Kinds:
        return {
            COORDINATORS: [child.pid for child in self._coordinators],
            PARTICIPANTS: [child.pid for child in self._participants],
            KAFKA: [self.stage.broker.process.pid],
            POSTGRESQL: [self.stage.server.process.pid],
        }

    @property
    def coordinator_pids(self) -> list[int]:
        return [child.pid for child in self._coordinators]

    @property
    def memory_mib(self) -> int:
        """Resident, of all coordinators."""
        return sum(psutil.Process(pid).memory_info().rss for pid in self.coordinator_pids) >> 20

    async def start(self, participants: Sequence[str], *, warm: int = WARM, static: bool = False) -> None:
        """All processes; when this returns, so many sagas have ended. static: coordinators are instances."""
        deployment = self.stage.deployment
        if participants == SHOP:
            await self.connection.execute(f"UPDATE inventory_stock SET free = {STOCK}")
        self._starts += 1
        for number in range(self.coordinators):
            instance = f"coordinator-{number}" if static else ""
            await self.add_coordinator(f"coordinator-{self._starts}-{number}", instance=instance)
        for number, module in enumerate(participants):
            child = await deployment.participant(module, f"participant-{self._starts}-{number}")
            self._participants.append(child)
        await self.run(warm)

    async def add_coordinator(self, name: str, *, instance: str = "") -> Child:
        """It has joined when this returns. One that is watched writes into the folder `stalls`."""
        stalls = self.stage.deployment.folder / "stalls"
        child = await self.stage.deployment.coordinator(
            name, instance=instance, settings={FOLDER_VARIABLE: str(stalls)}
        )
        self._coordinators.append(child)
        return child

    def kill_coordinator(self) -> None:
        """The first one, by SIGKILL."""
        self._coordinators.pop(0).kill()

    def probes(self, count: int) -> range:
        """Numbers of so many sagas that were filled in, and that nobody has asked for before."""
        self._probed += count
        return range(self._probed - count + 1, self._probed + 1)

    async def until_quiet(self) -> None:
        """No order saga is open."""

        async def quiet() -> bool:
            return await is_quiet(self.connection)

        await until(quiet, within=LONGEST, every=0.1, what="all sagas have ended")

    async def stop(self) -> None:
        """In order, as by a rolling restart."""
        children = [*self._participants, *self._coordinators]
        for child in children:
            child.terminate()
        for child in children:
            await child.ended(within=STOPS)
        self._participants.clear()
        self._coordinators.clear()

    @property
    def wire(self) -> Wire:
        return replace(WIRE, partitions=self.stage.partitions)

    def numbers(self, count: int) -> range:
        """Of so many new sagas."""
        self.started += count
        return range(self.started - count + 1, self.started + 1)

    async def run(self, count: int, fate: Callable[[int], Fate] = lambda number: Fate.COMPLETED) -> Run:
        """So many sagas at once. fate: of an order's number."""
        messages = [request(number, fate(number)) for number in self.numbers(count)]
        outgoing = by_partition(REQUESTS, self.stage.partitions, messages)
        before = await taken(self.connection)

        async def ended() -> bool:
            return await taken(self.connection) == before + count and await is_quiet(self.connection)

        return await measured(self.kinds, self.connection, count, lambda: publish(self.producer, outgoing), ended)


@asynccontextmanager
async def product_on(stage: Stage, *, coordinators: int = 1) -> AsyncIterator[Product]:
    """Nothing of it runs yet. Its processes end with the stage."""
    connection = await asyncpg.connect(stage.database, server_settings=LOOKS)
    producer = await producer_at(stage.kafka)
    try:
        yield Product(stage, connection, producer, coordinators)
    finally:
        await producer.stop()
        await connection.close()
