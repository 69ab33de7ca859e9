"""A saga whose message Kafka will never take: it waits visibly, nobody else does, and it goes on once released."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from sagabus.contracts.envelope import Message
from sagabus.coordinator.store.migrations import migrate
from sagabus.messaging.bus.publish_errors import PublishRefused, Reason
from sagabus.messaging.postgres.database import Database
from sagabus.messaging.publishing import outbox
from sagabus.messaging.publishing.parked_rows import ParkedRows
from sagabus.messaging.shards.tenure import Tenure
from sagabus.messaging.shards.turn import LOOK_FOR_RELEASED_SECONDS
from sagabus.shop.order_processing import order_processing
from tests.coordinator.shard_fixture import ShardFixture, headers_of, of_shard

SHARD = 1
ORDER, OTHER, ELSEWHERE = of_shard(SHARD, "ORD-"), of_shard(SHARD, "ORD-7"), of_shard(2, "ORD-")
RESERVED = {"reservation_id": "RES-1", "total_amount": "29.99"}


class Picky:
    """A publisher that takes no message to `topic` of the saga `refused`. sent: saga and type of what it took."""

    def __init__(self) -> None:
        self.refused = ""
        self.topic = ""
        self.sent: list[tuple[str, str]] = []

    async def publish(self, messages: Sequence[Message]) -> None:
        for one in messages:
            if one.saga_id == self.refused and one.topic == self.topic:
                raise PublishRefused(one, Reason.TOO_LARGE, "1 MB is the most")
        self.sent += [(one.saga_id, headers_of(one)["ce_type"]) for one in messages]

    def of(self, saga: str) -> list[str]:
        return [type for id, type in self.sent if id == saga]


class Bench:
    """A fixture whose shard has a relay at work."""

    def __init__(self, database: Database) -> None:
        self.fixture = ShardFixture(database, (order_processing,), SHARD)
        self.kafka = Picky()
        self.tenure: Tenure

    async def take(self) -> None:
        """As `Tenures` does it."""
        self.tenure = await self.fixture.crash()
        async with self.fixture.database.transaction() as connection:
            self.tenure.relay.park(await outbox.parked_sagas(connection, "sagabus", SHARD))
            rows = await outbox.unpublished(connection, "sagabus", SHARD, self.tenure.relay_position)
        self.tenure.relay.push(rows)
        self.tenure.relay.start(self.kafka, on_end=lambda: None)

    async def turn(self, *records: Any) -> list[Message]:
        """A turn, and its messages published as far as Kafka takes them."""
        left = await self.fixture.turn(self.tenure, *records)
        await self.tenure.relay.below(1)
        return left

    async def beat(self) -> None:
        await self.turn()

    def start(self, order_id: str) -> Any:
        address = {"street": "s", "city": "c", "postal_code": "p", "country": "Japan"}
        items = [{"product_id": "PROD-1", "quantity": 1, "unit_price": "29.99"}]
        return self.fixture.request(
            order_id, type="start", saga="order_processing",
            input={"order_id": order_id, "customer_email": "a@b.example", "items": items, "shipping_address": address},
        )  # fmt: skip

    async def release(self, saga: str) -> None:
        assert await ParkedRows(self.fixture.database, "sagabus").release([saga], reason="the limit is higher") == [
            saga
        ]
        self.fixture.now += LOOK_FOR_RELEASED_SECONDS

    async def attention(self, saga: str) -> str | None:
        attention: str | None = (await self.fixture.saga(saga))["attention"]
        return attention

    async def parked(self) -> list[tuple[str, str]]:
        rows = await self.fixture.rows("SELECT saga_id, topic FROM sagabus.outbox_parked ORDER BY position")
        return [(row["saga_id"], row["topic"]) for row in rows]


@pytest.fixture
async def bench(database: str) -> AsyncIterator[Bench]:
    await migrate(database, "sagabus")
    pool = Database(database)
    bench = Bench(pool)
    await bench.take()
    yield bench
    await bench.tenure.relay.stop()
    await pool.stop()


async def test_s8_one_saga_is_parked_and_told_and_no_other(bench: Bench) -> None:
    bench.kafka.refused, bench.kafka.topic = ORDER, "inventory.commands"
    left = await bench.turn(bench.start(ORDER), bench.start(OTHER))
    await bench.beat()
    attention = await bench.attention(ORDER)
    what = "a message to inventory.commands can never be published: too_large: 1 MB is the most"
    assert attention == f"what it sends is parked: {what}"
    assert await bench.attention(OTHER) is None
    (command,) = [one for one in left if one.saga_id == OTHER and one.topic == "inventory.commands"]
    await bench.turn(bench.fixture.reply(command, "completed", RESERVED))
    assert bench.kafka.of(OTHER)[-1] == "payment.process_payment"
    assert bench.kafka.of(ORDER) == ["sagabus.saga.started"]


async def test_s8_a_person_is_told_once_however_much_parks_behind(bench: Bench) -> None:
    """That it is on attention is itself a message, which parks behind: it must not be news again."""
    bench.kafka.refused, bench.kafka.topic = ORDER, "inventory.commands"
    await bench.turn(bench.start(ORDER))
    for _ in range(4):
        await bench.beat()
    assert await bench.parked() == [(ORDER, "inventory.commands"), (ORDER, "sagabus.events")]
    notices = await bench.fixture.rows("SELECT name FROM sagabus.history WHERE kind = 'notice'")
    assert [row["name"] for row in notices] == ["parked"]


async def test_s8_released_it_goes_on_where_it_was_and_attention_is_cleared(bench: Bench) -> None:
    bench.kafka.refused, bench.kafka.topic = ORDER, "inventory.commands"
    command = (await bench.turn(bench.start(ORDER)))[-1]
    await bench.beat()
    await bench.beat()
    bench.kafka.refused = ""
    await bench.release(ORDER)
    await bench.beat()
    assert await bench.attention(ORDER) is None
    assert await bench.parked() == []
    assert bench.kafka.of(ORDER) == [
        "sagabus.saga.started",
        "inventory.reserve_inventory",
        "sagabus.saga.attention",
        "sagabus.saga.attention_cleared",
    ]
    rows = await bench.fixture.rows("SELECT name, payload FROM sagabus.history WHERE kind = 'notice' ORDER BY seq")
    assert [row["name"] for row in rows] == ["parked", "parked.released"]
    assert rows[1]["payload"] == b"the limit is higher"
    await bench.turn(bench.fixture.reply(command, "completed", RESERVED))
    assert bench.kafka.of(ORDER)[-1] == "payment.process_payment"


async def test_s8_parked_and_released_over_a_crash_each_time(bench: Bench) -> None:
    bench.kafka.refused, bench.kafka.topic = ORDER, "inventory.commands"
    command = (await bench.turn(bench.start(ORDER)))[-1]
    await bench.beat()
    await bench.tenure.relay.stop()
    await bench.take()
    await bench.beat()
    assert "too_large" in (await bench.attention(ORDER) or "")
    assert bench.kafka.of(ORDER) == ["sagabus.saga.started"]
    bench.kafka.refused = ""
    await bench.release(ORDER)
    await bench.tenure.relay.stop()
    await bench.take()
    await bench.beat()
    assert await bench.attention(ORDER) is None
    assert bench.kafka.of(ORDER)[1] == "inventory.reserve_inventory"
    await bench.tenure.relay.stop()
    await bench.take()
    await bench.turn(bench.fixture.reply(command, "completed", RESERVED))
    assert bench.kafka.of(ORDER)[-1] == "payment.process_payment"


async def test_s8_released_too_soon_it_is_parked_again_and_told_again(bench: Bench) -> None:
    bench.kafka.refused, bench.kafka.topic = ORDER, "inventory.commands"
    await bench.turn(bench.start(ORDER))
    await bench.beat()
    await bench.beat()
    before = await bench.parked()
    await bench.release(ORDER)
    for _ in range(3):
        await bench.beat()
    assert (await bench.parked())[: len(before)] == before
    assert "too_large" in (await bench.attention(ORDER) or "")
    assert bench.kafka.of(ORDER) == ["sagabus.saga.started"]


async def test_s8_a_closed_saga_whose_last_event_cannot_leave_is_told_too(bench: Bench) -> None:
    command = (await bench.turn(bench.start(ORDER)))[-1]
    bench.kafka.refused, bench.kafka.topic = ORDER, "sagabus.events"
    await bench.turn(bench.fixture.reply(command, "refused", {"code": "out_of_stock", "message": "none left"}))
    await bench.beat()
    saga = await bench.fixture.saga(ORDER)
    assert saga["status"] == "compensated"
    assert "too_large" in saga["attention"]


async def test_s8_a_misplaced_record_that_cannot_be_forwarded_touches_no_saga(bench: Bench) -> None:
    """It is another shard's, and only its owner may write what becomes of it (S1)."""
    await bench.turn(bench.start(ORDER))
    for table, changed in (("saga", {"id": ELSEWHERE, "shard": 2}), ("history", {"id": ELSEWHERE})):
        await bench.fixture.rows(
            f"INSERT INTO sagabus.{table} SELECT (jsonb_populate_record(row, '{json.dumps(changed)}')).* "
            f"FROM sagabus.{table} AS row"
        )
    bench.kafka.refused, bench.kafka.topic = ELSEWHERE, "sagabus.requests"
    await bench.turn(bench.fixture.request(ELSEWHERE, type="cancel", reason="no"))
    await bench.beat()
    assert await bench.parked() == [(ELSEWHERE, "sagabus.requests")]
    assert await bench.attention(ELSEWHERE) is None
    assert await bench.fixture.rows("SELECT * FROM sagabus.history WHERE kind = 'notice'") == []
