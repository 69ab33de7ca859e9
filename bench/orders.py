"""How many order sagas a second, and how long one alone takes: python -m bench.orders [--sagas 20000] [--shop].

The floor is the same traffic without sagas, measured in the same run: as many messages through the same broker, as many
rows into the same database, both in batches.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Sequence

import asyncpg
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from bench.results import keep
from bench.stage import LEAN, SHOP, Stage, stage
from tests.support.conditions import until
from tests.system.deployment import counts
from tests.system.orders import REQUESTS, Fate, Order, send_orders

MESSAGES, ROWS = 12, 30
"""A saga's: 1 request, 3 commands, 3 replies, 5 lifecycle events; rows of history, outbox, inbox and its own."""


async def run(options: argparse.Namespace) -> None:
    async with stage(SHOP if options.shop else LEAN) as environment:
        connection = await asyncpg.connect(environment.database)
        if options.shop:
            await connection.execute("UPDATE inventory_stock SET free = 100000000")
        await environment.deployment.coordinator()
        for number, module in enumerate(environment.deployment.participants):
            await environment.deployment.participant(module, f"participant-{number}")
        await many(environment, connection, 200, first=1)
        rate = await many(environment, connection, options.sagas, first=1_000)
        alone = await one_by_one(environment, options.alone, first=50_000_000)
        floor = await floor_rate(environment, connection, options.sagas)
        await connection.close()
        keep(
            "orders", participants="shop" if options.shop else "lean", sagas=options.sagas, sagas_per_s=round(rate),
            median_ms=round(statistics.median(alone) * 1000, 1), worst_ms=round(max(alone) * 1000, 1),
            floor_sagas_per_s=round(floor), share_of_floor=round(rate / floor, 3),
        )  # fmt: skip


async def many(environment: Stage, connection: asyncpg.Connection[asyncpg.Record], count: int, *, first: int) -> float:
    """Sagas per second, from the first request to the last end."""
    before = (await counts(connection)).all
    begun = time.perf_counter()
    await send_orders(environment.kafka, [Order(number, Fate.COMPLETED) for number in range(first, first + count)])

    async def all_ended() -> bool:
        now = await counts(connection)
        return now.all == before + count and now.open == 0

    await until(all_ended, within=600, every=0.1)
    return count / (time.perf_counter() - begun)


async def one_by_one(environment: Stage, count: int, *, first: int) -> Sequence[float]:
    """Seconds from the start request to the completed event, nothing else going on."""
    producer = AIOKafkaProducer(bootstrap_servers=environment.kafka)
    consumer = AIOKafkaConsumer("sagabus.events", bootstrap_servers=environment.kafka, auto_offset_reset="latest")
    await producer.start()
    await consumer.start()
    for place in consumer.assignment():
        await consumer.position(place)  # "latest" is wherever it is asked first: now, and not after the first event
    times = []
    for number in range(first, first + count):
        order = Order(number, Fate.COMPLETED)
        begun = time.perf_counter()
        await producer.send_and_wait(REQUESTS, json.dumps(order.request).encode(), key=order.id.encode())
        async for record in consumer:
            if record.key == order.id.encode() and b"sagabus.saga.completed" in dict(record.headers).values():
                break
        times.append(time.perf_counter() - begun)
    await consumer.stop()
    await producer.stop()
    return times


async def floor_rate(environment: Stage, connection: asyncpg.Connection[asyncpg.Record], sagas: int) -> float:
    """Sagas per second if a saga were only its messages and its rows."""
    begun = time.perf_counter()
    await _messages(environment, sagas * MESSAGES)
    await connection.execute("CREATE TABLE floor (id bigint, place bigint, payload bytea, PRIMARY KEY (id, place))")
    payload = b"x" * 200
    for start in range(0, sagas * ROWS, 1_000):
        rows = [(number, start, payload) for number in range(start, start + 1_000)]
        await connection.copy_records_to_table("floor", records=rows)
    return sagas / (time.perf_counter() - begun)


async def _messages(environment: Stage, count: int) -> None:
    producer = AIOKafkaProducer(
        bootstrap_servers=environment.kafka, acks="all", enable_idempotence=True, max_batch_size=1_000_000
    )
    consumer = AIOKafkaConsumer(bootstrap_servers=environment.kafka)
    await producer.start()
    await consumer.start()
    place = TopicPartition("inventory.events", 0)
    consumer.assign([place])
    consumer.seek(place, (await consumer.end_offsets([place]))[place])
    for _ in range(0, count, 500):
        batch = producer.create_batch()
        for _ in range(500):
            batch.append(key=b"ORD-1", value=b"x" * 200, timestamp=None, headers=[("ce_id", b"x" * 30)] * 10)
        batch.close()
        await producer.send_batch(batch, place.topic, partition=place.partition)
    seen = 0
    while seen < count:
        seen += sum(map(len, (await consumer.getmany(timeout_ms=200, max_records=1_000)).values()))
    await consumer.stop()
    await producer.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sagas", type=int, default=20_000)
    parser.add_argument("--alone", type=int, default=100, help="sagas run one after the other, for the latency")
    parser.add_argument("--shop", action="store_true", help="with the shop's own handlers and ledgers")
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
