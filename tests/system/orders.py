"""Orders with a known fate, and the plain producers that send them: nothing here imports the product."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from aiokafka import AIOKafkaProducer
from confluent_kafka import Producer

REQUESTS = "sagabus.requests"


class Fate(StrEnum):
    """How an order ends. The words of the refusals are the shop's."""

    COMPLETED = "completed"
    OUT_OF_STOCK = "out_of_stock"
    CARD_DECLINED = "card_declined"
    NOT_SERVED = "address_not_served"


@dataclass(frozen=True)
class Order:
    number: int
    fate: Fate

    @property
    def id(self) -> str:
        return f"ORD-{self.number}"

    @property
    def request(self) -> dict[str, Any]:
        return {"type": "start", "saga": "order_processing", "input": self._input()}

    def _input(self) -> dict[str, Any]:
        product = "PROD-NONE" if self.fate is Fate.OUT_OF_STOCK else "PROD-1"
        price = 9_999.99 if self.fate is Fate.CARD_DECLINED else 29.99
        country = "Atlantis" if self.fate is Fate.NOT_SERVED else "Japan"
        return {
            "order_id": self.id,
            "customer_email": "customer@example.com",
            "items": [
                {"product_id": product, "quantity": 2, "unit_price": price},
                {"product_id": "PROD-2", "quantity": 1, "unit_price": 49.99},
            ],
            "shipping_address": {
                "street": "1-2-3 Dogenzaka", "city": "Shibuya", "postal_code": "150-0001", "country": country,
            },
        }  # fmt: skip


class Answer(StrEnum):
    """What an expense hears, and so how it ends."""

    CANCEL = "cancel"
    PROMPT = "prompt"
    LATE = "late"


@dataclass(frozen=True)
class Approval:
    """An expense of `tests.system.impatient_sagas`. One that is answered late goes to the manager first."""

    number: int
    answer: Answer

    @property
    def id(self) -> str:
        return f"EXP-{self.number}"

    @property
    def approved(self) -> bool:
        return self.number % 2 == 0

    @property
    def request(self) -> dict[str, Any]:
        approver = "Hasty" if self.answer is Answer.LATE else "Ann"
        expense = {"expense_id": self.id, "approver": approver, "manager": "Bo"}
        return {"type": "start", "saga": "expense_approval", "input": expense}

    @property
    def reply(self) -> dict[str, Any]:
        """With an id of its own: sent twice, it is one."""
        if self.answer is Answer.CANCEL:
            return {"type": "cancel", "reason": "no longer needed", "event_id": f"{self.id}-answer"}
        data = {"approved": self.approved, "by": "Ann"}
        return {"type": "event", "name": "approvals.decided", "data": data, "event_id": f"{self.id}-answer"}


def some_orders(count: int, *, first: int = 1) -> list[Order]:
    """Seven of ten complete; one of ten is refused at each of the three steps."""
    fates = [Fate.COMPLETED] * 7 + [Fate.OUT_OF_STOCK, Fate.CARD_DECLINED, Fate.NOT_SERVED]
    return [Order(number, fates[number % len(fates)]) for number in range(first, first + count)]


async def send_orders(kafka: str, orders: Iterable[Order]) -> None:
    """As any program would: aiokafka, the saga id as key, JSON as value, no headers."""
    producer = AIOKafkaProducer(bootstrap_servers=kafka, linger_ms=5)
    await producer.start()
    try:
        for order in orders:
            await producer.send(REQUESTS, json.dumps(order.request).encode(), key=order.id.encode())
        await producer.flush()
    finally:
        await producer.stop()


def send_by_crc32(kafka: str, requests: Iterable[tuple[str, dict[str, Any]]]) -> None:
    """By librdkafka, whose default partitioner hashes keys by CRC32: most of these land in another saga's partition."""
    producer = Producer({"bootstrap.servers": kafka})
    for key, body in requests:
        producer.produce(REQUESTS, key=key.encode(), value=json.dumps(body).encode())
    assert producer.flush(30) == 0, "librdkafka could not deliver in 30 s"
