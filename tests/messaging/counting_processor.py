"""A side that counts: each record becomes a row and a message, and a timer may be due."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence

from sagabus.contracts.envelope import Message, Record
from sagabus.messaging.postgres.tables import qualified
from sagabus.messaging.shards.tenure import Tenure
from tests.messaging.shards_fixture import Shards

TABLE = "CREATE TABLE {table} (shard int, topic text, number bigint, value text)"


class Counter:
    """Exactly once means: one row for each record, in `rows()`."""

    def __init__(self, shards: Shards, *, out: str = "out") -> None:
        self.shards = shards
        self.out = out
        """The topic of the messages."""
        self.taken_: list[Tenure] = []
        self.lost_: list[Tenure] = []
        self.turns: list[dict[int, int]] = []
        """Of each turn that was begun: shard to the number of records."""
        self.due: dict[int, float] = {}
        """Shard to the time of its timer."""
        self.fired: list[tuple[int, bool]] = []
        """Shard, and whether it had caught up."""
        self.before: Callable[[Mapping[Tenure, Sequence[Record]]], None] = lambda _: None
        self.after: Callable[[Mapping[Tenure, Sequence[Record]]], None] = lambda _: None
        self.new_logs: list[tuple[str, ...]] = []
        self.busy: set[int] = set()
        """Shards of which a turn is under way."""
        self.meeting: asyncio.Barrier | None = None
        """Where turns with records wait for each other before they commit."""

    async def create(self) -> None:
        async with self.shards.database.transaction() as connection:
            await connection.execute(TABLE.format(table=self._table))

    async def acquired(self, tenure: Tenure) -> None:
        self.taken_.append(tenure)

    def lost(self, tenure: Tenure) -> None:
        self.lost_.append(tenure)

    def next_due(self) -> float | None:
        return min(self.due.values(), default=None)

    async def turn(self, work: Mapping[Tenure, Sequence[Record]]) -> None:
        shards = {tenure.shard: len(records) for tenure, records in work.items()}
        assert self.busy.isdisjoint(shards), "two turns of a shard at once"
        self.busy.update(shards)
        try:
            self.turns.append(shards)
            self.new_logs += [tenure.new_logs for tenure in work if tenure.new_logs]
            self._fire(work)
            self.before(work)
            if self.meeting is not None and any(work.values()):
                await self.meeting.wait()
            await self._count(work)
            self.after(work)
        finally:
            self.busy.difference_update(shards)

    async def rows(self) -> list[tuple[int, str]]:
        """Shard and value of all that was counted, in order of shards and counting."""
        async with self.shards.database.transaction() as connection:
            rows = await connection.fetch(f"SELECT shard, value FROM {self._table} ORDER BY shard, ctid")
        return [(row["shard"], row["value"]) for row in rows]

    def _fire(self, work: Mapping[Tenure, Sequence[Record]]) -> None:
        for tenure in work:
            if tenure.caught_up and self.due.get(tenure.shard, time.time() + 1) <= time.time():
                del self.due[tenure.shard]
                self.fired.append((tenure.shard, tenure.caught_up))

    async def _count(self, work: Mapping[Tenure, Sequence[Record]]) -> None:
        turn = self.shards.turn(work)
        rows = []
        for tenure, records in work.items():
            for r in records:
                rows.append((tenure.shard, r.topic, r.offset, (r.value or b"").decode()))
                turn.send(tenure, Message.of(self.out, r.key, r.value, (), f"shard {tenure.shard}", tenure.shard))
        async with self.shards.database.transaction() as connection:
            await turn.write(connection)
            await connection.executemany(f"INSERT INTO {self._table} VALUES ($1, $2, $3, $4)", rows)
        turn.committed()

    @property
    def _table(self) -> str:
        return qualified(self.shards.schema, "counted")
