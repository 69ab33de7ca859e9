"""Carries records of outside topics over to the requests: offset and request in one fenced transaction (H6, S1).

Its shards are partitions of outside topics, and are no shards of sagas: partition n of all of them is one, whatever
their numbers of partitions. They have a schema of their own, and a consumer group. What cannot be routed is a dead
letter of the coordinator, where operators look for it.

    record -> routes -> (requests | dead letter) -> one transaction with the offset -> the requests topic
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from sagabus.contracts.envelope import Record
from sagabus.contracts.errors import MessageInvalid
from sagabus.contracts.names import routes_schema
from sagabus.coordinator.routing.routes import Routes
from sagabus.messaging.counters import Counters, Family
from sagabus.messaging.postgres.database import Database
from sagabus.messaging.publishing import dead_letter
from sagabus.messaging.publishing.dead_letter import DeadLetterRow, DeadLetters
from sagabus.messaging.publishing.dead_letter_log import DeadLetterLog
from sagabus.messaging.shards.tenure import Tenure
from sagabus.messaging.shards.turn import Turn

BREATHE_EVERY: Final = 100
"""Records that are routed without a pause: some milliseconds, with functions of the author's that are quick."""

Work = Mapping[Tenure, Sequence[Record]]


class RouteProcessor:
    """Implements `sagabus.messaging.shards.ports.Processor`. clock: seconds since 1970.

    shards: of the coordinator, by which retention finds dead letters.
    """

    def __init__(
        self,
        *,
        routes: Routes,
        database: Database,
        namespace: str,
        dead_letters: DeadLetters,
        shards: int,
        counters: Counters | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._routes = routes
        self._database = database
        self._namespace = namespace
        self._dead_letters = dead_letters
        self._shards = shards
        self._clock = clock
        self.counts = (counters or Counters()).family(Family.RECORDS)

    async def acquired(self, tenure: Tenure) -> None:
        """There is nothing to load."""

    def lost(self, tenure: Tenure) -> None:
        """There is nothing to drop."""

    def next_due(self) -> float | None:
        return None

    async def turn(self, work: Work) -> None:
        """Raises whatever the database raises."""
        at = round(self._clock() * 1_000_000)
        turn = Turn(work, schema=routes_schema(self._namespace), dead_letters=self._dead_letters, at=at)
        if turn.may_release:
            await self._database.read(turn.release)
        taken = _Taken(self._routes, turn, self._dead_letters, shards=self._shards)
        for tenure, records in work.items():
            for number, record in enumerate(records, 1):
                taken.take(tenure, record)
                if not number % BREATHE_EVERY:
                    await asyncio.sleep(0)
        rows = turn.encoded()
        async with self._database.transaction() as connection:
            await turn.write(connection, rows)
            if taken.letters:
                await dead_letter.append(connection, self._namespace, taken.letters)
        turn.committed()
        taken.log.tell()
        self.counts.update(taken.counts)


class _Taken:
    """Of one turn."""

    def __init__(self, routes: Routes, turn: Turn, dead_letters: DeadLetters, *, shards: int) -> None:
        self._routes = routes
        self._turn = turn
        self._dead_letters = dead_letters
        self._shards = shards
        self.letters: list[DeadLetterRow] = []
        self.log = DeadLetterLog(dead_letters.by)
        self.counts: dict[str, int] = {}

    def take(self, tenure: Tenure, record: Record) -> None:
        try:
            routed = self._routes.follow(record, at=self._turn.at)
        except MessageInvalid as error:
            self._dead_letter(tenure, record, error.reason, error.message)
            return
        self._turn.send_all(tenure, routed.messages)
        if routed.faults:
            reason, _ = routed.faults[0]
            self._dead_letter(tenure, record, reason, "; ".join(words for _, words in routed.faults))
        else:
            self._count("routed" if routed.messages else "route.none")

    def _dead_letter(self, tenure: Tenure, record: Record, reason: str, message: str) -> None:
        self._count(reason)
        self.log.take(record, reason=reason, message=message)
        self.letters.append(dead_letter.row_of(record.partition % self._shards, record, reason=reason, message=message))
        self._turn.send(tenure, self._dead_letters.message(record, reason=reason, message=message, at=self._turn.at))

    def _count(self, word: str) -> None:
        self.counts[word] = self.counts.get(word, 0) + 1
