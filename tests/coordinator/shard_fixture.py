"""A coordinator's shard without Kafka, on a real database: the test says what its topics bring, and reads what left."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import asyncpg

from sagabus.contracts.envelope import Message, Record
from sagabus.coordinator.definition import SagaDefinition
from sagabus.coordinator.shard.definitions import Definitions
from sagabus.coordinator.shard.identity import ProcessIdentity
from sagabus.coordinator.shard.loading import Loading, ReplayLimits
from sagabus.coordinator.shard.retention import SagaRetention
from sagabus.coordinator.shard.saga_processor import SagaProcessor
from sagabus.coordinator.store.read import Reads
from sagabus.coordinator.store.write import Store
from sagabus.messaging.bus.partition import partition_of
from sagabus.messaging.postgres.database import Database
from sagabus.messaging.publishing.dead_letter import DeadLetters
from sagabus.messaging.publishing.outbox import unpublished
from sagabus.messaging.shards.retention import Retention
from sagabus.messaging.shards.shard_row import Claim, acquire
from sagabus.messaging.shards.tenure import Log, Tenure

PARTITIONS = 4
REQUESTS = "sagabus.requests"
AT_ONCE = 0.001
"""Seconds."""
TOPICS = (REQUESTS, *(f"sagabus.replies.{one}" for one in ("inventory", "payment", "shipping", "approvals")))


@dataclass(frozen=True)
class Given:
    """A record of one of the shard's topics."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()
    timestamp: int = 0


@dataclass
class ShardFixture:
    """One process at a time holds the shard; `crash` is followed by a new one."""

    database: Database
    definitions: Sequence[SagaDefinition[Any, Any]]
    shard: int
    now: float = 1_800_000_000.0
    ends: dict[str, int] = field(default_factory=dict)
    topics: Sequence[str] = TOPICS
    ids: Callable[[], UUID] = uuid4
    retention: Retention | None = None
    limits: ReplayLimits = field(default_factory=ReplayLimits)
    starts_at: int = 0
    """Offset at which all topics begin: what lay before it was removed by Kafka's retention."""
    identity: ProcessIdentity | None = None
    follows: bool = True
    """Whether a turn is followed by those that are due at once, as it is in a process."""

    def __post_init__(self) -> None:
        self._generations = itertools.count(1)
        self._read = 0
        self.processor = self.new_side()

    def new_side(self) -> SagaProcessor:
        kept = self.retention
        return SagaProcessor(
            database=self.database,
            store=Store("sagabus"),
            loading=Loading(
                namespace="sagabus",
                reads=Reads("sagabus"),
                definitions=Definitions(self.definitions, identity=self.identity),
                limits=self.limits,
            ),
            dead_letters=DeadLetters(topic="sagabus.dead-letters", by="sagabus"),
            partitions=PARTITIONS,
            closed=lambda _: None,
            clock=lambda: self.now,
            ids=self.ids,
            retention=None
            if kept is None
            else SagaRetention(database=self.database, schema="sagabus", retention=kept, clock=lambda: self.now),
        )

    async def take(self, *, ids: str = "log") -> Tenure:
        """What happens at a take. ids: of all topics; other ones mean that the bus is a new one."""
        async with self.database.transaction() as connection:
            claim = Claim(cluster="cluster", generation=next(self._generations), partitions=PARTITIONS)
            tenure = await acquire(connection, "sagabus", self.shard, claim, token=uuid4())
        tenure.locate(
            {topic: Log(ids, self.starts_at, max(self.starts_at, self.ends.get(topic, 0))) for topic in self.topics}
        )
        await self.processor.acquired(tenure)
        return tenure

    async def crash(self, *definitions: SagaDefinition[Any, Any], ids: str = "log") -> Tenure:
        """Another process takes the shard; what the first one remembered is gone. With other definitions, if given."""
        self.definitions = definitions or self.definitions
        self.processor = self.new_side()
        return await self.take(ids=ids)

    async def turn(self, tenure: Tenure, *records: Record) -> list[Message]:
        """One turn, and those that have to follow it at once; what left because of it."""
        await self.processor.turn({tenure: records})
        while self.follows and (due := self.processor.next_due()) is not None and due <= self.now + AT_ONCE:
            await self.processor.turn({tenure: ()})
        async with self.database.transaction() as connection:
            rows = await unpublished(connection, "sagabus", self.shard, self._read)
        self._read = rows[-1][0] if rows else self._read
        return [message for _, message in rows]

    def record(self, topic: str, key: str, value: Any, **headers: str) -> Given:
        offset = self.ends.get(topic, 0)
        self.ends[topic] = offset + 1
        packed = tuple((name, text.encode()) for name, text in headers.items())
        return Given(topic, self.shard, offset, key.encode(), json.dumps(value).encode(), packed)

    def request(self, key: str, **body: Any) -> Given:
        return self.record(REQUESTS, key, body)

    def reply(self, command: Message, kind: str, body: Any, *, service: str | None = None) -> Given:
        """The answer to a command that left."""
        asked = headers_of(command)
        topic = f"sagabus.replies.{service}" if service else asked["ce_replyto"]
        return self.record(
            topic, command.saga_id, body, ce_causationid=asked["ce_id"], ce_attempt=asked["ce_attempt"],
            ce_type=f"sagabus.reply.{kind}", ce_id=f"{asked['ce_id']}:{asked['ce_attempt']}:reply",
        )  # fmt: skip

    async def rows(self, sql: str) -> list[asyncpg.Record]:
        async with self.database.transaction() as connection:
            return await connection.fetch(sql)

    async def saga(self, id: str) -> asyncpg.Record:
        (row,) = [row for row in await self.rows("SELECT * FROM sagabus.saga") if row["id"] == id]
        return row


def headers_of(message: Message) -> dict[str, str]:
    return {name: value.decode() for name, value in message.headers}


def types(messages: Sequence[Message]) -> list[str]:
    return [headers_of(message).get("ce_type", "dead letter") for message in messages]


def of_shard(shard: int, prefix: str) -> str:
    """An id of this shard: `prefix` and a number."""
    return next(f"{prefix}{n}" for n in range(1, 1_000) if partition_of(f"{prefix}{n}".encode(), PARTITIONS) == shard)


def ids_of_shard(shard: int, prefix: str, count: int) -> list[str]:
    """So many ids of this shard."""
    every = (f"{prefix}{number}" for number in itertools.count(1))
    return [*itertools.islice((id for id in every if partition_of(id.encode(), PARTITIONS) == shard), count)]
