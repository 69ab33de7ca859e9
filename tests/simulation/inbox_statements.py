"""What the statements of a participant's inbox mean, and those around its handlers."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import combinations
from typing import Any, Final

import asyncpg

from sagabus.messaging.publishing import outbox
from sagabus.messaging.shards.shard_row import ADVANCE_ARGUMENTS
from sagabus.participants.inbox.decision import KINDS, InboxRow, State
from sagabus.participants.inbox.small_batch import ADDED, BEGUN, PARTS, name_of_parts
from tests.simulation.meaning import Book, Meaning, deleted
from tests.simulation.messaging_statements import held, still_ours
from tests.simulation.postgres import Row, SimulatedConnection, Table

_EPOCH_2000: Final = datetime(2000, 1, 1, tzinfo=UTC)
_STATES: Final = {state.value: kind.value for state, kind in KINDS.items()}


class InboxStatements(Book):
    """Of the services' schemas."""

    def _inbox(self, schema: str) -> None:
        rows = (schema, "inbox")
        self._mean(
            schema,
            {
                "inbox.hold": self._hold(schema),
                "inbox.look": self._look_beside(schema),
                "inbox.store": self._store_inbox(rows),
                "inbox.started": self._started(rows),
                "inbox.started_without": self._started_without(rows),
                "inbox.retention": self._prune(rows),
            },
        )
        for length in range(len(PARTS) + 1):
            for parts in combinations(PARTS, length):
                self._mean(schema, {name_of_parts(parts): self._small_batch(schema, parts)})

    def _hold(self, schema: str) -> Meaning:
        async def hold(c: SimulatedConnection, args: Sequence[Any], timeout: float | None) -> list[Row]:
            shards, tokens, turns, keys = args
            ours = await held(c, (schema, "shard"), zip(shards, tokens, turns, strict=True), timeout)
            return _known(c, schema, keys, ours)

        return hold

    def _look_beside(self, schema: str) -> Meaning:
        async def look(c: SimulatedConnection, args: Sequence[Any], timeout: float | None) -> list[Row]:
            shards, tokens, turns, keys = args
            ours = still_ours(c, (schema, "shard"), zip(shards, tokens, turns, strict=True))
            return _known(c, schema, keys, ours)

        return look

    def _small_batch(self, schema: str, parts: tuple[str, ...]) -> Meaning:
        """What the statements mean that it is put together from."""

        async def small_batch(c: SimulatedConnection, args: Sequence[Any], timeout: float | None) -> list[Row]:
            advance, at, *rest = args[:ADVANCE_ARGUMENTS], *args[ADVANCE_ARGUMENTS:]
            held = await self._fence(c, advance)
            if held == len(advance[0]):
                for part in parts:
                    await self._write_part(c, schema, part, [_read(type, rest.pop(0)) for type in PARTS[part]], at)
            return [{"held": held}]

        return small_batch

    async def _write_part(
        self, c: SimulatedConnection, schema: str, part: str, columns: list[Any], at: datetime
    ) -> None:
        match part:
            case "changed":
                if await self._do(c, "inbox.store", at, *columns) != f"UPDATE {len(columns[0])}":
                    raise asyncpg.InvalidTextRepresentationError("inbox.changed")
            case "deleted":
                await self._do(c, "outbox.delete", *columns)
            case "sent":
                rows = [dict(zip(outbox.COLUMNS, values, strict=True)) for values in zip(*columns, strict=True)]
                self.copy(c.tx, (schema, "outbox"), rows)
            case _:
                names = ADDED if part == "added" else BEGUN
                nulls = {"command": None, "headers": None}
                rows = [nulls | dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]
                added = [{**row, "reply_kind": _STATES.get(row["state"]), "at": at} for row in rows]
                self.copy(c.tx, (schema, "inbox"), added)

    def _store_inbox(self, table: Table) -> Meaning:
        async def store(c: SimulatedConnection, args: Sequence[Any], timeout: float | None) -> str:
            done = 0
            at, *columns = args
            names = (*InboxRow._fields, "command", "headers", "old_state", "old_attempt")
            for values in zip(*columns, strict=True):
                new = dict(zip(names, values, strict=True)) | {"at": at}
                old, key = (new.pop("old_state"), new.pop("old_attempt")), (new["source"], new["id"])
                await c.tx.lock(table, key)
                row = c.tx.get(table, key)
                if row is not None and (row["state"], row["attempt"]) == old:
                    c.tx.put(table, key, {**row, **new, "reply_kind": _STATES.get(new["state"])})
                    done += 1
            return f"UPDATE {done}"

        return store

    def _started(self, table: Table) -> Meaning:
        async def started(c: SimulatedConnection, args: Sequence[Any], timeout: float | None) -> list[Row]:
            shard, activities, at, source, id, limit = args
            rows = [row for row in _at_work(c, table, shard) if row["activity"] in activities]
            behind = [row for row in rows if at is None or (row["at"], row["source"], row["id"]) > (at, source, id)]
            return sorted(behind, key=lambda row: (row["at"], row["source"], row["id"]))[:limit]

        return started

    def _started_without(self, table: Table) -> Meaning:
        async def started_without(c: SimulatedConnection, args: Sequence[Any], timeout: float | None) -> list[Row]:
            shard, activities = args
            others = Counter(row["activity"] for row in _at_work(c, table, shard) if row["activity"] not in activities)
            return [{"activity": activity, "rows": rows} for activity, rows in sorted(others.items())]

        return started_without

    def _prune(self, table: Table) -> Meaning:
        async def prune(c: SimulatedConnection, args: Sequence[Any], timeout: float | None) -> list[Row]:
            shard, before, most = args
            old = [
                (key, row["at"])
                for key, row in c.tx.scan(table)
                if row["shard"] == shard and row["at"] < before and row["state"] != State.STARTED.value
            ]
            old = sorted(old, key=lambda item: item[1])[:most]
            deleted(c, table, [key for key, _ in old])
            return [{"gone": len(old), "last": max((at for _, at in old), default=None)}]

        return prune

    def _savepoints(self) -> None:
        async def begin(c: SimulatedConnection, args: Sequence[Any], timeout: float | None) -> str:
            c.savepoint()
            return "SAVEPOINT"

        async def keep(c: SimulatedConnection, args: Sequence[Any], timeout: float | None) -> str:
            c.release(undo=False)
            return "RELEASE"

        async def undo(c: SimulatedConnection, args: Sequence[Any], timeout: float | None) -> str:
            c.release(undo=True)
            return "ROLLBACK"

        async def nothing(c: SimulatedConnection, args: Sequence[Any], timeout: float | None) -> str:
            return "SET CONSTRAINTS"

        self._mean(
            "",
            {
                "handler.savepoint": begin,
                "handler.keep": keep,
                "handler.undo": undo,
                "handler.check_constraints": nothing,
                "retention.settings": nothing,
            },
        )


def _known(c: SimulatedConnection, schema: str, keys: str, ours: Any) -> list[Row]:
    """What the inbox has of these keys, JSON; with the shards that are ours in each row, one at least."""
    rows = [c.tx.get((schema, "inbox"), key) for key in map(tuple, json.loads(keys))]
    return [{"held": ours, **row} for row in rows if row is not None] or [{"held": ours, "id": None}]


def _read(type: str, column: Any) -> Any:
    """Texts come as PostgreSQL reads an array of them, which is nearly JSON."""
    return json.loads(f"[{column[1:-1]}]", strict=False) if type == "text" else column


def _at_work(c: SimulatedConnection, table: Table, shard: int) -> list[Row]:
    return [
        row
        for _, row in c.tx.scan(table)
        if row["shard"] == shard and row["headers"] is not None and row["state"] == State.STARTED.value
    ]


def inbox_row(fields: Mapping[str, bytes | None]) -> Row:
    """Of the values in a binary COPY."""
    row: dict[str, Any] = dict(fields)
    for name in ("source", "id", "activity", "state", "reply_kind"):
        row[name] = None if row[name] is None else row[name].decode()
    for name in ("shard", "attempt", "at"):
        row[name] = int.from_bytes(row[name], "big", signed=True)
    return {**row, "at": _EPOCH_2000 + timedelta(microseconds=row["at"])}
