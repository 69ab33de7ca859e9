"""What a turn of a participant costs, by how many commands it takes in and what their handlers do.

    python -m bench.participant_turns [--turns 200] [--commands 1 5 50 200] [--kinds answers]

A real CommandProcessor on a PostgreSQL of its own, one turn after the other, without Kafka. Handlers answer at once, or
write a row with plain SQL, or add one to a session. Of each case the best of many turns: milliseconds that pass, and
processor time of this process. PostgreSQL's is a mean, since the kernel counts in hundredths of a second. A turn
without commands is a beat, which deletes what was published.
"""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from time import perf_counter, process_time
from typing import Final

from sagabus.messaging.shards.tenure import Tenure
from sagabus.participants import ActivityContext
from tests.participants.service_fixture import BOOK, Effect, Saga, ServiceFixture, Take, Taken, opened, take_item
from tests.support.postgres import PostgresServer

TICKS: Final = os.sysconf("SC_CLK_TCK")
KINDS: Final = ("answers", "plain", "session")


async def answers(command: Take, ctx: ActivityContext) -> Taken:
    return Taken(item=command.item, left=1)


async def writes_plainly(command: Take, ctx: ActivityContext) -> Taken:
    await ctx.connection.execute("INSERT INTO effect (what) VALUES ($1)", ctx.saga_id)
    return Taken(item=command.item, left=1)


async def adds_to_a_session(command: Take, ctx: ActivityContext) -> Taken:
    ctx.session.add(Effect(what=ctx.saga_id))
    return Taken(item=command.item, left=1)


HANDLERS: Final = dict(zip(KINDS, (answers, writes_plainly, adds_to_a_session), strict=True))


class Turning:
    """Turns of one shard, one after the other."""

    def __init__(self, fixture: ServiceFixture, tenure: Tenure) -> None:
        self.fixture = fixture
        self._tenure = tenure
        self._sagas = count()

    async def turn(self, commands: int) -> tuple[float, float]:
        """(seconds, seconds of processor time) of one with so many commands, all published behind it."""
        tenure = self._tenure
        made = [Saga(f"S{next(self._sagas)}").command(take_item, BOOK) for _ in range(commands)]
        records = self.fixture.records(tenure, *made)
        began, used = perf_counter(), process_time()
        await self.fixture.processor.turn({tenure: records})
        cost = perf_counter() - began, process_time() - used
        tenure.relay.position = tenure.next_position - 1
        return cost

    async def told(self, kind: str, commands: int, turns: int) -> str:
        for _ in range(20):
            await self.turn(commands)
        backends = [row["pid"] for row in await self.fixture.rows(_BACKENDS)]
        before = sum(map(_processor_time, backends))
        costs: Sequence[tuple[float, float]] = [await self.turn(commands) for _ in range(turns)]
        server = (sum(map(_processor_time, backends)) - before) / turns
        took, used = (min(each) for each in zip(*costs, strict=True))
        ours = f"{took * 1e3:6.2f} ms, {used * 1e3:6.2f} here, {server * 1e3:6.2f} PostgreSQL's"
        return f"{commands:4} commands, {kind:8}: {ours}"


_BACKENDS: Final = "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"


def _processor_time(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


async def measure(url: str, options: argparse.Namespace) -> None:
    async with opened(url) as fixture:
        turning = Turning(fixture, await fixture.take())
        for commands in options.commands:
            for kind in options.kinds if commands else options.kinds[:1]:
                fixture.handles(take_item)(HANDLERS[kind])
                print(await turning.told(kind, commands, options.turns), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=200, help="of each case (default: 200)")
    parser.add_argument("--commands", type=int, nargs="+", default=[0, 1, 5, 50, 200])
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, help="what handlers do (default: all)")
    options = parser.parse_args()
    with PostgresServer() as server, server.database() as url:
        asyncio.run(measure(url, options))


if __name__ == "__main__":
    main()
