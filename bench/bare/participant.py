"""The three services of the bare engine in one process: python -m bench.bare.participant KAFKA DATABASE.

A batch is all that Kafka has. Its inbox rows are one statement; replies are published after it, while the next batch is
answered. It says `ready` when it reads, and runs until it is killed.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import asyncpg
from aiokafka import AIOKafkaProducer, ConsumerRecord, TopicPartition
from pydantic import BaseModel

from bench.bare import tables
from bench.bare.messages import (
    Charge,
    Payment,
    Reservation,
    Reserve,
    Ship,
    Shipment,
    encoded,
)
from bench.bare.records import REPLIES, commands_of, consumer_from_now_on
from bench.batches import Message, producer_at, publish

TOGETHER: Final = 4_000
"""Records of one batch."""


def reserve(command: Reserve) -> Reservation:
    total = sum(item.quantity * item.unit_price for item in command.items)
    return Reservation(reservation_id=f"RES-{command.order_id}", total_amount=total)


def charge(command: Charge) -> Payment:
    return Payment(transaction_id=f"TXN-{command.order_id}", amount=command.amount, status="completed")


def ship(command: Ship) -> Shipment:
    return Shipment(tracking_number=f"TRACK-{command.order_id}", status="shipped")


HANDLERS: Final[Mapping[str, tuple[type[BaseModel], Callable[[Any], BaseModel]]]] = {
    commands_of("inventory"): (Reserve, reserve),
    commands_of("payment"): (Charge, charge),
    commands_of("shipping"): (Ship, ship),
}

Answered = tuple[dict[str, bytes], dict[tuple[str, int], list[Message]]]
"""Inbox rows by command id, and replies by topic and partition."""


def answer(fetched: Mapping[TopicPartition, Sequence[ConsumerRecord]]) -> Answered:
    rows: dict[str, bytes] = {}
    replies: dict[tuple[str, int], list[Message]] = {}
    for place, records in fetched.items():
        model, handler = HANDLERS[place.topic]
        sent = replies.setdefault((REPLIES, place.partition), [])
        for record in records:
            headers = dict(record.headers)
            command_id = headers["ce_id"]
            reply = encoded(handler(model.__pydantic_validator__.validate_json(record.value)))
            rows[command_id.decode()] = reply
            sent.append((record.key, reply, _headers(command_id, headers["ce_step"])))
    return rows, replies


def _headers(command_id: bytes, step: bytes) -> list[tuple[str, bytes]]:
    return [
        ("ce_specversion", b"1.0"), ("ce_id", command_id + b"/r"), ("ce_type", b"reply"), ("ce_step", step),
        ("ce_source", b"/participant"),
    ]  # fmt: skip


async def write(database: asyncpg.Connection[asyncpg.Record], producer: AIOKafkaProducer, answered: Answered) -> None:
    """The inbox, and then the replies."""
    rows, replies = answered
    await database.fetch(tables.ANSWER, list(rows), list(rows.values()))
    await publish(producer, replies)


async def run(kafka: str, url: str) -> None:
    database = await asyncpg.connect(url, server_settings={"search_path": "bare"})
    producer = await producer_at(kafka)
    consumer = await consumer_from_now_on(kafka, *HANDLERS)
    print("ready", flush=True)
    writing: asyncio.Task[None] | None = None
    while True:
        fetched = await consumer.getmany(timeout_ms=200, max_records=TOGETHER)
        if not fetched:
            continue
        answered = answer(fetched)
        if writing is not None:
            await writing
        writing = asyncio.create_task(write(database, producer, answered))
        await asyncio.sleep(0)


if __name__ == "__main__":
    asyncio.run(run(*sys.argv[1:]))
