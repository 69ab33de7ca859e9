"""Whether tables stay as large as they are: python -m bench.growth [--sagas 200000] [--window 60] [--json].

Everything is kept for `window` seconds, which should be a small part of the run; orders are sent so that never more
than a few thousand are open. Rows and sizes are looked at twenty times. Exit codes: 0; 1 if a table was larger in the
last third of the run than twice its largest size in the first, or if a saga is missing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Sequence
from typing import Any, Final

import asyncpg
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from bench.results import keep
from bench.stage import LEAN, SERVICES, Stage, stage
from tests.support.conditions import until
from tests.system.orders import Fate, Order, send_orders

SAMPLES: Final = 20
OPEN: Final = 2_000
"""Sagas under way at a time."""

SLACK: Final = 32 << 20
"""Bytes that a table may grow by whatever its size: what dies between two rounds of autovacuum."""

TABLES: Final = (
    "sagabus.outbox", "sagabus.saga", "sagabus.history", "sagabus.started_id", "sagabus.timer", "sagabus.shard",
    *(f"sagabus_{service}.{table}" for service in SERVICES for table in ("outbox", "inbox")),
)  # fmt: skip

Sample = dict[str, dict[str, int]]
"""Table to rows and bytes."""


async def run(options: argparse.Namespace) -> bool:
    names = ("SAGAS", "STARTED_IDS", "INBOX", "DEAD_LETTERS", "PARKED")
    kept = {f"SAGABUS_RETENTION_{name}": f"{options.window}s" for name in names}
    async with stage(LEAN, settings=kept) as environment:
        _shorten(environment.kafka, options.window)
        connection = await asyncpg.connect(environment.database)
        await connection.execute(f"ALTER SYSTEM SET autovacuum_naptime = {options.naptime}")
        await connection.execute("SELECT pg_reload_conf()")
        await environment.deployment.coordinator()
        await environment.deployment.all_participants()
        begun = time.perf_counter()
        samples = await _samples(environment, connection, options.sagas)
        rate = options.sagas / (time.perf_counter() - begun)
        await connection.close()
    return _told(options, samples, rate)


def _shorten(kafka: str, window: int) -> None:
    """A topic that keeps its records for longer than the window would have the services refuse to start.

    Nothing is removed in earnest: Kafka removes whole segments, and these are being written to.
    """
    admin = AdminClient({"bootstrap.servers": kafka})
    entry = ConfigEntry("retention.ms", str(window * 250), incremental_operation=AlterConfigOpType.SET)
    topics = ["sagabus.requests", *(f"{service}.commands" for service in SERVICES)]
    resources = [ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry]) for topic in topics]
    for future in admin.incremental_alter_configs(resources).values():
        future.result()


async def _samples(environment: Stage, connection: asyncpg.Connection[asyncpg.Record], sagas: int) -> list[Sample]:
    """Send all orders, never too many at once, and look now and then."""
    portion = min(OPEN // 2, max(1, sagas // SAMPLES))
    every, sent = max(portion, sagas // SAMPLES), 0
    samples: list[Sample] = []
    while sent < sagas:
        last = min(sagas, sent + portion)
        await send_orders(environment.kafka, [Order(number, Fate.COMPLETED) for number in range(sent + 1, last + 1)])
        sent = last
        await _taken_in(connection, sent, open_ones=OPEN // 2 if sent < sagas else 0)
        if sent // every > len(samples) or sent == sagas:
            samples.append(await _look(connection))
            print(f"{sent} sagas: {sum(one['bytes'] for one in samples[-1].values()) >> 20} MiB", file=sys.stderr)
    return samples


async def _taken_in(connection: asyncpg.Connection[asyncpg.Record], sent: int, *, open_ones: int) -> None:
    """Until all that were sent have been taken in and no more than so many are open.

    Counted by the log's offsets: rows of sagas are removed under way.
    """

    async def enough() -> bool:
        row = await connection.fetchrow(
            "SELECT (SELECT sum((topics->'sagabus.requests'->>'next')::bigint) FROM sagabus.shard) AS taken,"
            " (SELECT count(*) FROM sagabus.saga WHERE status IN ('running', 'compensating')) AS open"
        )
        return row is not None and row["taken"] == sent and row["open"] <= open_ones

    await until(enough, within=300, every=0.02, what=f"{sent} orders were taken in, at most {open_ones} are open")


async def _look(connection: asyncpg.Connection[asyncpg.Record]) -> Sample:
    found: Sample = {}
    for table in TABLES:
        row = await connection.fetchrow(f"SELECT count(*), pg_total_relation_size('{table}') FROM {table}")
        assert row is not None
        found[table] = {"rows": row[0], "bytes": row[1]}
    return found


def _told(options: argparse.Namespace, samples: Sequence[Sample], rate: float) -> bool:
    third = max(1, len(samples) // 3)
    peaks = {table: [_peak(part, table) for part in (samples[:third], samples[-third:])] for table in TABLES}
    grown = [table for table, (early, late) in peaks.items() if late["bytes"] > 2 * early["bytes"] + SLACK]
    result: dict[str, Any] = {
        "sagas": options.sagas, "window_s": options.window, "naptime_s": options.naptime, "sagas_per_s": round(rate),
        "grown": grown, "tables": peaks,
    }  # fmt: skip
    if options.json:
        print(json.dumps({**result, "samples": samples}))
    else:
        for table, (early, late) in peaks.items():
            rows, sizes = (f"{early[what]:11} {late[what]:11}" for what in ("rows", "bytes"))
            print(f"{table:28} {rows} rows {sizes} bytes")
    if options.keep:
        flat = {f"{table}_{at}_kib": one["bytes"] >> 10 for table, two in peaks.items()
                for at, one in zip(("first", "last"), two, strict=True)}  # fmt: skip
        keep("growth", sagas=options.sagas, window_s=options.window, sagas_per_s=round(rate), grown=len(grown), **flat)
    return not grown


def _peak(samples: Sequence[Sample], table: str) -> dict[str, int]:
    return {what: max(sample[table][what] for sample in samples) for what in ("rows", "bytes")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sagas", type=int, default=200_000)
    parser.add_argument("--window", type=int, default=60, help="seconds for which everything is kept")
    parser.add_argument("--naptime", type=int, default=60, help="PostgreSQL's autovacuum_naptime, in seconds")
    parser.add_argument("--json", action="store_true", help="one JSON object, with all samples")
    parser.add_argument("--keep", action="store_true", help="append the figures to bench/results.jsonl")
    sys.exit(0 if asyncio.run(run(parser.parse_args())) else 1)


if __name__ == "__main__":
    main()
