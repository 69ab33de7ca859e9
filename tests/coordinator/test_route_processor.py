"""A record of an outside topic becomes a request, on a real PostgreSQL: offset and request go together (H6)."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest

from sagabus.coordinator.routing.route_processor import RouteProcessor
from sagabus.coordinator.routing.routes import Routes
from sagabus.coordinator.store.migrations import migrate
from sagabus.coordinator.store.route_tables import make_route_tables
from sagabus.messaging.postgres.database import Database
from sagabus.messaging.publishing.dead_letter import DeadLetters
from sagabus.messaging.publishing.outbox import unpublished
from sagabus.messaging.shards.ownership import UNNUMBERED
from sagabus.messaging.shards.shard_row import Claim, Fenced, acquire
from sagabus.messaging.shards.tenure import Log, Tenure
from tests.coordinator.shard_fixture import Given, headers_of
from tests.coordinator.test_routes import definition, placed

SCHEMA = "sagabus.routes"
SHARDS = 4
PARTITION = 9
"""More than the coordinator has shards."""


class Fixture:
    """One process at a time has the partition."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.generations = itertools.count(1)
        order = definition()
        order.on(placed, saga_id=saga_id)
        self.processor = RouteProcessor(
            routes=Routes([order], namespace="sagabus"),
            database=database,
            namespace="sagabus",
            dead_letters=DeadLetters(topic="sagabus.dead-letters", by="sagabus"),
            shards=SHARDS,
        )

    async def take(self) -> Tenure:
        async with self.database.transaction() as connection:
            claim = Claim(cluster="cluster", generation=next(self.generations), partitions=UNNUMBERED)
            tenure = await acquire(connection, SCHEMA, PARTITION, claim, token=uuid4())
        tenure.locate({"web.events": Log("log", 0, 100)})
        return tenure

    async def sent(self) -> list[tuple[str, str]]:
        """Saga and id of the requests in the outbox; of a dead letter its topic and reason."""
        async with self.database.transaction() as connection:
            rows = await unpublished(connection, SCHEMA, PARTITION, 0)
        heads = [(message, headers_of(message)) for _, message in rows]
        return [
            (message.topic, head["x-dlt-reason"]) if "x-dlt-reason" in head else (message.saga_id, head["ce_id"])
            for message, head in heads
        ]

    async def rows(self, sql: str) -> list[tuple[Any, ...]]:
        async with self.database.transaction() as connection:
            return [tuple(row) for row in await connection.fetch(sql)]


def saga_id(event: Any) -> str:
    if event.order_id == "BAD":
        raise LookupError("no such customer")
    return str(event.order_id)


def record(offset: int, order: str) -> Given:
    value = b'{"order_id": "%b"}' % order.encode()
    return Given("web.events", PARTITION, offset, order.encode(), value, [("ce_type", b"web.placed")])


@pytest.fixture
async def fixture(database: str) -> AsyncIterator[Fixture]:
    await migrate(database, "sagabus")
    await make_route_tables(database, "sagabus")
    pool = Database(database)
    yield Fixture(pool)
    await pool.stop()


async def test_h6_requests_and_offset_are_written_together_in_the_order_of_the_records(fixture: Fixture) -> None:
    tenure = await fixture.take()
    await fixture.processor.turn({tenure: [record(0, "A"), record(1, "B"), record(2, "A")]})
    assert await fixture.sent() == [("A", "web.events:9:0"), ("B", "web.events:9:1"), ("A", "web.events:9:2")]
    assert (await fixture.take()).offsets == {"web.events": 3}


async def test_h6_who_has_lost_the_partition_writes_nothing(fixture: Fixture) -> None:
    """The next owner reads the record again, and gives its request the same id."""
    before, after = await fixture.take(), await fixture.take()
    with pytest.raises(Fenced):
        await fixture.processor.turn({before: [record(0, "A")]})
    assert await fixture.sent() == []
    await fixture.processor.turn({after: [record(0, "A")]})
    assert await fixture.sent() == [("A", "web.events:9:0")]


async def test_h6_a_raising_saga_id_is_a_dead_letter_of_the_coordinator(fixture: Fixture) -> None:
    tenure = await fixture.take()
    await fixture.processor.turn({tenure: [record(0, "BAD"), record(1, "A")]})
    assert await fixture.sent() == [("sagabus.dead-letters", "route.saga_id"), ("A", "web.events:9:1")]
    letters = await fixture.rows('SELECT shard, reason, topic, partition, "offset" FROM sagabus.dead_letter')
    assert letters == [(PARTITION % SHARDS, "route.saga_id", "web.events", PARTITION, 0)]
    assert await fixture.rows('SELECT * FROM "sagabus.routes".dead_letter') == []
    assert fixture.processor.counts == {"route.saga_id": 1, "routed": 1}


async def test_a_turn_without_records_is_the_heartbeat(fixture: Fixture) -> None:
    tenure = await fixture.take()
    turn = tenure.turn
    await fixture.processor.turn({tenure: []})
    assert tenure.turn == turn + 1


async def test_the_tables_may_be_made_again(fixture: Fixture, database: str) -> None:
    await fixture.processor.turn({await fixture.take(): [record(0, "A")]})
    await make_route_tables(database, "sagabus")
    assert await fixture.sent() == [("A", "web.events:9:0")]
