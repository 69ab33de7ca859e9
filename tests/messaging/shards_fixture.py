"""What the tests of tenures stand on: tables on a real PostgreSQL, records, a producer that remembers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from uuid import uuid4

import asyncpg
from sqlalchemy import MetaData
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.schema import CreateTable

from sagabus.contracts.envelope import Message, Record
from sagabus.contracts.record_bytes import PlainRecord, read_record
from sagabus.messaging.postgres.database import Database
from sagabus.messaging.postgres.engine_database import EngineDatabase
from sagabus.messaging.postgres.tables import messaging_tables, qualified
from sagabus.messaging.publishing.dead_letter import DeadLetters
from sagabus.messaging.publishing.outbox import unpublished
from sagabus.messaging.publishing.relay import Publisher
from sagabus.messaging.shards.shard_row import Claim, acquire
from sagabus.messaging.shards.tenure import Log, Tenure
from sagabus.messaging.shards.turn import Turn

Condition = Callable[[], bool | Awaitable[bool]]
"""For `until` with an async function: without it, mypy takes the coroutine itself for the answer."""

FIRST = Claim(cluster="cluster", generation=1, partitions=4)
LOGS = {"in": Log("in-id", 0, 0)}
LETTERS = DeadLetters(topic="dead-letters", by="test")


@dataclass(frozen=True)
class Given:
    """A record."""

    topic: str = "in"
    partition: int = 0
    offset: int = 0
    timestamp: int = 1_700_000_000_000
    key: bytes | None = b"ORD-1"
    value: bytes | None = b"{}"
    headers: Sequence[tuple[str, bytes]] = ()


def message(number: int, *, saga: str = "ORD-1", topic: str = "out") -> Message:
    return Message.of(topic, saga.encode(), str(number).encode(), (("ce_id", f"{number}".encode()),), saga, 0)


def plain(row: asyncpg.Record) -> PlainRecord:
    """What a row of the outbox is to say to Kafka."""
    return read_record(row["record"])


@dataclass
class Recorder:
    """A producer that remembers what it was given, waits at a closed gate, and raises what it is told to."""

    sent: list[Message] = field(default_factory=list)
    calls: int = 0
    errors: list[Exception] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    closed_for: set[int] = field(default_factory=set)
    """Partitions that wait for `open` although the gate is open."""
    opened: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.gate.set()

    def open(self) -> None:
        self.opened.set()

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def publish(self, messages: Sequence[Message]) -> None:
        self.calls += 1
        await self.gate.wait()
        if self.closed_for.intersection(message.partition for message in messages):
            await self.opened.wait()
        if self.errors:
            raise self.errors.pop(0)
        self.sent += messages

    @property
    def values(self) -> list[int]:
        return [int(message.value or b"") for message in self.sent]


@asynccontextmanager
async def opened(url: str, schema: str, *, create: bool = True, over_engine: bool = False) -> AsyncIterator[Shards]:
    """The database of one process. The tables are made by the first."""
    engine = create_async_engine(url.replace("://", "+asyncpg://"))
    database = EngineDatabase(engine) if over_engine else Database(url)
    shards = Shards(database, schema)
    if create:
        await shards.create()
    try:
        yield shards
    finally:
        await database.stop()
        await engine.dispose()


class Shards:
    """One process's way to the tables."""

    def __init__(self, database: Database, schema: str) -> None:
        self.database = database
        self.schema = schema
        self.tables: MetaData = messaging_tables(schema)

    async def create(self) -> None:
        async with self.database.transaction() as connection:
            await connection.execute(f'CREATE SCHEMA "{self.schema}"')
            for table in self.tables.sorted_tables:
                await connection.execute(str(CreateTable(table).compile(dialect=postgresql.dialect())))  # type: ignore[no-untyped-call]

    async def take(self, shard: int = 0, claim: Claim = FIRST, logs: Mapping[str, Log] = LOGS) -> Tenure:
        async with self.database.transaction() as connection:
            tenure = await acquire(connection, self.schema, shard, claim, token=uuid4())
        tenure.locate(logs)
        return tenure

    async def write(self, work: Mapping[Tenure, Sequence[Record]], *messages: Message) -> Turn:
        """A turn that is committed and reported; the messages are the first tenure's."""
        turn = self.turn(work)
        for each in messages:
            turn.send(next(iter(work)), each)
        async with self.database.transaction() as connection:
            await turn.write(connection)
        turn.committed()
        return turn

    def turn(self, work: Mapping[Tenure, Sequence[Record]], *, at: int = 1_700_000_000_000_000) -> Turn:
        return Turn(work, schema=self.schema, dead_letters=LETTERS, at=at)

    async def rows(self, table: str, order: str = "1") -> list[asyncpg.Record]:
        async with self.database.transaction() as connection:
            return await connection.fetch(f"SELECT * FROM {qualified(self.schema, table)} ORDER BY {order}")

    async def execute(self, statement: str, *arguments: object) -> None:
        """`{shard}` and the like stand for the tables."""
        names = {table.name: qualified(self.schema, table.name) for table in self.tables.sorted_tables}
        async with self.database.transaction() as connection:
            await connection.execute(statement.format(**names), *arguments)

    async def relay(self, tenure: Tenure, publisher: Publisher) -> list[str]:
        """Start the tenure's relay on what the outbox holds; the list tells when it has ended."""
        async with self.database.transaction() as connection:
            rows = await unpublished(connection, self.schema, tenure.shard, tenure.relay_position)
        ended: list[str] = []
        tenure.relay.push(rows)
        tenure.relay.start(publisher, on_end=lambda: ended.append("ended"))
        return ended
