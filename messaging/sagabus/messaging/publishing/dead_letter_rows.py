"""The rows of `dead_letter`, for people: looked through, sent again, dropped.

A letter is taken by locking its row (SKIP LOCKED): two operators, or one and retention, never have the same one. It is
deleted in the transaction that holds it, after the acknowledgement of what was published. A crash in between publishes
it once more when it is replayed again; receivers drop equal `ce_id`s.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Final

import asyncpg

from sagabus.contracts.envelope import Headers, Message, unpack_headers
from sagabus.contracts.errors import SagabusError
from sagabus.messaging.postgres.database import Connection, Database
from sagabus.messaging.postgres.statements import named_statements
from sagabus.messaging.postgres.tables import qualified
from sagabus.messaging.publishing.dead_letter import text_of
from sagabus.messaging.publishing.kept_part import cut_parts
from sagabus.messaging.publishing.reroute import FORWARDED

ADDED: Final = "x-dlt-"
"""Headers that a copy on the dead-letter topic has beside those of its record."""

HOLD_LIMIT: Final = "60s"
"""How long a letter may be held while it is being published: longer than the producer's own patience."""


@dataclass(frozen=True, slots=True)
class Letter:
    """A row. timestamp: of the record, in milliseconds since 1970; at: when it became a dead letter."""

    id: int
    shard: int
    reason: str
    message: str
    topic: str
    partition: int
    offset: int
    timestamp: int
    at: datetime
    key: bytes | None
    headers: Headers
    value: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which letters. Left out, a filter lets everything through. saga: the record's key."""

    reason: str | None = None
    topic: str | None = None
    saga: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """What is changed before a letter is sent again. headers: set, in place of those of the same name."""

    value: bytes | None = None
    key: bytes | None = None
    headers: tuple[tuple[str, bytes], ...] = ()


AS_IT_WAS: Final = Repair()


class NotWhole(SagabusError):
    """The row has the beginning of a part only, and nothing is given in its place: it cannot be sent again."""

    def __init__(self, letter: Letter, parts: Collection[str]) -> None:
        self.parts = frozenset(parts)
        place = f"{letter.topic}, partition {letter.partition}, offset {letter.offset}"
        listed = ", ".join(sorted(parts))
        cures = {"value": "--value FILE", "key": "--key TEXT"}
        repair = " and ".join(cures[part] for part in sorted(parts) if part in cures)
        cure = f", or give {repair}" if self.parts <= cures.keys() else ""
        super().__init__(
            f"it is not whole: of its {listed} the row has no more than the beginning. The record itself is in "
            f"{place}, as long as Kafka keeps it: copy it from there{cure}"
        )


class DeadLetterRows:
    """Of one schema. Every call raises DatabaseUnreachable, and what asyncpg raises where there are no such tables."""

    def __init__(self, database: Database, schema: str) -> None:
        self._database = database
        self._sql = _statements(schema)

    async def newest(self, wanted: Wanted, *, limit: int) -> list[Letter]:
        """The newest first."""
        async with self._database.transaction() as connection:
            rows = await connection.fetch(self._sql["dead_letter.newest"], *_filter(wanted), limit)
        return [_letter(row) for row in rows]

    async def totals(self, wanted: Wanted) -> dict[str, int]:
        """How many there are, by reason, the most frequent first."""
        async with self._database.transaction() as connection:
            rows = await connection.fetch(self._sql["dead_letter.totals"], *_filter(wanted))
        return {row["reason"]: row["total"] for row in rows}

    async def ids(self, wanted: Wanted) -> list[int]:
        """Of all that are there now, the oldest first."""
        async with self._database.transaction() as connection:
            rows = await connection.fetch(self._sql["dead_letter.ids"], *_filter(wanted))
        return [row["id"] for row in rows]

    async def letter(self, id: int) -> Letter | None:
        async with self._database.transaction() as connection:
            row = await connection.fetchrow(self._sql["dead_letter.show"], id)
        return None if row is None else _letter(row)

    @asynccontextmanager
    async def taken(self, ids: Sequence[int]) -> AsyncIterator[list[Letter]]:
        """Those of these letters that nobody else holds, in the order of coming, to do something with.

        They are deleted when the block is left, and stay if it is left by an exception.
        """
        async with self._database.transaction() as connection:
            await connection.execute(f"SET LOCAL idle_in_transaction_session_timeout = '{HOLD_LIMIT}'")
            letters = [_letter(row) for row in await connection.fetch(self._sql["dead_letter.take"], ids)]
            yield letters
            await self._delete(connection, [letter.id for letter in letters])

    async def _delete(self, connection: Connection, ids: Sequence[int]) -> None:
        if ids:
            await connection.execute(self._sql["dead_letter.delete"], ids)


def again(letter: Letter, repair: Repair = AS_IT_WAS) -> Message:
    """The record as it came, for the topic and partition it came from; of another key, for that key's partition.

    Left off are `x-dlt-*`, and `ce_forwarded`: what was forwarded once may be forwarded again. Raises NotWhole.
    """
    given = {part for part, one in (("value", repair.value), ("key", repair.key)) if one is not None}
    if missing := cut_parts(letter.headers) - given:
        raise NotWhole(letter, missing)
    set_here = {name for name, _ in repair.headers}
    headers = tuple(
        (name, value)
        for name, value in letter.headers
        if name != FORWARDED and not name.startswith(ADDED) and name not in set_here
    )
    key = letter.key if repair.key is None else repair.key
    value = letter.value if repair.value is None else repair.value
    partition = letter.partition if repair.key is None else None
    return Message.of(letter.topic, key, value, (*headers, *repair.headers), text_of(key or b""), partition)


def _letter(row: asyncpg.Record) -> Letter:
    values = dict(row)
    return Letter(**{**values, "headers": unpack_headers(values["headers"])})


def _filter(wanted: Wanted) -> tuple[str | None, str | None, bytes | None]:
    return wanted.reason, wanted.topic, None if wanted.saga is None else wanted.saga.encode(errors="replace")


@cache
@named_statements
def _statements(schema: str) -> dict[str, str]:
    table = qualified(schema, "dead_letter")
    columns = ", ".join(f'"{name}"' for name in Letter.__slots__)
    wanted = """($1::text IS NULL OR reason = $1) AND ($2::text IS NULL OR topic = $2)
            AND ($3::bytea IS NULL OR key = $3)"""
    return {
        "dead_letter.newest": f"SELECT {columns} FROM {table} WHERE {wanted} ORDER BY id DESC LIMIT $4",
        "dead_letter.totals": f"""
            SELECT reason, count(*) AS total FROM {table} WHERE {wanted} GROUP BY reason ORDER BY total DESC, reason""",
        "dead_letter.ids": f"SELECT id FROM {table} WHERE {wanted} ORDER BY id",
        "dead_letter.show": f"SELECT {columns} FROM {table} WHERE id = $1",
        "dead_letter.take": f"""
            SELECT {columns} FROM {table} WHERE id = ANY ($1::bigint[]) ORDER BY id FOR UPDATE SKIP LOCKED""",
        "dead_letter.delete": f"DELETE FROM {table} WHERE id = ANY ($1::bigint[])",
    }
