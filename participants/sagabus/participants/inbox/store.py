"""The inbox in the database: one place for all its SQL, each statement for a whole batch.

The rows of a batch's commands are read first, without a lock (`hold` within the transaction of its handlers, `look`
where there is none yet), and each is written once, after the handlers have run: a new one is inserted, one that was
there is compared with what was read. If another transaction has carried out the
same command meanwhile, which can be if it came in two partitions, that does not hold any more: then this one is rolled
back with all that its handlers have done, and the commands are taken in again. Keys are written in sorted order, as
the last thing that may have to wait (P7): so two transactions that share several cannot deadlock here.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from typing import Any, Final

import asyncpg

from sagabus.contracts.envelope import Headers, microseconds, pack_headers, unpack_headers
from sagabus.contracts.errors import MessageInvalid
from sagabus.contracts.json_value import encode_value
from sagabus.messaging.postgres import binary_copy
from sagabus.messaging.postgres.database import Connection
from sagabus.messaging.postgres.statements import named_statements
from sagabus.messaging.postgres.tables import qualified
from sagabus.messaging.shards import shard_row
from sagabus.messaging.shards.tenure import Tenure
from sagabus.participants.handlers.database_errors import DatabaseFailed
from sagabus.participants.handlers.jobs import Position
from sagabus.participants.inbox.decision import KINDS, InboxRow, State
from sagabus.participants.received import KeptRecord, Key, ReceivedCommand, command

KEY_LOCK_SECONDS: Final = 5.0
"""A turn waits for so long for another transaction that is writing the same inbox key."""


@dataclass(frozen=True, slots=True)
class Started:
    """A command as kept in its row while an external handler is running it. headers: packed."""

    row: InboxRow
    body: bytes
    headers: bytes
    position: Position

    def read(self) -> ReceivedCommand:
        """Raises MessageInvalid."""
        return command(KeptRecord(self.body, unpack_headers(self.headers)))


@dataclass(slots=True)
class Entry:
    """Of one command: what the inbox has, and what it is going to have."""

    shard: int
    found: InboxRow | None = None
    row: InboxRow | None = None
    command: tuple[bytes, bytes] | None = None
    kept: tuple[bytes, bytes] | None = None
    """Body and headers of the command, of a row that was found `started`."""
    changed: bool = False


_COLUMNS: Final = (
    "source", "shard", "activity", "state", "reply_kind", "attempt", "id", "input_hash", "reply", "command", "headers",
    "at",
)  # fmt: skip
"""Of a new row, as `_encoded` writes it: what many rows have alike comes first."""

WRITTEN: Final = "another transaction has written some of them meanwhile"


class InboxRows:
    """What the inbox says of the commands of one transaction, and what it is going to say."""

    def __init__(self, entries: dict[Key, Entry]) -> None:
        self._entries = entries

    def row(self, key: Key) -> InboxRow | None:
        return self._entries[key].row

    def kept(self, key: Key) -> ReceivedCommand | None:
        """The command of a row that was found `started`; None if it cannot be read any more."""
        kept = self._entries[key].kept
        if kept is None:
            return None
        with suppress(MessageInvalid):
            return command(KeptRecord(kept[0], unpack_headers(kept[1])))
        return None

    def put(self, row: InboxRow, *, body: bytes = b"", headers: Headers | None = None) -> None:
        """The row from here on. With headers: it is `started`, and this is the command that would be run again."""
        entry = self._entries[row.key]
        entry.row, entry.changed = row, True
        entry.command = None if headers is None else (body, pack_headers(headers))

    def new(self) -> list[Entry]:
        """Rows to be inserted."""
        return [entry for entry in self._entries.values() if entry.changed and entry.found is None]

    def encoded(self, at: datetime) -> memoryview | None:
        """Those, for COPY; None if there are none."""
        return _encoded(new, at) if (new := self.new()) else None

    def changes(self) -> list[Entry]:
        """Rows that were there, and are to become others."""
        return [entry for entry in self._entries.values() if entry.changed and entry.found is not None]

    def check_found(self, later: InboxRows) -> None:
        """Raises DatabaseFailed if what another look has found of the same commands differs."""
        if any(entry.found != later._entries[key].found for key, entry in self._entries.items()):
            raise DatabaseFailed(f"inbox rows are not as they were found: {WRITTEN}")


class Inbox:
    """The inbox of one service. A transaction that writes there begins with `hold`, the fence."""

    def __init__(self, schema: str) -> None:
        self._schema = schema
        self._sql = _statements(schema)

    async def hold(self, connection: Connection, tenures: Collection[Tenure], keys: Mapping[Key, int]) -> InboxRows:
        """Hold the rows of these shards (S1), and read what is known of these commands (key to shard).

        Raises Fenced; TimeoutError if somebody holds a shard's row for too long.
        """
        return await self._read(connection, "inbox.hold", tenures, keys, timeout=shard_row.HOLD_LOCK_SECONDS)

    async def look(self, connection: Connection, tenures: Collection[Tenure], keys: Mapping[Key, int]) -> InboxRows:
        """The same without a lock and without a transaction. What follows is written behind a fence of its own.

        Raises Fenced.
        """
        return await self._read(connection, "inbox.look", tenures, keys)

    async def _read(
        self, connection: Connection, statement: str, tenures: Collection[Tenure], keys: Mapping[Key, int],
        *, timeout: float | None = None,
    ) -> InboxRows:  # fmt: skip
        ordered = sorted(keys)
        entries = {key: Entry(keys[key]) for key in ordered}
        mine, wanted = shard_row.hold_parameters(tenures), encode_value(ordered).decode()
        found = await connection.fetch(self._sql[statement], *mine, wanted, timeout=timeout)
        shard_row.check_held(tenures, found[0]["held"] or ())
        for record in found:
            if record["id"] is None:  # the one row that there is always, for `held`
                continue
            row = _row(record)
            entry = entries[row.key]
            entry.found = entry.row = row
            if record["headers"] is not None:
                entry.kept = record["command"] or b"", record["headers"]
        return InboxRows(entries)

    async def store(
        self, connection: Connection, rows: InboxRows, at: datetime, encoded: memoryview | None = None
    ) -> None:
        """Write what has changed. encoded: the new rows, where they were made before.

        Raises DatabaseFailed if a row is not as it was found, or was not found and is there; TimeoutError, or asyncpg's
        LockNotAvailableError, if another transaction keeps a key for too long.
        """
        if new := encoded or rows.encoded(at):
            await self._add(connection, new)
        if changes := rows.changes():
            done = await connection.execute(self._sql["inbox.store"], at, *changed_columns(changes))
            if done != f"UPDATE {len(changes)}":
                raise DatabaseFailed(f"{done} inbox rows instead of {len(changes)}: {WRITTEN}")

    async def _add(self, connection: Connection, rows: memoryview) -> None:
        """By COPY: even a single row takes a third less processor time than with an INSERT."""
        try:
            await binary_copy.copy(connection, self._schema, "inbox", _COLUMNS, rows, timeout=KEY_LOCK_SECONDS)
        except asyncpg.UniqueViolationError as error:
            raise DatabaseFailed(f"inbox rows that were not there are there: {WRITTEN}") from error

    async def started(
        self, connection: Connection, shard: int, activities: Sequence[str], after: Position, limit: int
    ) -> list[Started]:
        """Commands of these activities whose handlers are at work, or were when the shard's last owner ended.

        So many, the oldest behind `after` first.
        """
        found = await connection.fetch(self._sql["inbox.started"], shard, activities, *after, limit)
        return [
            Started(
                _row(record), record["command"] or b"", record["headers"],
                Position(record["at"], record["source"], record["id"]),
            )
            for record in found
        ]  # fmt: skip

    async def started_without(self, connection: Connection, shard: int, activities: Sequence[str]) -> dict[str, int]:
        """How many are `started` of activities that are not among these."""
        found = await connection.fetch(self._sql["inbox.started_without"], shard, activities)
        return {record["activity"]: record["rows"] for record in found}

    async def remove_old(
        self, connection: Connection, shard: int, *, before: datetime, margin: timedelta, most: int
    ) -> tuple[int, datetime | None]:
        """Delete rows whose outcome is older than that, oldest first (P5); how many, and the shard's `pruned_before`.

        That moves on behind the last of them, by the margin: its command was issued before its outcome was written,
        and by a clock that may be ahead of ours by so much. Not as far as `before`: a service that was away for long
        has few rows, and what was issued meanwhile is not to be refused.
        """
        gone, last = await connection.fetchrow(self._sql["inbox.retention"], shard, before, most) or (0, None)
        if last is None:
            return 0, None
        return gone, await shard_row.forget_before(connection, self._schema, shard, last + margin)

    @property
    def guard(self) -> str:
        """SQL: a row if this command (:source, :id) is still `started`, in a tenure that still is (:shard, :token).

        It locks the inbox row. A process that is stopped then keeps it from the next owner for a minute at most.
        """
        return self._sql["inbox.guard"]


class InboxLook:
    """What the inbox knows of the commands of one batch: read once, within its transaction or before there is one."""

    def __init__(self, inbox: Inbox, tenures: Collection[Tenure], keys: Mapping[Key, int]) -> None:
        self.keys = keys
        self.rows = InboxRows({})
        self._inbox = inbox
        self._tenures = tenures
        self._looked = False

    async def beside(self, connection: Connection) -> None:
        """Without a transaction. Raises Fenced."""
        self.rows = await self._inbox.look(connection, self._tenures, self.keys)
        self._looked = True

    async def hold(self, connection: Connection) -> None:
        """At the beginning of one. If another process has carried a command out since it was read, this batch is to be
        thrown away: what it has decided, it has decided without knowing that.

        Raises Fenced, DatabaseFailed, TimeoutError.
        """
        held = await self._inbox.hold(connection, self._tenures, self.keys)
        if self._looked:
            self.rows.check_found(held)
        else:
            self.rows = held


def _row(record: Any) -> InboxRow:
    return InboxRow(
        record["source"], record["id"], record["activity"], State(record["state"]), record["attempt"],
        record["input_hash"], record["reply"],
    )  # fmt: skip


def _encoded(entries: Iterable[Entry], at: datetime) -> memoryview:
    """New rows for COPY, in the order of _COLUMNS. asyncpg would take twice as long for them."""
    parts: list[bytes] = []
    cell, written_at = binary_copy.cell, _TIME.pack(8, microseconds(at) - _POSTGRESQL_EPOCH)
    last = binary_copy.NULL * 2 + written_at
    for entry in entries:
        if entry.row is None:
            continue
        source, id, activity, state, attempt, digest, reply = entry.row
        parts += (_alike(source, entry.shard, activity, state, attempt), cell(id.encode()), cell(digest), cell(reply))
        if entry.command is None:
            parts.append(last)
        else:
            parts += (*map(cell, entry.command), written_at)
    return binary_copy.rows(parts)


@lru_cache(maxsize=1_024)
def _alike(source: str, shard: int, activity: str, state: State, attempt: int) -> bytes:
    """The number of columns, and the first six of them."""
    kind = KINDS.get(state)
    return b"".join((
        _COUNT.pack(len(_COLUMNS)), binary_copy.text(source), _SHARD.pack(4, shard), binary_copy.text(activity),
        binary_copy.text(state), binary_copy.NULL if kind is None else binary_copy.text(kind),
        _ATTEMPT.pack(8, attempt),
    ))  # fmt: skip


_COUNT: Final = struct.Struct(">h")
_SHARD: Final = struct.Struct(">ii")
_ATTEMPT: Final = struct.Struct(">iq")
_TIME: Final = struct.Struct(">iq")
_POSTGRESQL_EPOCH: Final = microseconds(datetime(2000, 1, 1, tzinfo=UTC))
"""Where PostgreSQL begins to count."""


def changed_columns(entries: Sequence[Entry]) -> Iterator[Sequence[Any]]:
    """The arguments for CHANGED: the rows, the commands that they keep, and what they were. There must be one."""
    rows = [entry.row for entry in entries if entry.row is not None]
    found = [entry.found for entry in entries if entry.found is not None]
    yield from zip(*rows, strict=True)
    yield from zip(*(entry.command or (None, None) for entry in entries), strict=True)
    yield [row.state for row in found]
    yield [row.attempt for row in found]


CHANGED_TYPES: Final = (
    "text", "text", "text", "text", "bigint", "bytea", "bytea", "bytea", "bytea", "text", "bigint",
)  # fmt: skip
"""Of `changed_columns`."""

CHANGED: Final = f"{', '.join(InboxRow._fields)}, command, headers, old_state, old_attempt"
"""The columns of a table of `changed_columns`."""


def unnested(types: Iterable[str], *, first: int) -> str:
    """A table of so many arguments, each an array of one of these types. first: the number of the first one."""
    return f"unnest({', '.join(f'${number}::{type}[]' for number, type in enumerate(types, first))})"


_WHENS: Final = " ".join(f"WHEN '{state.value}' THEN '{kind.value}'" for state, kind in KINDS.items())

KIND: Final = f"CASE new.state {_WHENS} END"
"""SQL: the `reply_kind` of a row `new`."""


def update(schema: str, rows: str, *, at: str, only: str = "true") -> str:
    """SQL that changes rows that are as they were found. rows: a table `new` of CHANGED. only: a condition beside.

    What was read is compared, so rows need no lock while handlers run: an external handler may hold one (see `guard`).
    """
    return f"""
        UPDATE {qualified(schema, "inbox")} AS row
        SET activity = new.activity, state = new.state, attempt = new.attempt, input_hash = new.input_hash,
            reply = new.reply, reply_kind = {KIND}, command = new.command, headers = new.headers, at = {at}
        FROM {rows}
        WHERE {only} AND row.source = new.source AND row.id = new.id
            AND row.state = new.old_state AND row.attempt = new.old_attempt"""


@cache
@named_statements
def _statements(schema: str) -> dict[str, str]:
    inbox, shard = qualified(schema, "inbox"), qualified(schema, "shard")
    row = ", ".join(InboxRow._fields)
    # A subselect for each key, so that each is looked up in the index: a join that was planned while the table was
    # small would go on reading all of it. Keys come as one text: for an array asyncpg takes ten times as long.
    looked = f"""
        SELECT ours.held, row.* FROM (SELECT array_agg(shard) AS held FROM held) AS ours
        LEFT JOIN (
            json_array_elements($4::text::json) AS wanted (key)
            CROSS JOIN LATERAL (
                SELECT {row}, command, headers FROM {inbox} AS row
                WHERE row.source = wanted.key ->> 0 AND row.id = wanted.key ->> 1 LIMIT 1
            ) AS row
        ) ON true"""
    return {
        "inbox.hold": f"WITH held AS MATERIALIZED {shard_row.holding(schema)} {looked}",
        "inbox.look": f"WITH held AS MATERIALIZED {shard_row.ours(schema)} {looked}",
        "inbox.store": update(schema, f"{unnested(CHANGED_TYPES, first=2)} AS new ({CHANGED})", at="$1"),
        "inbox.started": f"""
            SELECT {row}, command, headers, at FROM {inbox}
            WHERE shard = $1 AND headers IS NOT NULL AND state = '{State.STARTED}' AND activity = ANY ($2::text[])
                AND (at, source, id) > (coalesce($3::timestamptz, '-infinity'), $4::text, $5::text)
            ORDER BY at, source, id LIMIT $6""",
        "inbox.started_without": f"""
            SELECT activity, count(*) AS rows FROM {inbox}
            WHERE shard = $1 AND headers IS NOT NULL AND state = '{State.STARTED}' AND activity <> ALL ($2::text[])
            GROUP BY activity ORDER BY activity""",
        "inbox.retention": f"""
            WITH old AS MATERIALIZED (
                SELECT source, id FROM {inbox} WHERE shard = $1 AND at < $2 AND state <> '{State.STARTED}'
                ORDER BY at LIMIT $3 FOR UPDATE SKIP LOCKED
            ), gone AS (
                DELETE FROM {inbox} AS row USING old WHERE row.source = old.source AND row.id = old.id RETURNING row.at
            )
            SELECT count(*) AS gone, max(at) AS last FROM gone""",
        "inbox.guard": f"""
            SELECT set_config('idle_in_transaction_session_timeout', '60s', true)
            FROM {inbox} AS row JOIN {shard} AS owner ON owner.shard = :shard AND owner.token = :token
            WHERE row.source = :source AND row.id = :id AND row.state = '{State.STARTED}'
            FOR NO KEY UPDATE OF row""",
    }
