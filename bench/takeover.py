"""How long sagas stand still after a SIGKILL of their coordinator: python -m bench.takeover [--times 5].

Three ways: another coordinator takes over; one with static membership is started again; one without is started again.
Measured from the kill (or from the start of the new process, for the restarts) to the first row that is written again.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time

import asyncpg

from bench.results import keep
from bench.stage import LEAN, Stage, stage
from tests.support.conditions import until
from tests.support.processes import Child
from tests.system.orders import Fate, Order, send_orders


async def run(options: argparse.Namespace) -> None:
    for way in (another, static, dynamic):
        times = []
        for _ in range(options.times):
            async with stage(LEAN, partitions=4) as environment:
                connection = await asyncpg.connect(environment.database)
                await environment.deployment.participant(LEAN[0], "participants")
                load = asyncio.create_task(feeding(environment))
                try:
                    times.append(await way(environment, connection))
                finally:
                    load.cancel()
                    await connection.close()
        keep(
            f"takeover by {way.__name__}", times=len(times), median_s=round(statistics.median(times), 2),
            worst_s=round(max(times), 2),
        )  # fmt: skip


async def another(environment: Stage, connection: asyncpg.Connection[asyncpg.Record]) -> float:
    """A second coordinator is there already; all of the first one's shards move to it."""
    first = await environment.deployment.coordinator("coordinator-1")
    await environment.deployment.coordinator("coordinator-2")
    await until(lambda: holders(connection, at_least=2), within=60)
    await moving(connection)
    return await after_kill(first, connection)


async def static(environment: Stage, connection: asyncpg.Connection[asyncpg.Record]) -> float:
    """The same instance is started again at once."""
    return await restarted(environment, connection, instance="coordinator-a")


async def dynamic(environment: Stage, connection: asyncpg.Connection[asyncpg.Record]) -> float:
    """Started again without an instance: the group must find out first that the old member is gone."""
    return await restarted(environment, connection, instance="")


async def restarted(environment: Stage, connection: asyncpg.Connection[asyncpg.Record], *, instance: str) -> float:
    first = await environment.deployment.coordinator("coordinator-1", instance=instance)
    await moving(connection)
    first.kill()
    begun = time.perf_counter()
    start = asyncio.create_task(environment.deployment.coordinator("coordinator-2", instance=instance))
    await all_move(connection, begun)
    taken = time.perf_counter() - begun
    await start
    return taken


async def after_kill(victim: Child, connection: asyncpg.Connection[asyncpg.Record]) -> float:
    victim.kill()
    begun = time.perf_counter()
    await all_move(connection, begun)
    return time.perf_counter() - begun


async def all_move(connection: asyncpg.Connection[asyncpg.Record], since: float) -> None:
    """Until every shard has had a turn after this moment."""
    query = (
        "SELECT count(*) FILTER (WHERE beat_at > clock_timestamp() - $1::float8 * interval '1 s') FROM sagabus.shard"
    )

    async def moved() -> bool:
        return bool(await connection.fetchval(query, time.perf_counter() - since) == 4)

    await until(moved, within=120)


async def moving(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    async def some() -> bool:
        return bool(await connection.fetchval("SELECT count(*) > 200 FROM sagabus.history"))

    await until(some, within=60)


async def holders(connection: asyncpg.Connection[asyncpg.Record], *, at_least: int) -> bool:
    found = await connection.fetchval(
        "SELECT count(DISTINCT (a.pid, a.backend_start)) FROM sagabus.shard s JOIN pg_stat_activity a "
        "ON a.pid = s.backend_pid AND a.backend_start = s.backend_start"
    )
    return bool(found >= at_least)


async def feeding(environment: Stage) -> None:
    """A hundred sagas a second."""
    for number in range(0, 1_000_000, 20):
        await send_orders(environment.kafka, [Order(number + more, Fate.COMPLETED) for more in range(20)])
        await asyncio.sleep(0.2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=5)
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
