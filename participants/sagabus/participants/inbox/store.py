"""The inbox in the database: one place for all its SQL, each statement for a whole batch.

The key of each command is inserted before its handler runs, in sorted order (P7): two transactions that carry out the
same command wait for each other here, before either has had an effect, and two that share several cannot deadlock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any, Final

from sagabus.contracts.envelope import Headers, pack_headers, unpack_headers
from sagabus.contracts.errors import MessageInvalid
from sagabus.messaging.postgres.database import Connection
from sagabus.messaging.postgres.statements import named_statements
from sagabus.messaging.postgres.tables import qualified
from sagabus.messaging.shards import shard_row
from sagabus.participants.handlers.database_errors import DatabaseFailed
from sagabus.participants.handlers.jobs import Position
from sagabus.participants.inbox.decision import KINDS, InboxRow, State
from sagabus.participants.received import KeptRecord, Key, ReceivedCommand, command

KEY_LOCK_SECONDS: Final = 5.0
"""A turn waits for so long for a lock on an inbox key."""

_CLAIMED: Final = "claimed"
"""State of a row that has only its key; never committed."""


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
class _Entry:
    shard: int
    found: InboxRow | None
    row: InboxRow | None
    command: tuple[bytes, bytes] | None = None
    kept: tuple[bytes, bytes] | None = None
    """Body and headers of the command, of a row that was found `started`."""
    changed: bool = False


class InboxRows:
    """What the inbox says of the commands of one transaction, and what it is going to say."""

    def __init__(self, entries: dict[Key, _Entry]) -> None:
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

    def changes(self) -> list[_Entry]:
        return [entry for entry in self._entries.values() if entry.changed]

    def unused(self) -> list[Key]:
        """Keys that were inserted and got no row."""
        return [key for key, entry in self._entries.items() if entry.row is None]


class Inbox:
    """The inbox of one service. All methods within a transaction that begins with the fence (`shard_row.hold`)."""

    def __init__(self, schema: str) -> None:
        self._schema = schema
        self._sql = _statements(schema)

    async def claim(self, connection: Connection, keys: Mapping[Key, int], at: datetime) -> InboxRows:
        """Insert the keys that are new (key to shard), read the rows of those that are not."""
        ordered = sorted(keys)
        sources, ids = [source for source, _ in ordered], [id for _, id in ordered]
        shards = [keys[key] for key in ordered]
        done = await connection.execute(self._sql["inbox.claim"], sources, ids, shards, at, timeout=KEY_LOCK_SECONDS)
        entries = {key: _Entry(keys[key], None, None) for key in ordered}
        if done != f"INSERT 0 {len(ordered)}":
            for record in await connection.fetch(self._sql["inbox.find"], sources, ids):
                row = _row(record)
                entry = entries[row.key]
                entry.found = entry.row = row
                if record["headers"] is not None:
                    entry.kept = record["command"] or b"", record["headers"]
        return InboxRows(entries)

    async def store(self, connection: Connection, rows: InboxRows, at: datetime) -> None:
        """Write the rows that changed. Raises DatabaseFailed if one is not as it was found."""
        if changes := rows.changes():
            done = await connection.execute(self._sql["inbox.store"], at, *_columns(changes))
            if done != f"UPDATE {len(changes)}":
                raise DatabaseFailed(f"{done} inbox rows instead of {len(changes)}: another process has changed some")
        if unused := rows.unused():
            await connection.execute(
                self._sql["inbox.drop"], [source for source, _ in unused], [id for _, id in unused]
            )

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


def _row(record: Any) -> InboxRow:
    return InboxRow(
        record["source"], record["id"], record["activity"], State(record["state"]), record["attempt"],
        record["input_hash"], record["reply"],
    )  # fmt: skip


def _columns(entries: Sequence[_Entry]) -> Iterable[Sequence[Any]]:
    """The parameters of `store`. What is the same in nearly every row is left out where it is so in all of them.

    Encoding an array costs by its elements, and `unnest` fills up a shorter one with nulls.
    """
    rows = [entry.row for entry in entries if entry.row is not None]
    found = [entry.found for entry in entries]
    commands = [entry.command or (None, None) for entry in entries]
    old = [(_CLAIMED, 0) if row is None else (row.state.value, row.attempt) for row in found] if any(found) else []
    kept = commands if any(body is not None for body, _ in commands) else []
    yield from map(list, zip(*rows, strict=True))
    yield from ([pair[place] for pair in pairs] for pairs in (old, kept) for place in (0, 1))


@cache
@named_statements
def _statements(schema: str) -> dict[str, str]:
    inbox, shard = qualified(schema, "inbox"), qualified(schema, "shard")
    row = ", ".join(InboxRow._fields)
    kinds = ", ".join(f"('{state.value}', '{kind.value}')" for state, kind in KINDS.items())
    return {
        "inbox.claim": f"""
            INSERT INTO {inbox} (source, id, shard, activity, state, attempt, at)
            SELECT source, id, shard, '', '{_CLAIMED}', 0, $4 FROM unnest($1::text[], $2::text[], $3::int[])
                AS new (source, id, shard)
            ON CONFLICT DO NOTHING""",
        "inbox.find": f"""
            SELECT {row}, command, headers
            FROM {inbox} JOIN unnest($1::text[], $2::text[]) AS wanted (source, id) USING (source, id)
            WHERE state <> '{_CLAIMED}'""",
        # What was read is compared, so rows need no lock while handlers run: an external handler may hold
        # one (see `guard`).
        "inbox.store": f"""
            UPDATE {inbox} AS row
            SET activity = new.activity, state = new.state, attempt = new.attempt, input_hash = new.input_hash,
                reply = new.reply, reply_kind = kind.reply_kind, command = new.command, headers = new.headers, at = $1
            FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::bytea[], $8::bytea[],
                        $9::text[], $10::bigint[], $11::bytea[], $12::bytea[])
                AS new ({row}, old_state, old_attempt, command, headers)
            LEFT JOIN (VALUES {kinds}) AS kind (state, reply_kind) USING (state)
            WHERE row.source = new.source AND row.id = new.id
                AND row.state = coalesce(new.old_state, '{_CLAIMED}') AND row.attempt = coalesce(new.old_attempt, 0)""",
        "inbox.drop": f"""
            DELETE FROM {inbox} AS row USING unnest($1::text[], $2::text[]) AS unused (source, id)
            WHERE row.source = unused.source AND row.id = unused.id""",
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
