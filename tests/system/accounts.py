"""The account after a run: what stands in the ledgers and on the topics must be exactly what the orders' fates say.

Ledgers are judged by their own rows and their own order; topics by what an independent consumer reads from the start.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias, cast

import asyncpg
from confluent_kafka import Consumer, Message, TopicPartition

from tests.support.conditions import blocking_until
from tests.system.orders import Fate, Order

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

LEDGERS = {
    "inventory": "SELECT at, order_id, quantity > 0 AS done FROM inventory_ledger WHERE product_id = 'PROD-2'",
    "payment": "SELECT at, order_id, amount > 0 AS done FROM payment_ledger",
    "shipping": "SELECT at, order_id, true AS done FROM shipping_ledger",
}
DONE = {
    Fate.COMPLETED: ("+inventory", "+payment", "+shipping"),
    Fate.OUT_OF_STOCK: (),
    Fate.CARD_DECLINED: ("+inventory", "-inventory"),
    Fate.NOT_SERVED: ("+inventory", "+payment", "-payment", "-inventory"),
}
"""What must have happened, in this very order: every undo once, in reverse."""

STATUS = {fate: "completed" if fate is Fate.COMPLETED else "compensated" for fate in Fate}
EVENTS = {
    "inventory.stock_reserved": {Fate.COMPLETED, Fate.CARD_DECLINED, Fate.NOT_SERVED},
    "payment.payment_processed": {Fate.COMPLETED, Fate.NOT_SERVED},
    "shipping.order_shipped": {Fate.COMPLETED},
}
EVENT_TOPICS = ("inventory.events", "payment.events", "shipping.events")


async def check_statuses(connection: Connection, orders: Sequence[Order]) -> None:
    """Every saga ended as its fate says, once, and none is on attention."""
    rows = await connection.fetch("SELECT id, status, attention FROM sagabus.saga WHERE id LIKE 'ORD-%'")
    assert Counter(row["id"] for row in rows) == Counter(order.id for order in orders)
    found = {row["id"]: (row["status"], row["attention"]) for row in rows}
    assert found == {order.id: (STATUS[order.fate], None) for order in orders}


async def check_ledgers(connection: Connection, orders: Sequence[Order]) -> None:
    """Nothing twice, nothing left undone, every undo in reverse."""
    entries = []
    for service, query in LEDGERS.items():
        rows = await connection.fetch(query)
        entries += [(row["at"], row["order_id"], f"{'+' if row['done'] else '-'}{service}") for row in rows]
    happened: defaultdict[str, list[str]] = defaultdict(list)
    for _, order_id, what in sorted(entries):
        happened[order_id].append(what)
    assert {order.id: tuple(happened[order.id]) for order in orders} == {order.id: DONE[order.fate] for order in orders}


async def check_stock(connection: Connection, opening: int) -> None:
    """What is free and what is out make what was there."""
    rows = await connection.fetch(
        "SELECT s.product_id, s.free + coalesce(sum(l.quantity), 0) AS total FROM inventory_stock s "
        "LEFT JOIN inventory_ledger l USING (product_id) GROUP BY s.product_id, s.free"
    )
    assert {row["product_id"]: row["total"] for row in rows} == {"PROD-1": opening, "PROD-2": opening}


@dataclass
class Told:
    """What stands on topics: records with equal `ce_id` once, in the order of each partition."""

    records: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    copies: int = 0

    def of_type(self, type: str) -> list[dict[str, str]]:
        return [headers for headers, _ in self.records if headers["ce_type"] == type]


def read_all(kafka: str, topics: Iterable[str]) -> Told:
    """Everything from the first record to the end as of now."""
    told, seen = Told(), set[str]()
    for headers, value in records_of(kafka, topics):
        told.copies += headers["ce_id"] in seen
        if headers["ce_id"] not in seen:
            seen.add(headers["ce_id"])
            told.records.append((headers, value))
    return told


def records_of(kafka: str, topics: Iterable[str]) -> Iterator[tuple[dict[str, str], bytes]]:
    """Headers and value of every record from the first to the end as of now, copies too."""
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": "account", "enable.auto.commit": False})
    try:
        ends = _ends(consumer, topics)
        consumer.assign([TopicPartition(topic, partition, 0) for topic, partition in ends])
        left = {place for place, end in ends.items() if end > 0}
        while left:
            message = consumer.poll(10)
            assert message is not None, f"{len(left)} partitions are not read to their end"
            assert message.error() is None, message.error()
            place = (str(message.topic()), int(message.partition() or 0))
            if (message.offset() or 0) + 1 >= ends[place]:
                left.discard(place)
            headers = {str(name): bytes(value or b"").decode() for name, value in _headers(message)}
            yield headers, message.value() or b""
    finally:
        consumer.close()


def _headers(message: Message) -> list[tuple[str, bytes | None]]:
    return cast("list[tuple[str, bytes | None]]", message.headers() or [])


def _ends(consumer: Consumer, topics: Iterable[str]) -> dict[tuple[str, int], int]:
    ends = {}
    for topic in topics:
        for partition in consumer.list_topics(topic, timeout=10).topics[topic].partitions:
            ends[topic, partition] = _end(consumer, TopicPartition(topic, partition))
    return ends


def _end(consumer: Consumer, place: TopicPartition) -> int:
    """Of one partition. A broker that has just been started may not lead it yet."""
    low_and_high = blocking_until(
        lambda: consumer.get_watermark_offsets(place, timeout=10), what=f"{place.topic} {place.partition} can be read"
    )
    return int(low_and_high[1])


def check_sequences(told: Told, sagas: Iterable[str]) -> None:
    """`ce_sequence` runs from 1 without a gap, and leaves in order."""
    numbers: defaultdict[str, list[int]] = defaultdict(list)
    for headers, _ in told.records:
        if "ce_sequence" in headers:
            numbers[headers["ce_subject"]].append(int(headers["ce_sequence"]))
    wrong = {saga: numbers[saga] for saga in sagas if numbers[saga] != list(range(1, len(numbers[saga]) + 1))}
    assert not wrong, wrong
    assert all(numbers[saga] for saga in sagas)


def check_domain_events(told: Told, orders: Sequence[Order]) -> None:
    """Each declared event once for each order whose step was done, and none of a refused step."""
    for type, fates in EVENTS.items():
        found = Counter(headers["ce_subject"] for headers in told.of_type(type))
        assert found == Counter(order.id for order in orders if order.fate in fates), type
