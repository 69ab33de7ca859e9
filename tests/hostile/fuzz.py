"""Runs mutated records through both sides of production code on a real PostgreSQL; the account must be exact.

    python -m tests.hostile.fuzz --records 1000000 --seed 7 --json

The same seed gives the same records. What goes wrong is printed with the seed, the batch and the smallest record that
does it. Memory of this process is looked at after each tenth of the records.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from pathlib import Path
from random import Random

from sqlalchemy.ext.asyncio import create_async_engine

from sagabus.contracts.reasons import FATES, Fate
from sagabus.coordinator.store.migrations import migrate
from sagabus.messaging.database_url import sqlalchemy_url
from sagabus.messaging.postgres.database import Database
from sagabus.participants.inbox.tables import create_tables
from tests.hostile.bench import Broken, feed
from tests.hostile.coordinator_fuzz import CoordinatorFuzz
from tests.hostile.participant_fuzz import ParticipantFuzz, Watching, quiet
from tests.hostile.seeds import Draft
from tests.participants.service_fixture import Base
from tests.support.postgres import PostgresServer

CHECK_EVERY = 5
"""Batches. A check reads whole tables."""

SIZES = 100, 1_000


@dataclass
class Report:
    """rss: megabytes after each tenth of the records. digest: of all records. The counts are by reason."""

    seed: int
    records: int = 0
    batches: int = 0
    witnesses: int = 0
    seconds: float = 0.0
    digest: str = ""
    rss: list[float] = field(default_factory=list)
    coordinator: dict[str, int] = field(default_factory=dict)
    participant: dict[str, int] = field(default_factory=dict)


async def fuzz(url: str, *, records: int, seed: int) -> Report:
    """Load so many records, half of them to each side. Raises Broken."""
    report, sizes, began, digest = Report(seed), Random(f"sizes {seed}"), time.monotonic(), blake2b(digest_size=8)
    async with _sides(url, seed) as sides:
        while report.records < records:
            for side in sides:
                drafts = await side.batch(min(sizes.randint(*SIZES), max(10, records // 10)))
                digest.update(repr(drafts).encode())
                await _fed(side, drafts, report)
            report.records = sum(side.records for side in sides)
            _progress(report, records)
        for side in sides:
            await side.check(f"seed {seed}, at the end, {type(side).__name__}")
        report.witnesses = sum(side.witnesses for side in sides)
        report.coordinator, report.participant = (_sorted(side.seen) for side in sides)
    report.digest, report.seconds = digest.hexdigest(), round(time.monotonic() - began, 1)
    return report


async def _fed(side: CoordinatorFuzz | ParticipantFuzz, drafts: Sequence[Draft], report: Report) -> None:
    """One batch, and now and then a look at the tables."""
    where = f"seed {report.seed}, batch {report.batches}, {type(side).__name__}"
    await feed(side, drafts, where=where)
    if report.batches // 2 % CHECK_EVERY == 0:
        await side.check(where)
    report.batches += 1


def _progress(report: Report, records: int) -> None:
    """A line for each tenth; memory is noted after the first."""
    if report.records * 10 // records > len(report.rss):
        report.rss.append(_megabytes())
        print(f"{report.records} records, {report.rss[-1]} MB", file=sys.stderr, flush=True)


@asynccontextmanager
async def _sides(url: str, seed: int) -> AsyncIterator[tuple[CoordinatorFuzz, ParticipantFuzz]]:
    await migrate(url, "sagabus")
    engine, database = create_async_engine(sqlalchemy_url(url)), Database(url)
    async with engine.begin() as connection:
        await create_tables(connection, "shop")
        await connection.run_sync(Base.metadata.create_all)
    fixture = Watching(url, engine)
    sides = CoordinatorFuzz(database, seed), ParticipantFuzz(fixture, seed)
    try:
        with quiet():
            yield sides
    finally:
        for side in sides:
            await side.close()
        await fixture.stop()
        await database.stop()
        await engine.dispose()


def _sorted(counts: Counter[str]) -> dict[str, int]:
    return dict(counts.most_common())


def _megabytes() -> float:
    gc.collect()
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return round(int(line.split()[1]) / 1024, 1)
    return 0.0


def by_fate(counts: Mapping[str, int]) -> dict[Fate, int]:
    """An account of records, summed up; every fate is there. Raises KeyError for a word that is not in the table."""
    sums = dict.fromkeys(Fate, 0)
    for word, number in counts.items():
        sums[FATES[word]] += number
    return sums


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.hostile.fuzz", description=__doc__.partition("\n")[0])
    parser.add_argument("--records", type=int, default=100_000, metavar="N", help="in all (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="default: %(default)s")
    parser.add_argument("--json", action="store_true", help="the report as JSON")
    given = parser.parse_args(arguments)
    with PostgresServer() as server, server.database() as url:
        try:
            report = asyncio.run(fuzz(url, records=given.records, seed=given.seed))
        except Broken as broken:
            print(broken, file=sys.stderr)
            return 1
    if given.json:
        print(json.dumps(asdict(report)))
    else:
        for name, value in asdict(report).items():
            print(f"{name}: {value}")
        print("by fate:", {name: by_fate(getattr(report, name)) for name in ("coordinator", "participant")})
    return 0


if __name__ == "__main__":
    sys.exit(main())
