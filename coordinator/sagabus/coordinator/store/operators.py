"""What people ask: which sagas are there, how far is this one. Reads only, each call in a short transaction of its own.

`saga_list` has the lists, `recent` what a saga waits for.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import starmap
from typing import Final

from sagabus.contracts.envelope import unpack_headers
from sagabus.contracts.names import RunId, SagaId, requests_topic
from sagabus.coordinator.core.saga.effects import RequestAnswer, TimerKind
from sagabus.coordinator.core.saga.history import Kind, Row
from sagabus.coordinator.core.saga.request_answers import answer_of
from sagabus.coordinator.core.saga.status import SagaStatus
from sagabus.coordinator.store.columns import HISTORY, SAGA, TIMER
from sagabus.coordinator.store.owners import owners
from sagabus.coordinator.store.read import history_row, saga_row
from sagabus.coordinator.store.recent import Recent, RecentReads
from sagabus.coordinator.store.rows import SagaKey, SagaRow, TimerRow
from sagabus.coordinator.store.saga_list import Filter, ListCursor, Page, SagaList
from sagabus.coordinator.store.tables import IS_OPEN
from sagabus.coordinator.store.wire import read
from sagabus.messaging.postgres.database import Connection, Database
from sagabus.messaging.postgres.statements import named_statements
from sagabus.messaging.postgres.tables import qualified

MAX_PAGE: Final = 500
"""Sagas, or rows of history, in one answer: some hundred kilobytes."""

MAX_TIMERS_SHOWN: Final = 100
"""Timers of a saga in one answer, the first due first. A saga that waits for thousands of steps has as many timers."""

LETTERS_READ: Final = 100
"""Dead letters of one saga id that are looked through for one request."""

SAGAS_AT_A_TIME: Final = 50
"""Whose latest rows are read by one statement."""

READERS: Final = 2
"""Reads at a time. The others wait here, and not for the connection that the next turn needs."""


@dataclass(frozen=True, slots=True)
class SagaDetails:
    """What a saga's row does not hold. first: of its history, with the request that started it; None without history.

    timers: the next MAX_TIMERS_SHOWN.
    """

    first: Row | None
    timers: list[TimerRow]


class OperatorReads:
    """The reading side of one schema, for people. Every call raises DatabaseUnreachable when there is no database."""

    def __init__(self, database: Database, schema: str) -> None:
        self._database = database
        self._schema = schema
        self._places = asyncio.Semaphore(READERS)
        self._sql = _statements(schema)
        self._list = SagaList(schema)
        self._recent = RecentReads(schema)

    async def page(self, wanted: Filter, *, limit: int = 50, after: ListCursor | None = None) -> Page:
        """The newest sagas first, or by id where a prefix is given; after that place. limit: 1 to MAX_PAGE."""
        limit = max(1, min(limit, MAX_PAGE))
        async with self._connection() as connection:
            return await self._list.page(connection, wanted, limit=limit, after=after)

    async def recent(self, sagas: Sequence[SagaRow], *, most: int) -> list[Recent]:
        """The latest rows and the timers of each, at most so many. A few sagas at a time: others read too."""
        found: list[Recent] = []
        for first in range(0, len(sagas), SAGAS_AT_A_TIME):
            async with self._connection() as connection:
                part = sagas[first : first + SAGAS_AT_A_TIME]
                found += await self._recent.of(connection, part, most=most)
        return found

    async def kept_requests(self, id: str) -> int:
        """Requests that came before this saga, and are kept until it is started."""
        async with self._connection() as connection:
            return int(await connection.fetchval(self._sql["early_request.kept"], id))

    async def is_removed(self, id: str) -> bool:
        """Whether a saga of this id has ended, and was removed by retention."""
        async with self._connection() as connection:
            return bool(await connection.fetchval(self._sql["started_id.has"], id))

    async def input_hash(self, id: str) -> bytes | None:
        """Of what the saga of this id was started with, though its row may be gone; None for an id that is not used."""
        async with self._connection() as connection:
            found: bytes | None = await connection.fetchval(self._sql["saga.input_hash"], id)
        return found

    async def has_event(self, key: SagaKey, ref: str) -> bool:
        """Whether this run has received an event of that id."""
        async with self._connection() as connection:
            return bool(await connection.fetchval(self._sql["history.event"], key.id, key.run, ref))

    async def saga(self, id: str, run: str | None = None) -> SagaRow | None:
        """The open run of this id, else its newest; or this very run."""
        async with self._connection() as connection:
            return await self._saga(connection, id, run)

    async def details(self, saga: SagaRow) -> SagaDetails:
        """Costs the same however long the saga is."""
        timer = saga.shard, saga.id, saga.run, MAX_TIMERS_SHOWN
        async with self._connection() as connection:
            rows = await connection.fetch(self._sql["history.show"], saga.id, saga.run, 0, 1)
            timers = await connection.fetch(self._sql["timer.show"], *timer)
        return SagaDetails(history_row(list(rows[0])) if rows else None, list(starmap(TimerRow, timers)))

    async def retries(self, saga: SagaRow) -> list[int]:
        """The numbers of the steps for which a retry is due some time."""
        async with self._connection() as connection:
            found = await connection.fetch(self._sql["timer.retries"], saga.shard, saga.id, saga.run)
        return [row["number"] for row in found]

    async def history(self, key: SagaKey, *, after: int = 0, limit: int = MAX_PAGE) -> list[Row]:
        """Rows of one run, in order, after the row of that number. limit: 1 to MAX_PAGE."""
        limit = max(1, min(limit, MAX_PAGE))
        async with self._connection() as connection:
            rows = await connection.fetch(self._sql["history.show"], key.id, key.run, after, limit)
        return [history_row(list(row)) for row in rows]

    async def last_row(self, key: SagaKey) -> int:
        """The number of the latest row of this run; 0 without any."""
        async with self._connection() as connection:
            return int(await connection.fetchval(self._sql["history.last"], key.id, key.run))

    async def request_answer(self, key: SagaKey, request: str, *, after: int = 0) -> RequestAnswer | None:
        """What became of this request, from the rows after that number: what else came since then is all it costs.

        None if they say nothing of it.
        """
        async with self._connection() as connection:
            found = await connection.fetchrow(self._sql["history.request"], key.id, key.run, after, request)
        if found is None:
            return None
        *values, decided = found
        return answer_of(history_row(values), decided)

    async def definitions(self) -> set[str]:
        """Names that the owners of all shards run, as far as they have said."""
        async with self._connection() as connection:
            found = await owners(connection, self._schema)
        return {str(one["name"]) for owner in found for one in json.loads(owner.definitions)}

    async def runs(self, id: str) -> list[SagaKey]:
        """All runs of this id, the newest first."""
        async with self._connection() as connection:
            found = await connection.fetch(self._sql["saga.runs_of_id"], id)
        return [SagaKey(SagaId(row["id"]), RunId(row["run"])) for row in found]

    async def rejection(self, id: str, message_id: str) -> tuple[str, str] | None:
        """Why this request for a saga of this id became a dead letter: reason and message.

        Looks at the latest LETTERS_READ of this id.
        """
        async with self._connection() as connection:
            letters = await connection.fetch(
                self._sql["dead_letter.rejections"], id.encode(), requests_topic(self._schema)
            )
        asked = message_id.encode()
        said = (
            (row["reason"], row["message"]) for row in letters if ("ce_id", asked) in unpack_headers(row["headers"])
        )
        return next(said, None)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        async with self._places, self._database.transaction() as connection:
            yield connection

    async def _saga(self, connection: Connection, id: str, run: str | None) -> SagaRow | None:
        found = await connection.fetchrow(self._sql["saga.show"], id, run)
        return None if found is None else saga_row(found)


_NEWEST_RUN: Final = f"row.{IS_OPEN} DESC, row.started_at DESC, row.status = '{SagaStatus.CONTINUED}'"


@named_statements
def _statements(schema: str) -> dict[str, str]:
    saga, history, timer = (qualified(schema, name) for name in ("saga", "history", "timer"))
    letters, early, shard, started = (
        qualified(schema, name) for name in ("dead_letter", "early_request", "shard", "started_id")
    )
    return {
        "saga.show": f"""
            SELECT {read(SAGA, "row")} FROM {saga} AS row
            WHERE row.id = $1 AND ($2::text IS NULL OR row.run = $2) ORDER BY {_NEWEST_RUN} LIMIT 1""",
        "saga.input_hash": f"""
            SELECT coalesce(
                (SELECT row.input_hash FROM {saga} AS row WHERE row.id = $1 ORDER BY {_NEWEST_RUN} LIMIT 1),
                (SELECT input_hash FROM {started} WHERE id = $1))""",
        "dead_letter.rejections": f"""
            SELECT reason, message, headers FROM {letters}
            WHERE sha256(key) = sha256($1) AND key = $1 AND topic = $2 ORDER BY id DESC LIMIT {LETTERS_READ}""",
        # Early requests are kept by shard; a saga that is not there has none that could be looked up.
        "early_request.kept": f"""
            SELECT count(*) FROM {shard} AS shard JOIN {early} AS row USING (shard) WHERE row.saga_id = $1::text""",
        "started_id.has": f"SELECT EXISTS (SELECT FROM {started} WHERE id = $1)",
        "history.event": f"""
            SELECT EXISTS (SELECT FROM {history} WHERE id = $1 AND run = $2 AND kind = '{Kind.EVENT}' AND ref = $3)""",
        "saga.runs_of_id": f"SELECT row.id, row.run FROM {saga} AS row WHERE row.id = $1 ORDER BY {_NEWEST_RUN}",
        "history.show": f"""
            SELECT {read(HISTORY, "row")} FROM {history} AS row
            WHERE row.id = $1 AND row.run = $2 AND row.seq > $3 ORDER BY row.seq LIMIT $4""",
        "history.last": f"SELECT coalesce(max(seq), 0) FROM {history} WHERE id = $1 AND run = $2",
        # One statement, so that the saga's row is as it was when the last row of the request was.
        "history.request": f"""
            SELECT {read(HISTORY, "row")}, saga.decided FROM {history} AS row
            JOIN {saga} AS saga ON saga.id = row.id AND saga.run = row.run
            WHERE row.id = $1 AND row.run = $2 AND row.seq > $3 AND row.ref = $4
            AND row.kind IN ('{Kind.CANCEL}', '{Kind.OPERATOR}', '{Kind.NOTICE}')
            ORDER BY row.seq DESC LIMIT 1""",
        "timer.show": f"""
            SELECT {read(TIMER, "row")} FROM {timer} AS row
            WHERE row.shard = $1 AND row.id = $2 AND row.run = $3 ORDER BY row.due, row.number LIMIT $4""",
        "timer.retries": f"""
            SELECT row.number FROM {timer} AS row
            WHERE row.shard = $1 AND row.id = $2 AND row.run = $3 AND row.kind = '{TimerKind.RETRY}'""",
    }
