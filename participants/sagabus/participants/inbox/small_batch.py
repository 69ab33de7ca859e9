"""A small batch is one statement: the shard rows move on, and all that belongs to it is written, or nothing is.

    mine, held     the rows of the turn's shards, locked, as far as they are still ours (S1)
    fence          whether all are: nothing is written otherwise
    advanced, …    the tables, each from arrays

For a batch of which no handler has asked for its transaction, and for a beat. A transaction is six statements and a
lock on the shard's row until the last of them; this is one, as the coordinator's small turn is (docs/decisions/0022).

What was read of the inbox was read before, without a lock. Whoever has written under one of these shards since then has
moved its row on: the fence. Of a command that came in two partitions the other shard's owner may have written the row.
Then the key is there, or the row is not as it was found: an error of the statement, with which all of it goes (P7).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, Final

import asyncpg

from sagabus.messaging.postgres.database import Connection
from sagabus.messaging.postgres.tables import qualified
from sagabus.messaging.publishing import outbox
from sagabus.messaging.shards import shard_row, single_statement
from sagabus.messaging.shards.single_statement import MOST_BYTES, MOST_ROWS, composed, unless_all
from sagabus.messaging.shards.turn import Turn
from sagabus.participants.handlers.database_errors import DatabaseFailed
from sagabus.participants.inbox.decision import InboxRow
from sagabus.participants.inbox.store import (
    CHANGED,
    CHANGED_TYPES,
    KIND,
    WRITTEN,
    Entry,
    InboxRows,
    changed_columns,
    unnested,
    update,
)

LOCK_TIMEOUT: Final = "2s"
"""Less than a commit may take, so that who waits in vain for a row hears that nothing was written."""

ADDED: Final = ("shard", *InboxRow._fields)
"""The columns of a new row."""

BEGUN: Final = (*ADDED, "command", "headers")
"""Of one that is `started`."""

_TYPES: Final = ("int", *CHANGED_TYPES[: len(BEGUN) - 1])

PARTS: Final[Mapping[str, Sequence[str]]] = {
    "sent": outbox.TYPES, "added": _TYPES[: len(ADDED)], "begun": _TYPES, "changed": CHANGED_TYPES,
    "deleted": outbox.DONE_TYPES,
}  # fmt: skip
"""What a small batch may write, and the types of the columns of each."""

_CHANGED: Final = "inbox.changed"

AT: Final = shard_row.ADVANCE_ARGUMENTS + 1
"""The number of the argument that says when."""


@dataclass(frozen=True, slots=True)
class SmallBatch:
    """advanced: of the shard rows. parts: by the names of PARTS, the columns of those that there is something for."""

    advanced: tuple[list[Any], ...]
    at: datetime
    parts: Mapping[str, Sequence[Sequence[Any]]]

    @classmethod
    def of(cls, turn: Turn, rows: InboxRows, at: datetime) -> SmallBatch | None:
        """None if it is not small. Raises Fenced if a tenure has ended."""
        if not turn.is_usual:
            return None
        messages = turn.sent
        new, changes = rows.new(), rows.changes()
        if max(len(messages), len(new), len(changes)) > MOST_ROWS:
            return None
        sent = [outbox.values(*one) for one in messages]
        if sum(len(record) for *_, record in sent) + sum(map(_size, (*new, *changes))) > MOST_BYTES:
            return None
        parts = {
            "sent": zip(*sent, strict=True),
            "added": zip(*(_added(entry) for entry in new if entry.command is None), strict=True),
            "begun": zip(*(_begun(entry) for entry in new if entry.command is not None), strict=True),
            "changed": changed_columns(changes) if changes else (),
            "deleted": zip(*turn.take_deletes(), strict=True),
        }
        given = {name: columns for name, part in parts.items() if (columns := [*part])}
        return cls(shard_row.advance_arguments(turn.advances()), at, given)

    async def write(self, connection: Connection, *, schema: str) -> None:
        """Raises Fenced; DatabaseFailed if a row is not as it was found, or was not found and is there. Nothing was
        written then."""
        given = [column for part, columns in self.parts.items() for column in _arguments(part, columns)]
        try:
            held = await connection.fetchval(statement(schema, tuple(self.parts)), *self.advanced, self.at, *given)
        except asyncpg.UniqueViolationError as error:
            raise DatabaseFailed(f"inbox rows that were not there are there: {WRITTEN}") from error
        except asyncpg.InvalidTextRepresentationError as error:
            if _CHANGED in str(error):
                raise DatabaseFailed(f"inbox rows are not as they were found: {WRITTEN}") from error
            raise
        shard_row.check_advanced(held, self.advanced)


def _added(entry: Entry) -> tuple[Any, ...]:
    assert entry.row is not None
    return (entry.shard, *entry.row)


def _begun(entry: Entry) -> tuple[Any, ...]:
    assert entry.command is not None
    return (*_added(entry), *entry.command)


def _size(entry: Entry) -> int:
    assert entry.row is not None
    body, headers = entry.command or (b"", b"")
    return len(entry.row.reply or b"") + len(body) + len(headers)


def _arguments(part: str, columns: Sequence[Sequence[Any]]) -> Iterator[Any]:
    """Texts go as one text: asyncpg takes over half a microsecond for each text of an array."""
    for type, column in zip(PARTS[part], columns, strict=True):
        yield text_array(column) if type == "text" else column


def text_array(texts: Iterable[str]) -> str:
    """As PostgreSQL reads an array of texts."""
    escaped = (text.replace("\\", "\\\\").replace('"', '\\"') for text in texts)
    joined = '","'.join(escaped)
    return f'{{"{joined}"}}'


def _table(types: Iterable[str], first: int) -> str:
    """Of these arguments, where texts come as one text (`text_array`). first: the number of the first one."""
    return unnested(("text::text" if type == "text" else type for type in types), first=first)


def name_of_parts(parts: tuple[str, ...]) -> str:
    """Each combination is a statement of its own."""
    return single_statement.name_of_parts("batch", parts)


@cache
def statement(schema: str, parts: tuple[str, ...]) -> str:
    """Its arguments: those of the shard rows, when it is written, the columns of each part."""
    # The moment is an argument of each of them, so that it has the same number in all.
    ctes = [shard_row.fence(schema, lock_timeout=LOCK_TIMEOUT), f"moment AS (SELECT ${AT}::timestamptz AS at)"]
    answers, first = ["fence.held"], AT + 1
    for part in parts:
        types = PARTS[part]
        ctes.append(f"{part} AS ({_part(schema, part, _table(types, first))})")
        if part == "changed":
            answers.append(unless_all(part, f"${first}::text::text[]", _CHANGED))
        first += len(types)
    return composed(name_of_parts(parts), ctes, answers)


def _part(schema: str, part: str, rows: str) -> str:
    match part:
        case "sent":
            sent = f"{rows} AS new ({', '.join(outbox.COLUMNS)}), fence"
            return f"{outbox.insertion(schema, sent)} WHERE fence.may"
        case "added" | "begun":
            columns = ", ".join(ADDED if part == "added" else BEGUN)
            return f"""
                INSERT INTO {qualified(schema, "inbox")} ({columns}, reply_kind, at)
                SELECT {columns}, {KIND}, moment.at FROM {rows} AS new ({columns}), fence, moment WHERE fence.may"""
        case "changed":
            changed = f"{rows} AS new ({CHANGED}), fence, moment"
            return f"{update(schema, changed, at='moment.at', only='fence.may')} RETURNING 1"
        case _:
            done = f"{rows} AS {outbox.DONE}, fence"
            return f"{outbox.deletion(schema, done)} AND fence.may"
