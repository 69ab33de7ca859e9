"""A shard with very many open sagas that have timers, and what it is to take it: rows are copied from one real saga."""

from __future__ import annotations

import time
from dataclasses import dataclass

import psutil

from tests.support.conditions import until
from tests.system.ordinary.trial import Trial

PATTERN = "NAP-0"
PORTION = 20_000
"""Rows that one statement makes."""

HANG_SECONDS = 600.0


@dataclass(frozen=True)
class Taken:
    """What it was like. first: seconds from the kill until a saga that was started since has ended."""

    sagas: int
    first: float
    slowest: float
    """Seconds that a new saga took at most, once the first had ended."""
    alive: float
    """Seconds that /livez took at most."""
    stall: float
    """Seconds of processor time of the longest callback of the loop."""
    lost_turns: int
    memory_mib: int


async def fill(made: Trial, sagas: int) -> None:
    """So many open sagas in all, each with the history and the timers of the one that is there."""
    made.start_saga(PATTERN, "nap")

    async def naps() -> bool:
        return bool(await made.observer.value("SELECT count(*) FROM sagabus.timer WHERE id = $1", PATTERN))

    await until(naps, within=60, what=f"{PATTERN} sleeps")
    for first in range(1, sagas, PORTION):
        for table in ("saga", "history", "timer"):
            await made.observer.fetch(await copying(made, table), first, min(sagas - 1, first + PORTION - 1))
    await made.observer.fetch("ANALYZE sagabus.saga, sagabus.history, sagabus.timer")


async def copying(made: Trial, table: str) -> str:
    """A statement that makes copies of the pattern's rows, each with another id."""
    query = (
        "SELECT attname FROM pg_attribute WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped "
        "AND attgenerated = '' AND attidentity = '' ORDER BY attnum"
    )
    columns = [f'"{row["attname"]}"' for row in await made.observer.fetch(query, f"sagabus.{table}")]
    given = [_COLUMNS.get(column.strip('"'), column) for column in columns]
    return (
        f"INSERT INTO sagabus.{table} ({', '.join(columns)}) SELECT {', '.join(given)} "
        f"FROM sagabus.{table}, generate_series($1::int, $2::int) AS n WHERE id = '{PATTERN}'"
    )


_COLUMNS = {"id": "'NAP-' || n", "ref": f"replace(ref, '{PATTERN}', 'NAP-' || n)"}
"""What stands in a copy where the pattern has its own."""


async def take(made: Trial, sagas: int) -> Taken:
    """The coordinator is killed under a load and started again; returns when new sagas end as they did before."""
    await made.neighbours.start()
    await until(lambda: made.neighbours.ended_since(0), within=60, what="neighbours end")
    killed = await made.kill_and_restart()
    alive = made.heartbeat()
    alive.start()
    await until(lambda: made.neighbours.ended_since(killed), within=HANG_SECONDS, every=0.02, what="a new saga ends")
    first = time.monotonic()
    many = len(made.neighbours.sagas) + 300
    await until(lambda: len(made.neighbours.sagas) >= many, within=HANG_SECONDS, what="half a minute's load")
    await made.neighbours.stop(within=HANG_SECONDS)
    await alive.stop()
    process = made.coordinators[-1]
    return Taken(
        sagas, first - killed, made.neighbours.slowest(first), alive.slowest(),
        max((stall.cpu for stall in made.stalls(process)), default=0.0), len(made.lost_turns()),
        psutil.Process(process.pid).memory_info().rss >> 20,
    )  # fmt: skip
