"""What a coordinator's turn costs to be written: as one statement, and as a transaction with COPY.

    python -m bench.turn_writes

A saga of a turn has three rows of history and sends two messages. Of each case the best of many: milliseconds,
and processor time of this process. PostgreSQL's is a mean, since the kernel counts in hundredths of a second.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter, process_time
from typing import Final
from uuid import uuid4

from sagabus.contracts.envelope import Message
from sagabus.contracts.names import RunId, SagaId
from sagabus.coordinator.core.saga.history import Kind, Row
from sagabus.coordinator.store import SagaKey, Store, Writes
from sagabus.coordinator.store.migrations import migrate
from sagabus.coordinator.store.small_turn import SmallTurn
from sagabus.messaging.postgres.database import Database
from sagabus.messaging.publishing.dead_letter import DeadLetters
from sagabus.messaging.shards.shard_row import Claim, acquire
from sagabus.messaging.shards.tenure import Log, Tenure
from sagabus.messaging.shards.turn import Turn
from tests.support.postgres import PostgresServer

SCHEMA: Final = "sagabus"
SAGAS: Final = (0, 1, 5, 10, 20)
REPEATS: Final = 300
HEADERS: Final = tuple((f"ce_{number}", b"x" * 25) for number in range(13))
TICKS: Final = os.sysconf("SC_CLK_TCK")


@dataclass(slots=True)
class Writing:
    """Turns of one shard, one after the other."""

    database: Database
    tenure: Tenure
    begun: int = 0

    async def turn(self, sagas: int, *, small: bool) -> tuple[float, float]:
        """(seconds, seconds of processor time) of writing one over so many sagas."""
        tenure = self.tenure
        letters = DeadLetters(topic="dead-letters", by=SCHEMA)
        turn, writes = Turn({tenure: ()}, schema=SCHEMA, dead_letters=letters, at=0), Writes()
        for _ in range(sagas):
            self.begun += 1
            key = SagaKey(SagaId(f"S{self.begun}"), RunId("r"))
            rows = [Row(seq, 10**15, Kind.COMMAND, 1, 0, "reserve", "ref", b"x" * 150) for seq in (1, 2, 3)]
            writes.history.add(key, rows, 3)
            for _ in range(2):
                turn.send(tenure, Message.of("out", b"k", b"x" * 150, HEADERS, "S", 0))
        began, used = perf_counter(), process_time()
        await (self._small(turn, writes) if small else self._large(turn, writes))
        cost = perf_counter() - began, process_time() - used
        turn.committed()
        tenure.deleted_to = tenure.relay.position = tenure.next_position - 1
        return cost

    async def _small(self, turn: Turn, writes: Writes) -> None:
        one = SmallTurn.of(turn, writes)
        assert one is not None
        await self.database.write(partial(one.write, schema=SCHEMA))

    async def _large(self, turn: Turn, writes: Writes) -> None:
        rows, encoded = turn.encoded(), writes.encoded()
        async with self.database.transaction() as connection:
            await turn.write(connection, rows)
            await Store(SCHEMA).write(connection, encoded)


async def measure(url: str) -> None:
    await migrate(url, SCHEMA)
    database = Database(url, connections=1)
    try:
        async with database.transaction() as connection:
            claim = Claim(cluster="cluster", generation=1, partitions=1)
            tenure = await acquire(connection, SCHEMA, 0, claim, token=uuid4())
            backend = await connection.fetchval("SELECT pg_backend_pid()")
        tenure.locate({"in": Log("in", 0, 0)})
        writing = Writing(database, tenure)
        for sagas in SAGAS:
            for small in (False, True):
                print(await _told(writing, sagas, small, backend))
    finally:
        await database.stop()


async def _told(writing: Writing, sagas: int, small: bool, backend: int) -> str:
    for _ in range(20):
        await writing.turn(sagas, small=small)
    before = _processor_time(backend)
    costs: Sequence[tuple[float, float]] = [await writing.turn(sagas, small=small) for _ in range(REPEATS)]
    server = (_processor_time(backend) - before) / REPEATS
    took, used = (min(each) for each in zip(*costs, strict=True))
    how = "one statement" if small else "a transaction"
    return f"{sagas:3} sagas, {how}: {took * 1e3:5.2f} ms, {used * 1e3:5.2f} here, {server * 1e3:5.2f} PostgreSQL's"


def _processor_time(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


if __name__ == "__main__":
    with PostgresServer() as server:
        asyncio.run(measure(server.url()))
