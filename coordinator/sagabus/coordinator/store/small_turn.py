"""A small turn is one statement: the shard rows move on, and all that it writes is written, or nothing is.

    mine, held     the rows of the turn's shards, locked, as far as they are still ours (S1)
    fence          whether all are, and no saga is known that was presumed new (H2): nothing is written otherwise
    advanced, …    the tables, each from arrays

A transaction of six statements is eight round trips, and the shard's row is locked until the last. This is one, and
locks nothing while the network is waited for. It is for turns that write little, and nothing rare: a row costs more in
arrays than in a COPY.

What was never begun cannot be given up. So what may happen writes nothing and is told: a lost shard, a start that is
known. What must not, a saga whose row is gone, is an error of the statement, with which all of it goes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import asyncpg

from sagabus.contracts.names import SagaId
from sagabus.coordinator.store.columns import CHANGED, CHANGES, HISTORY, SAGA, TIMER, TIMER_KEY
from sagabus.coordinator.store.wire import (
    TEXT,
    WORDS,
    Arguments,
    Columns,
    Wire,
    arguments,
    assigned,
    quoted,
    unnest,
    written,
)
from sagabus.coordinator.store.write import SagaExists, SagaMissing, Writes, keys_of, known
from sagabus.messaging.postgres.database import Connection
from sagabus.messaging.postgres.tables import qualified
from sagabus.messaging.publishing import outbox
from sagabus.messaging.shards import shard_row, single_statement
from sagabus.messaging.shards.single_statement import MOST_BYTES, MOST_ROWS, composed, unless_all
from sagabus.messaging.shards.turn import Turn

_ROW: Final[Columns] = {"id": TEXT, "run": TEXT, **HISTORY, "name": WORDS, "ref": WORDS}
_SENT: Final[Columns] = {name: Wire(type) for name, type in zip(outbox.COLUMNS, outbox.TYPES, strict=True)}
PARTS: Final[Mapping[str, Columns]] = {
    "sent": _SENT, "changed": CHANGED, "created": SAGA, "told": _ROW, "set": TIMER, "cleared": TIMER_KEY,
}  # fmt: skip
"""What a small turn may write, and the columns of each."""

_MISSING: Final = "saga.missing"
_EXISTS: Final = "saga.exists"


@dataclass(frozen=True, slots=True)
class SmallTurn:
    """advanced: of the shard rows. parts: by the names of PARTS, those that there is something for."""

    advanced: tuple[list[Any], ...]
    parts: dict[str, Arguments]
    presumed_new: list[SagaId]

    @classmethod
    def of(cls, turn: Turn, writes: Writes) -> SmallTurn | None:
        """None if it is not small. Raises Fenced if a tenure has ended."""
        messages = turn.sent
        tables = (messages, writes.history, writes.changed_sagas, writes.new_sagas, writes.timers)
        if any(len(rows) > MOST_ROWS for rows in tables) or not (turn.sends_only and writes.is_usual):
            return None
        sent = [outbox.values(*one) for one in messages]
        if writes.history.size + sum(len(record) for *_, record in sent) > MOST_BYTES:
            return None
        parts = {
            "sent": arguments(_SENT, sent) if sent else None,
            "changed": writes.changed(),
            "created": writes.created(),
            "told": arguments(_ROW, writes.history.values()) if len(writes.history) else None,
            "set": writes.timers_set(),
            "cleared": writes.timers_cleared(),
        }
        advanced = shard_row.advance_arguments(turn.advances())
        there = {name: given for name, given in parts.items() if given is not None}
        return cls(advanced, there, [*writes.presumed_new] if "created" in there else [])

    async def write(self, connection: Connection, *, schema: str) -> None:
        """Raises Fenced, SagaExists or SagaMissing: nothing was written then."""
        parts = self.parts
        given = [column for columns in parts.values() for column in columns]
        try:
            row = await connection.fetchrow(statement(schema, tuple(parts)), *self.advanced, self.presumed_new, *given)
        except asyncpg.InvalidTextRepresentationError as error:
            if _MISSING in str(error):
                raise SagaMissing(f"a saga is not there any more; read it again: {error}") from error
            if _EXISTS in str(error):
                raise SagaExists(keys_of(parts["created"])) from error
            raise
        assert row is not None
        shard_row.check_advanced(row["held"], self.advanced)
        if row["known"]:
            raise SagaExists(keys_of(parts["created"]))


def name_of_parts(parts: tuple[str, ...]) -> str:
    """Each combination is a statement of its own."""
    return single_statement.name_of_parts("turn", parts)


@cache
def statement(schema: str, parts: tuple[str, ...]) -> str:
    """Its arguments: those of the shard rows, ids that are presumed new, the columns of each part."""
    made = _parts(schema)
    first = shard_row.ADVANCE_ARGUMENTS + 1
    ctes, checks, at = [shard_row.fence(schema, unless=known(schema, f"${first}"))], ["0"], first + 1
    for part in parts:
        columns = PARTS[part]
        ctes.append(f"{part} AS ({made[part].format(rows=unnest(columns, first=at))})")
        word = {"changed": _MISSING, "created": _EXISTS}.get(part)
        if word is not None:
            checks.append(unless_all(part, f"${at}::text[]", word))
        at += len(columns)
    return composed(name_of_parts(parts), ctes, ("fence.held", "fence.known", *checks))


@cache
def _parts(schema: str) -> dict[str, str]:
    saga, history, timer = (qualified(schema, name) for name in ("saga", "history", "timer"))
    same = " AND ".join(f'row."{name}" = new."{name}"' for name in TIMER_KEY)
    return {
        "sent": f"{outbox.insertion(schema, '{rows}, fence')} WHERE fence.may",
        "changed": f"""
            UPDATE {saga} AS row SET {assigned(CHANGES)} FROM {{rows}}, fence
            WHERE fence.may AND row.id = new.id AND row.run = new.run RETURNING 1""",
        "created": f"""
            INSERT INTO {saga} ({quoted(SAGA)}) SELECT {written(SAGA)} FROM {{rows}}, fence WHERE fence.may
            ON CONFLICT DO NOTHING RETURNING 1""",
        "told": f"""
            INSERT INTO {history} ({quoted(_ROW)}) SELECT {written(_ROW)} FROM {{rows}}, fence WHERE fence.may""",
        "set": f"""
            INSERT INTO {timer} ({quoted(TIMER)}) SELECT {written(TIMER)} FROM {{rows}}, fence WHERE fence.may
            ON CONFLICT ({quoted(TIMER_KEY)}) DO UPDATE SET due = excluded.due""",
        "cleared": f"DELETE FROM {timer} AS row USING {{rows}}, fence WHERE fence.may AND {same}",
    }
