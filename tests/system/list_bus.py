"""A coordinator and the lean shop in one process, on a real PostgreSQL: everything is real but Kafka and the group.

For runs of many sagas that are about tables. Topics are lists; every party holds all shards and is turned by hand. The
clock of all is the number of rounds, so that what a retention keeps does not depend on how fast the machine is.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from uuid import uuid4

from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker, create_async_engine

from bench.lean_shop import lean_inventory, lean_payment, lean_shipping
from sagabus.contracts.envelope import Message, Record
from sagabus.coordinator.shard.definitions import Definitions
from sagabus.coordinator.shard.loading import Loading
from sagabus.coordinator.shard.retention import SagaRetention
from sagabus.coordinator.shard.saga_processor import SagaProcessor
from sagabus.coordinator.store.migrations import migrate
from sagabus.coordinator.store.read import Reads
from sagabus.coordinator.store.write import Store
from sagabus.messaging.bus.partition import partition_of
from sagabus.messaging.database_url import sqlalchemy_url
from sagabus.messaging.postgres.database import Database
from sagabus.messaging.publishing.dead_letter import DeadLetters
from sagabus.messaging.shards.ports import Processor
from sagabus.messaging.shards.retention import Retention
from sagabus.messaging.shards.shard_row import Claim, acquire
from sagabus.messaging.shards.tenure import Log, Tenure
from sagabus.participants import Participant
from sagabus.participants.command_processor import CommandProcessor
from sagabus.participants.handlers.session import Sessions
from sagabus.participants.inbox.tables import create_tables
from sagabus.shop.order_processing import order_processing
from tests.system.orders import REQUESTS, Fate, Order

PARTITIONS = 4
SHOP = (lean_inventory, lean_payment, lean_shipping)
SERVICES = tuple(one.service.name for one in SHOP)


@dataclass(frozen=True)
class Line:
    """A record."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


@dataclass
class ListBus:
    """Topics as lists, each record read once; also the publisher of all relays, and the clock: seconds since 1970.

    read: the topics that somebody reads. Records of others are only counted.
    """

    now: float = field(default_factory=time.time)
    read: set[str] = field(default_factory=set)
    kinds: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    """Messages published, by `ce_type`."""

    def __post_init__(self) -> None:
        self._ends: defaultdict[tuple[str, int], int] = defaultdict(int)
        self._waiting: defaultdict[tuple[str, int], list[Record]] = defaultdict(list)

    def clock(self) -> float:
        return self.now

    async def publish(self, messages: Sequence[Message]) -> None:
        for message in messages:
            self.kinds[dict(message.headers).get("ce_type", b"").decode()] += 1
            self.put(message)

    def put(self, message: Message) -> None:
        if message.topic not in self.read:
            return
        number = partition_of(message.key or b"", PARTITIONS) if message.partition is None else message.partition
        place = message.topic, number % PARTITIONS
        at = round(self.clock() * 1_000)
        record = Line(*place, self._ends[place], at, message.key, message.value, message.headers)
        self._ends[place] += 1
        self._waiting[place].append(record)

    def take(self, topic: str, partition: int) -> list[Record]:
        """What has come since the last time."""
        return self._waiting.pop((topic, partition), [])

    @property
    def empty(self) -> bool:
        return not self._waiting


@dataclass
class Party:
    """A processor that has all shards of its schema."""

    processor: Processor
    schema: str
    topics: Sequence[str]
    database: Database
    bus: ListBus
    tenures: list[Tenure] = field(default_factory=list)

    async def open(self) -> None:
        self.bus.read.update(self.topics)
        for shard in range(PARTITIONS):
            claim = Claim(cluster="paper", generation=1, partitions=PARTITIONS)
            async with self.database.transaction() as connection:
                tenure = await acquire(connection, self.schema, shard, claim, token=uuid4())
            tenure.locate({topic: Log("paper", 0, 0) for topic in self.topics})
            tenure.relay.start(self.bus, on_end=lambda: None)
            await self.processor.acquired(tenure)
            self.tenures.append(tenure)

    async def turn(self) -> None:
        """Over all that waits; returns when what it sent is published."""
        taken = {one: [r for topic in self.topics for r in self.bus.take(topic, one.shard)] for one in self.tenures}
        await self.processor.turn(taken)
        for tenure in self.tenures:
            await tenure.relay.below(1)

    async def close(self) -> None:
        for tenure in self.tenures:
            await tenure.relay.stop()
            self.processor.lost(tenure)


@dataclass
class ListWorld:
    """coordinator, then the three participants."""

    database: Database
    bus: ListBus
    parties: list[Party]

    async def orders(self, numbers: Iterable[int]) -> None:
        """A round: one turn of each party, with these new orders. It takes a second by its own clock."""
        self.bus.now += 1
        for number in numbers:
            order = Order(number, Fate.COMPLETED)
            body = json.dumps(order.request).encode()
            self.bus.put(Message.of(REQUESTS, order.id.encode(), body, (), order.id))
        for party in self.parties:
            await party.turn()

    async def settle(self) -> None:
        """Turn until nothing is under way."""
        while not self.bus.empty:
            await self.orders(())
        await self.orders(())


@asynccontextmanager
async def list_world(url: str, retention: Retention) -> AsyncIterator[ListWorld]:
    """All of it, with empty tables."""
    async with AsyncExitStack() as stack:
        database, engine, bus = Database(url), create_async_engine(sqlalchemy_url(url)), ListBus()
        stack.push_async_callback(database.stop)
        stack.push_async_callback(engine.dispose)
        await migrate(url, "sagabus")
        async with engine.begin() as connection:
            for participant in SHOP:
                await create_tables(connection, participant.service.name)
        parties = [_coordinator(database, bus, retention)]
        parties += [_participant(one, database, engine, bus, retention) for one in SHOP]
        for party in parties:
            await party.open()
            stack.push_async_callback(party.close)
        yield ListWorld(database, bus, parties)


def _coordinator(database: Database, bus: ListBus, retention: Retention) -> Party:
    side = SagaProcessor(
        database=database, store=Store("sagabus"), partitions=PARTITIONS, closed=lambda _: None,
        loading=Loading(namespace="sagabus", reads=Reads("sagabus"), definitions=Definitions([order_processing])),
        dead_letters=DeadLetters(topic="sagabus.dead-letters", by="sagabus"), clock=bus.clock,
        retention=SagaRetention(database=database, schema="sagabus", retention=retention, clock=bus.clock),
    )  # fmt: skip
    return Party(side, "sagabus", (REQUESTS, *(f"sagabus.replies.{one}" for one in SERVICES)), database, bus)


def _participant(
    one: Participant, database: Database, engine: AsyncEngine, bus: ListBus, retention: Retention
) -> Party:
    name = one.service.name
    side = CommandProcessor(
        service=name, namespace="sagabus", handlers=one.handlers, sessions=Sessions(async_sessionmaker(engine)),
        clock=bus.clock, retention=retention,
    )  # fmt: skip
    return Party(side, f"sagabus_{name}", (f"{name}.commands",), database, bus)
