"""What the tests of participants stand on: a service on a real database, commands as records, replies as they left."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar
from uuid import uuid4

import asyncpg
from pydantic import BaseModel
from sqlalchemy import CheckConstraint, ForeignKey
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sagabus.contracts import Service
from sagabus.contracts.commands import Addresses, command_message
from sagabus.contracts.envelope import Headers, Message, Record
from sagabus.contracts.headers import HeaderReader
from sagabus.contracts.names import CommandKind, RunId, SagaId, parse_command_id
from sagabus.contracts.replies import REPLY_TYPES, Failure, ReplyKind, read_failure
from sagabus.messaging.background import Supervisor
from sagabus.messaging.database_url import sqlalchemy_url
from sagabus.messaging.postgres.database import Database
from sagabus.messaging.publishing.outbox import unpublished
from sagabus.messaging.shards.retention import Retention
from sagabus.messaging.shards.shard_row import Claim, acquire
from sagabus.messaging.shards.tenure import Log, Tenure
from sagabus.participants import ActivityContext, Refused
from sagabus.participants.command_processor import CommandProcessor
from sagabus.participants.handlers.declaration import Handler, checked
from sagabus.participants.handlers.session import Sessions
from sagabus.participants.inbox.tables import create_tables, participant_tables

F = TypeVar("F", bound=Callable[..., Any])

ISSUED = 1_790_000_000_000_000
"""Microseconds since 1970 at which commands are issued unless a test says otherwise."""


class Take(BaseModel):
    item: str
    count: int = 1


class Taken(BaseModel):
    item: str
    left: int


class Noted(BaseModel):
    item: str
    text: str


class Base(DeclarativeBase):
    """Business tables of the tests."""


class Stock(Base):
    __tablename__ = "stock"
    item: Mapped[str] = mapped_column(primary_key=True)
    left: Mapped[int]
    __table_args__ = (CheckConstraint('"left" >= 0', name="enough"),)


class Effect(Base):
    """One row for each effect that was committed: the tests count them."""

    __tablename__ = "effect"
    id: Mapped[int] = mapped_column(primary_key=True)
    what: Mapped[str]
    stock: Mapped[str | None] = mapped_column(ForeignKey("stock.item", deferrable=True, initially="DEFERRED"))


shop = Service("shop")
give_back = shop.compensation("give_back", Take)
take_item = shop.activity("take", Take, Taken, compensation=give_back, refusals=("out_of_stock",))
note = shop.activity("note", Take)
charge = shop.activity("charge", Take, Taken, timeout=60)
noted = shop.event("noted", Noted)
noted_by_item = shop.event("noted_by_item", Noted, key="item")


@dataclass(frozen=True)
class Given:
    """A record of the command topic."""

    value: bytes | None
    headers: Sequence[tuple[str, bytes]]
    offset: int
    partition: int = 0
    topic: str = "shop.commands"
    timestamp: int = 0
    key: bytes | None = None


@dataclass(frozen=True)
class Reply:
    message: Message

    def _header(self, name: str) -> str:
        return dict(self.message.headers)[name].decode()

    @property
    def kind(self) -> ReplyKind:
        return REPLY_TYPES[self._header("ce_type")]

    @property
    def answers(self) -> CommandKind:
        """What it answers: the step itself, its undo or its settle."""
        return parse_command_id(self._header("ce_causationid"))[3]

    @property
    def attempt(self) -> int:
        return int(self._header("ce_attempt"))

    @property
    def body(self) -> bytes:
        return self.message.value or b""

    @property
    def failure(self) -> Failure:
        return read_failure(self.message.value)

    @property
    def code(self) -> str:
        return self.failure.code


@dataclass(frozen=True)
class Saga:
    """Whose commands they are."""

    id: str = "ORD-1"
    run: str = "r1"
    namespace: str = "sagabus"

    def command(
        self, activity: Any, input: BaseModel | None = None, *, step: int = 1, attempt: int = 1,
        kind: CommandKind = CommandKind.DO, issued: int = ISSUED, body: bytes | None = None, trace: Headers = (),
        timeout: int | None = None,
    ) -> Message:  # fmt: skip
        source = f"/sagabus/{self.namespace}".encode()
        addresses = Addresses(self.namespace, source, SagaId(self.id), RunId(self.run), 3)
        given = body if body is not None else b"null" if input is None else input.model_dump_json().encode()
        name = "sagabus.settle" if kind is CommandKind.SETTLE else activity.name
        return command_message(
            addresses, service="shop", activity=name, step=step, kind=kind, attempt=attempt, issued=issued, time=issued,
            cause="decision", body=given, partition=0, trace=trace, timeout=timeout,
        )  # fmt: skip

    def settle(self, *, attempt: int = 1) -> Message:
        return self.command(None, attempt=attempt, kind=CommandKind.SETTLE)

    def undo(self, activity: Any, input: BaseModel, *, attempt: int = 1) -> Message:
        return self.command(activity, input, attempt=attempt, kind=CommandKind.UNDO)


@dataclass
class ServiceFixture:
    """A process of the service `shop`, without Kafka: the test says which shards it holds and what they bring."""

    url: str
    engine: AsyncEngine
    handlers: dict[str, Handler] = field(default_factory=dict)
    logs: dict[int, int] = field(default_factory=dict)
    now: float = 1_800_000_000.0
    retention: Retention | None = None
    supervisor: Supervisor = field(default_factory=Supervisor)

    def __post_init__(self) -> None:
        self.sessions = Sessions(async_sessionmaker(self.engine))
        self.database = Database(self.url)
        self.processor = self.new_side()
        self._read: dict[int, int] = {}
        self._generations = itertools.count(1)

    def new_side(self) -> CommandProcessor:
        return CommandProcessor(
            service="shop", namespace="sagabus", handlers=self.handlers, sessions=self.sessions,
            resources="resources", clock=lambda: self.now, retention=self.retention, supervisor=self.supervisor,
        )  # fmt: skip

    def handles(self, activity: Any, *, transaction: bool = True, time_limit: float | None = None) -> Callable[[F], F]:
        """Like Participant's, but a handler may be replaced by another."""

        def declare(function: F) -> F:
            self.handlers[activity.name] = checked(activity, function, transaction=transaction, time_limit=time_limit)
            return function

        return declare

    async def take(self, shard: int = 0) -> Tenure:
        """What Ownership does at a take. The log of the shard is counted here."""
        async with self.database.transaction() as connection:
            claim = Claim(cluster="cluster", generation=next(self._generations), partitions=12)
            tenure = await acquire(connection, "sagabus_shop", shard, claim, token=uuid4())
        tenure.locate({"shop.commands": Log("log", 0, self.logs.get(shard, 0))})
        await self.processor.acquired(tenure)
        return tenure

    def records(self, tenure: Tenure, *messages: Message | Given) -> list[Record]:
        """The messages as records at the end of the shard's log."""
        made: list[Record] = []
        for message in messages:
            offset = self.logs.setdefault(tenure.shard, 0)
            self.logs[tenure.shard] += 1
            made.append(Given(message.value, message.headers, offset, tenure.shard, key=getattr(message, "key", None)))
        return made

    async def turn(self, tenure: Tenure, *messages: Message | Given) -> list[Reply]:
        """One turn with these commands; the replies that left because of it."""
        await self.processor.turn({tenure: self.records(tenure, *messages)})
        return [Reply(m) for m in await self.left(tenure) if m.topic.startswith("sagabus.rep")]

    async def left(self, tenure: Tenure) -> list[Message]:
        """What is in the outbox since the last look."""
        async with self.database.transaction() as connection:
            rows = await unpublished(connection, "sagabus_shop", tenure.shard, self._read.get(tenure.shard, 0))
        if rows:
            self._read[tenure.shard] = rows[-1][0]
        return [message for _, message in rows]

    async def rows(self, sql: str, *arguments: Any) -> list[asyncpg.Record]:
        async with self.database.transaction() as connection:
            return await connection.fetch(sql, *arguments)

    async def inbox(self) -> list[tuple[str, str, int]]:
        """(command id, state, attempt)"""
        rows = await self.rows("SELECT id, state, attempt FROM sagabus_shop.inbox ORDER BY id")
        return [(row["id"], row["state"], row["attempt"]) for row in rows]

    async def effects(self) -> list[str]:
        return [row["what"] for row in await self.rows("SELECT what FROM effect ORDER BY id")]

    async def stop(self) -> None:
        await self.processor.externals.stop()
        await self.sessions.database.stop()
        await self.database.stop()


BOOK = Take(item="book")

WAITING = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
"""Sessions of a test's database that wait for a lock."""


def takes(fixture: ServiceFixture, *, refuse: set[str] | None = None, fail: set[str] | None = None) -> list[str]:
    """A handler for `take` that has an effect first, and then refuses or fails the named sagas. Returns its calls."""
    calls: list[str] = []

    @fixture.handles(take_item)
    async def take(command: Take, ctx: ActivityContext) -> Taken:
        calls.append(f"{ctx.saga_id}/{ctx.attempt}")
        ctx.session.add(Effect(what=ctx.saga_id))
        await ctx.session.flush()
        if ctx.saga_id in (refuse or ()):
            raise Refused("out_of_stock", "no more", item=command.item)
        if ctx.saga_id in (fail or ()):
            raise ValueError("broken")
        return Taken(item=command.item, left=1)

    return calls


def batch(*sagas: str, **options: Any) -> list[Message]:
    """A `take` of one book for each of these sagas."""
    return [Saga(saga).command(take_item, BOOK, **options) for saga in sagas]


def header(message: Message, name: str) -> str | None:
    return HeaderReader(message.headers).text(name)


@asynccontextmanager
async def opened(url: str, *, fresh: bool = True) -> AsyncIterator[ServiceFixture]:
    """A process; fresh: the first one, which makes the tables empty, and puts ten of `book` in stock."""
    engine = create_async_engine(sqlalchemy_url(url))
    if fresh:
        async with engine.begin() as connection:
            await create_tables(connection, "shop")
            await connection.run_sync(Base.metadata.create_all)
            for table in (*participant_tables("shop").sorted_tables, *Base.metadata.sorted_tables):
                await connection.exec_driver_sql(f"TRUNCATE {table.fullname} RESTART IDENTITY CASCADE")
            await connection.exec_driver_sql("INSERT INTO stock VALUES ('book', 10)")
    fixture = ServiceFixture(url, engine)
    try:
        yield fixture
    finally:
        await fixture.stop()
        await engine.dispose()
