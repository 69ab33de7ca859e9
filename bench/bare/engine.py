"""The coordinator of the bare engine: python -m bench.bare.engine KAFKA DATABASE. It runs until it is killed.

A batch is all that Kafka has. Its sagas are decided in memory; rows and records of a batch are written and published
while the next batch is decided. It says `ready` when it reads.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import asyncpg
from aiokafka import AIOKafkaProducer, ConsumerRecord
from pydantic import BaseModel

from bench.bare import tables
from bench.bare.messages import (
    Charge,
    Order,
    OrderResult,
    Payment,
    Reservation,
    Reserve,
    Ship,
    Shipment,
    encoded,
)
from bench.bare.records import COMPLETED, EVENTS, REPLIES, REQUESTS, START, commands_of, consumer_from_now_on
from bench.bare.saga_loop import SagaLoop
from bench.batches import Headers, Message, producer_at, publish

STEPS: Final[dict[str, tuple[str, type[BaseModel]]]] = {
    "reserve": ("inventory", Reservation), "charge": ("payment", Payment), "ship": ("shipping", Shipment),
}  # fmt: skip
"""A step's service and its output."""

TOGETHER: Final = 4_000
"""Records of one batch."""


class Saga:
    """One saga in memory. called: steps since the last look."""

    __slots__ = ("called", "key", "loop", "pending", "rows", "shard", "steps", "task")

    def __init__(self, key: bytes, shard: int, order: Order) -> None:
        self.key, self.shard = key, shard
        self.loop = SagaLoop()
        self.pending: dict[int, tuple[str, asyncio.Future[Any]]] = {}
        self.called: list[tuple[int, str, BaseModel]] = []
        self.steps = self.rows = 0
        self.task = self.loop.task(order_processing(self, order))

    def call(self, step: str, command: BaseModel) -> asyncio.Future[Any]:
        self.steps += 1
        answer = self.loop.future()
        self.pending[self.steps] = step, answer
        self.called.append((self.steps, step, command))
        return answer


async def order_processing(saga: Saga, order: Order) -> OrderResult:
    """As a user would write it."""
    reservation: Reservation = await saga.call("reserve", Reserve(order_id=order.order_id, items=order.items))
    charge = Charge(order_id=order.order_id, amount=reservation.total_amount, customer_email=order.customer_email)
    payment: Payment = await saga.call("charge", charge)
    shipment: Shipment = await saga.call("ship", Ship(order_id=order.order_id, address=order.shipping_address))
    return OrderResult(
        order_id=order.order_id, status="completed", total_amount=payment.amount,
        confirmation_number=shipment.tracking_number,
    )  # fmt: skip


@dataclass
class Batch:
    """What a batch writes and publishes."""

    sagas: list[tuple[str, int, str, str, datetime]] = field(default_factory=list)
    history: list[tuple[str, int, str, str, bytes]] = field(default_factory=list)
    outbox: list[tuple[int, int, str, bytes, bytes, bytes]] = field(default_factory=list)
    ended: dict[str, bytes] = field(default_factory=dict)
    outgoing: dict[tuple[str, int], list[Message]] = field(default_factory=dict)


class Engine:
    def __init__(self, database: asyncpg.Connection[asyncpg.Record], producer: AIOKafkaProducer) -> None:
        self._database, self._producer = database, producer
        self._sagas: dict[bytes, Saga] = {}
        self._sent = 0

    def decide(self, records: Iterable[ConsumerRecord]) -> Batch:
        """What follows from these records. Nothing is awaited."""
        batch, touched, now = Batch(), dict[bytes, Saga](), datetime.now(UTC)
        for record in records:
            headers = dict(record.headers)
            taken = self._started if headers["ce_type"] == START else self._answered
            saga = taken(record, headers, batch, now)
            if saga is not None:
                touched[record.key] = saga
        for saga in touched.values():
            self._go_on(saga, batch)
        return batch

    def _started(self, record: ConsumerRecord, headers: dict[str, bytes], batch: Batch, now: datetime) -> Saga | None:
        key = record.key
        if key in self._sagas:
            return None
        order = Order.__pydantic_validator__.validate_json(record.value)
        saga = self._sagas[key] = Saga(key, record.partition, order)
        batch.sagas.append((key.decode(), record.partition, "order", "running", now))
        _row(saga, batch, "started", "", record.value)
        return saga

    def _answered(self, record: ConsumerRecord, headers: dict[str, bytes], batch: Batch, now: datetime) -> Saga | None:
        saga = self._sagas.get(record.key)
        waiting = None if saga is None else saga.pending.pop(int(headers["ce_step"]), None)
        if saga is None or waiting is None:
            return None
        step, answer = waiting
        _row(saga, batch, "completed", step, record.value)
        answer.set_result(STEPS[step][1].__pydantic_validator__.validate_json(record.value))
        return saga

    def _go_on(self, saga: Saga, batch: Batch) -> None:
        saga.loop.pump()
        for number, step, command in saga.called:
            payload = encoded(command)
            _row(saga, batch, "scheduled", step, payload)
            headers = [*_headers(b"%b/%d" % (saga.key, number), step.encode()), ("ce_step", b"%d" % number)]
            self._send(saga, batch, commands_of(STEPS[step][0]), headers, payload)
        saga.called.clear()
        if saga.task.done():
            self._end(saga, batch)

    def _end(self, saga: Saga, batch: Batch) -> None:
        result = encoded(saga.task.result())
        _row(saga, batch, "ended", "", result)
        batch.ended[saga.key.decode()] = result
        self._send(saga, batch, EVENTS, _headers(b"%b/end" % saga.key, COMPLETED), result)
        del self._sagas[saga.key]

    def _send(self, saga: Saga, batch: Batch, topic: str, headers: Headers, payload: bytes) -> None:
        self._sent += 1
        kept = b"|".join(value for _, value in headers)
        batch.outbox.append((saga.shard, self._sent, topic, saga.key, kept, payload))
        batch.outgoing.setdefault((topic, saga.shard), []).append((saga.key, payload, headers))

    async def write(self, batch: Batch, sent: int) -> None:
        """One transaction, and then everything is published. sent: number of the last record of this batch."""
        async with self._database.transaction():
            await self._copy("saga", batch.sagas)
            await self._copy("history", batch.history)
            await self._copy("outbox", batch.outbox)
            if batch.ended:
                await self._database.execute(tables.END_SAGAS, list(batch.ended), list(batch.ended.values()))
            await self._database.execute(tables.MOVE_ON, sent)
        await publish(self._producer, batch.outgoing)

    async def _copy(self, table: str, rows: list[Any]) -> None:
        if rows:
            columns = _COLUMNS[table]
            await self._database.copy_records_to_table(table, schema_name="bare", records=rows, columns=columns)

    @property
    def sent(self) -> int:
        return self._sent


_COLUMNS: Final = {
    "saga": ("id", "shard", "definition", "status", "created_at"),
    "history": ("saga_id", "seq", "kind", "name", "payload"),
    "outbox": ("shard", "id", "topic", "key", "headers", "payload"),
}


def _row(saga: Saga, batch: Batch, kind: str, name: str, payload: bytes) -> None:
    saga.rows += 1
    batch.history.append((saga.key.decode(), saga.rows, kind, name, payload))


def _headers(id: bytes, type: bytes) -> list[tuple[str, bytes]]:
    return [("ce_specversion", b"1.0"), ("ce_id", id), ("ce_type", type), ("ce_source", b"/coordinator")]


async def run(kafka: str, url: str) -> None:
    database = await asyncpg.connect(url, server_settings={"search_path": "bare"})
    producer = await producer_at(kafka)
    consumer = await consumer_from_now_on(kafka, REQUESTS, REPLIES)
    engine = Engine(database, producer)
    print("ready", flush=True)
    writing: asyncio.Task[None] | None = None
    while True:
        fetched = await consumer.getmany(timeout_ms=200, max_records=TOGETHER)
        if not fetched:
            continue
        batch = engine.decide(record for records in fetched.values() for record in records)
        if writing is not None:
            await writing
        writing = asyncio.create_task(engine.write(batch, engine.sent))
        await asyncio.sleep(0)


if __name__ == "__main__":
    asyncio.run(run(*sys.argv[1:]))
