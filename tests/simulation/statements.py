"""What the product's SQL statements mean, each written again in Python and found by its very text.

Not a database: the statements of `messaging`, of the coordinator's store and of the participants' inbox, and no others.
A statement that is not known here stops the run: whoever adds one to the product adds its meaning here. The SQL itself
is tested on a real PostgreSQL; here the code around it is.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from sagabus.coordinator.core.status import CLOSED
from sagabus.coordinator.store import read, write
from sagabus.coordinator.store.columns import CHANGED, EARLY, EARLY_KEY, HISTORY, SAGA, STARTED, TIMER, TIMER_KEY
from sagabus.messaging import fence, outbox, retention, taking
from sagabus.participants import handling, inbox
from sagabus.participants.verdict import KINDS, State
from sagabus.participants.verdict import Row as InboxRow
from tests.simulation.postgres import (
    Key,
    Row,
    SimulatedConnection,
    SimulatedTransaction,
    Statements,
    Table,
)

Meaning = Callable[[SimulatedConnection, Sequence[Any], float | None], Awaitable[str | list[Row]]]

_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "shard": ("shard",),
    "outbox": ("shard", "position"),
    "outbox_parked": ("shard", "position"),
    "inbox": ("source", "id"),
    "saga": ("id", "run"),
    "history": ("id", "run", "seq"),
    "timer": ("shard", "id", "run", "kind", "number"),
    "early_request": ("shard", "saga_id", "number"),
    "started_id": ("id",),
}
_CLOSED: Final = frozenset(status.value for status in CLOSED)
_EPOCH_2000: Final = 946_684_800_000_000
_STATES: Final = {state.value: kind.value for state, kind in KINDS.items()}


class UnknownStatement(AssertionError):
    """Teach `tests.simulation.statements` what it means."""


class Known(Statements):
    """Of the coordinator's schema and of these services' schemas. now: the server's clock, seconds since 1970."""

    def __init__(self, namespace: str, services: Iterable[str], now: Callable[[], float]) -> None:
        self._now = now
        self._all: dict[str, Meaning] = {}
        for schema in (namespace, *services):
            self._messaging(schema)
        for service in services:
            self._inbox(service)
        self._store(namespace)
        self._savepoints()

    async def run(
        self, connection: SimulatedConnection, sql: str, args: Sequence[Any], timeout: float | None
    ) -> str | list[Row]:
        meaning = self._all.get(sql)
        if meaning is None:
            raise UnknownStatement(f"the simulation does not know what this statement means: {sql}")
        return await meaning(connection, args, timeout)

    def copy(self, tx: SimulatedTransaction, table: Table, rows: Sequence[Row]) -> None:
        for row in rows:
            if table[1] == "dead_letter":
                row = {**row, "id": tx.server.number()}
            tx.insert(table, _key(table[1], row), row)

    def copy_binary(self, tx: SimulatedTransaction, table: Table, columns: Sequence[str], source: memoryview) -> None:
        assert table[1] == "history"
        for fields in _binary_rows(bytes(source)):
            row = _history_row(dict(zip(columns, fields, strict=True)))
            tx.insert(table, _key("history", row), row)

    # messaging

    def _messaging(self, schema: str) -> None:
        shard, out, parked = (schema, "shard"), (schema, "outbox"), (schema, "outbox_parked")
        texts = outbox._statements(schema)
        take = taking._statements(schema)
        self._all |= {
            fence._statement(schema): self._advance(shard),
            texts["unpublished"]: self._unpublished(out),
            texts["delete"]: self._delete_published(out),
            texts["park"]: self._park(out, parked),
            texts["parked_sagas"]: self._parked_sagas(parked),
            texts["released"]: self._released(parked),
            texts["unpark"]: self._unpark(parked),
            take.add: self._add_shard(shard),
            take.look: self._look(shard, lock=False),
            f"{take.look} FOR NO KEY UPDATE": self._look(shard, lock=True),
            take.take: self._take(shard),
            take.end: self._end_holder(shard),
            take.partitions: self._partitions(shard),
            f"SET LOCAL lock_timeout = {taking.LOCK_TIMEOUT}": self._lock_timeout(taking.LOCK_TIMEOUT / 1000),
        }

    def _advance(self, table: Table) -> Meaning:
        async def advance(c: SimulatedConnection, args: Sequence[Any], timeout: float | None) -> str:
            done = 0
            for shard, token, turn, next_position, relay_position, topics in zip(*args, strict=True):
                await c.tx.lock(table, (shard,))
                row = c.tx.get(table, (shard,))
                if row is not None and row["token"] == token and row["turn"] == turn:
                    moved = {
                        "turn": turn + 1, "next_position": next_position, "relay_position": relay_position,
                        "topics": json.loads(topics), "beat_at": self._now(),
                    }  # fmt: skip
                    c.tx.put(table, (shard,), {**row, **moved})
                    done += 1
            return f"UPDATE {done}"

        return advance

    def _unpublished(self, table: Table) -> Meaning:
        async def unpublished(c: SimulatedConnection, args: Sequence[Any], timeout: float | None) -> list[Row]:
            shard, after = args
            rows = [row for _, row in c.tx.scan(table) if row["shard"] == shard and row["position"] > after]
            return sorted(rows, key=lambda row: int(row["position"]))

        return unpublished

    def _delete_published(self, table: Table) -> Meaning:
        async def delete(c: SimulatedConnection, args: Sequence[Any], timeout: float | None) -> str:
            done = dict(zip(*args, strict=True))
            gone = [key for key, row in c.tx.scan(table) if row["position"] <= done.get(row["shard"], -1)]
            return _deleted(c, table, gone)

        return delete

    def _park(self, table: Table, parked: Table) -> Meaning:
        async def park(c: SimulatedConnection, args: Sequence[Any], timeout: float | None) -> str:
            shard, *first = args
            starts = {saga: (position, reason) for saga, position, reason in zip(*first, strict=True)}
            found = [
                (key, row)
                for key, row in c.tx.scan(table)
                if row["shard"] == shard and row["position"] >= starts.get(row["saga_id"], (row["position"] + 1,))[0]
            ]
            for key, row in found:
                c.tx.put(table, key, None)
                c.tx.insert(
                    parked,
                    key,
                    {**row, "reason": starts[row["saga_id"]][1], "released_at": None, "release_reason": None},
                )
            return f"INSERT 0 {len(found)}"

        return park

    def _parked_sagas(self, table: Table) -> Meaning:
        async def parked(c: SimulatedConnection, args: Sequence[Any], timeout: float | None) -> list[Row]:
            return [
                {"saga_id": one} for one in sorted({r["saga_id"] for _, r in c.tx.scan(table) if r["shard"] == args[0]})
            ]

        return parked

    def _released(self, table: Table) -> Meaning:
        async def released(c: SimulatedConnection, args: Sequence[Any], timeout: float | None) -> list[Row]:
            shards, most = args
            words: dict[tuple[int, str], str] = {}
            for (shard, _), row in sorted(c.tx.scan(table)):
                if shard in shards and row["released_at"] is not None and len(words) < most:
                    words[shard, row["saga_id"]] = row["release_reason"] or ""
            rows = [
                {**row, "word": words[row["shard"], row["saga_id"]]}
                for _, row in c.tx.scan(table)
                if (row["shard"], row["saga_id"]) in words
            ]
            return sorted(rows, key=lambda row: (int(row["shard"]), int(row["position"])))

        return released

    def _unpark(self, table: Table) -> Meaning:
        async def unpark(c: SimulatedConnection, args: Sequence[Any], timeout: float | None) -> str:
            shard, positions = args
            return _deleted(c, table, [(shard, position) for position in positions])

        return unpark

    def _add_shard(self, table: Table) -> Meaning:
        async def add(c: SimulatedConnection, args: Sequence[Any], timeout: float | None) -> str:
            shard, token, cluster, generation, partitions = args
            await c.tx.lock(table, (shard,))
            if c.tx.get(table, (shard,)) is not None:
                return "INSERT 0 0"
            c.tx.insert(table, (shard,), {
                "shard": shard, "token": token, "turn": 0, "cluster": cluster, "generation": generation,
                "partitions": partitions, "topics": {}, "next_position": 1, "relay_position": 0, "pruned_before": None,
                "beat_at": self._now(),
            })  # fmt: skip
            return "INSERT 0 1"

        return add

    def _look(self, table: Table, *, lock: bool) -> Meaning:
        async def look(c: SimulatedConnection, args: Sequence[Any], timeout: float | None) -> list[Row]:
            if lock:
                await c.tx.lock(table, (args[0],))
            row = c.tx.get(table, (args[0],))
            if row is None:
                return []
            return [{**row, "places": json.dumps(row["topics"]), "still": self._now() - row["beat_at"]}]

        return look

    def _take(self, table: Table) -> Meaning:
        async def take(c: SimulatedConnection, args: Sequence[Any], timeout: float | None) -> list[Row]:
            shard, token, cluster, generation = args
            row = c.tx.get(table, (shard,))
            assert row is not None
            turn = row["turn"] + 1
            taken = {"token": token, "turn": turn, "cluster": cluster, "generation": generation, "beat_at": self._now()}
            c.tx.put(table, (shard,), {**row, **taken})
            return [{"turn": turn}]

        return take

    def _end_holder(self, table: Table) -> Meaning:
        async def end(c: SimulatedConnection, args: Sequence[Any], timeout: float | None) -> str:
            holder = c.tx.server.locks.get((table, (args[0],)))
            if holder is not None and holder is not c.tx:
                holder.end()
            return "SELECT 1"

        return end

    def _partitions(self, table: Table) -> Meaning:
        async def partitions(c: SimulatedConnection, args: Sequence[Any], timeout: float | None) -> list[Row]:
            rows: list[Row] = [{"partitions": row["partitions"]} for _, row in c.tx.scan(table)]
            return rows[:1]

        return partitions

    def _lock_timeout(self, seconds: float) -> Meaning:
        async def lock_timeout(c: SimulatedConnection, args: Sequence[Any], timeout: float | None) -> str:
            c.tx.lock_timeout = seconds
            return "SET"

        return lock_timeout

    # participants

    def _inbox(self, schema: str) -> None:
        rows, shard = (schema, "inbox"), (schema, "shard")
        texts = inbox._statements(schema)
        self._all |= {
            texts["hold"]: self._hold(shard),
            texts["claim"]: self._claim(rows),
            texts["find"]: self._find(rows),
            texts["store"]: self._store_inbox(rows),
            texts["drop"]: self._drop(rows),
            texts["started"]: self._started(rows),
            texts["prune"]: self._prune(rows, shard),
        }

    def _hold(self, table: Table) -> Meaning:
        async def hold(c: SimulatedConnection, args: Sequence[Any], timeout: float | None) -> list[Row]:
            held: list[Row] = []
            for shard, token, turn in sorted(zip(*args, strict=True), key=lambda mine: int(mine[0])):
                if not _is(c.tx.get(table, (shard,)), token, turn):
                    continue
                await c.tx.lock(table, (shard,), timeout=timeout)
                if _is(c.tx.get(table, (shard,)), token, turn):
                    held.append({"shard": shard})
            return held

        return hold

    def _claim(self, table: Table) -> Meaning:
        async def claim(c: SimulatedConnection, args: Sequence[Any], timeout: float | None) -> str:
            sources, ids, shards, at = args
            made = 0
            for source, id, shard in zip(sources, ids, shards, strict=True):
                if c.tx.get(table, (source, id)) is not None:
                    continue
                await c.tx.lock(table, (source, id), timeout=timeout)
                if c.tx.get(table, (source, id)) is None:
                    c.tx.insert(table, (source, id), {
                        "source": source, "id": id, "activity": "", "state": inbox._CLAIMED, "attempt": 0,
                        "input_hash": None, "reply": None, "shard": shard, "at": at, "command": None, "headers": None,
                    })  # fmt: skip
                    made += 1
            return f"INSERT 0 {made}"

        return claim

    def _find(self, table: Table) -> Meaning:
        async def find(c: SimulatedConnection, args: Sequence[Any], timeout: float | None) -> list[Row]:
            rows = [c.tx.get(table, key) for key in zip(*args, strict=True)]
            return [row for row in rows if row is not None and row["state"] != inbox._CLAIMED]

        return find

    def _store_inbox(self, table: Table) -> Meaning:
        async def store(c: SimulatedConnection, args: Sequence[Any], timeout: float | None) -> str:
            at, *columns = args
            names = (*InboxRow._fields, "old_state", "old_attempt", "command", "headers")
            done = 0
            for number in range(len(columns[0])):
                new = {name: _at(column, number) for name, column in zip(names, columns, strict=True)}
                old_state, old_attempt = new.pop("old_state") or inbox._CLAIMED, new.pop("old_attempt") or 0
                key = (new["source"], new["id"])
                await c.tx.lock(table, key)
                row = c.tx.get(table, key)
                if row is not None and (row["state"], row["attempt"]) == (old_state, old_attempt):
                    kind = _STATES.get(new["state"])
                    c.tx.put(table, key, {**row, **new, "reply_kind": kind, "at": at})
                    done += 1
            return f"UPDATE {done}"

        return store

    def _drop(self, table: Table) -> Meaning:
        async def drop(c: SimulatedConnection, args: Sequence[Any], timeout: float | None) -> str:
            return _deleted(c, table, list(zip(*args, strict=True)))

        return drop

    def _started(self, table: Table) -> Meaning:
        async def started(c: SimulatedConnection, args: Sequence[Any], timeout: float | None) -> list[Row]:
            rows = [
                row
                for _, row in c.tx.scan(table)
                if row["shard"] == args[0] and row["headers"] is not None and row["state"] == State.STARTED.value
            ]
            return sorted(rows, key=lambda row: (row["at"], row["source"], row["id"]))

        return started

    def _prune(self, table: Table, shards: Table) -> Meaning:
        async def prune(c: SimulatedConnection, args: Sequence[Any], timeout: float | None) -> list[Row]:
            shard, before, margin, most = args
            old = [
                (key, row["at"])
                for key, row in c.tx.scan(table)
                if row["shard"] == shard and row["at"] < before and row["state"] != State.STARTED.value
            ]
            old = sorted(old, key=lambda item: item[1])[:most]
            _deleted(c, table, [key for key, _ in old])
            owner = c.tx.get(shards, (shard,))
            assert owner is not None
            known = [owner["pruned_before"]] if owner["pruned_before"] is not None else []
            last = max([*known, *(at + margin for _, at in old)], default=None)
            c.tx.put(shards, (shard,), {**owner, "pruned_before": last})
            return [{"gone": len(old), "pruned_before": last}]

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

        self._all |= {
            handling._SAVEPOINT: begin,
            handling._KEEP: keep,
            handling._UNDO: undo,
            "SET CONSTRAINTS ALL IMMEDIATE": nothing,
            retention._LOCAL: nothing,
        }

    # the coordinator's store

    def _store(self, schema: str) -> None:
        names = ("saga", "history", "timer", "early_request", "started_id")
        saga, history, timer, early, started = ((schema, name) for name in names)
        texts = write._statements(schema)
        self._all |= {
            texts["created"]: self._created(saga),
            texts["changed"]: self._changed(saga),
            texts["timers_set"]: self._upsert(timer, list(TIMER)),
            texts["timers_cleared"]: self._delete(timer, list(TIMER_KEY)),
            texts["early_added"]: self._upsert(early, list(EARLY)),
            texts["early_removed"]: self._delete(early, list(EARLY_KEY)),
            texts["started_ids"]: self._upsert(started, list(STARTED)),
        }
        texts = read._statements(schema)
        self._all |= {
            texts["sagas"]: self._sagas(saga),
            texts["runs"]: self._runs(saga),
            texts["open_sagas"]: self._open_sagas(saga),
            texts["blocked_ids"]: self._blocked_ids(saga),
            texts["histories"]: self._histories(history),
            texts["timers"]: self._rows(timer, list(TIMER), ("due", "number", "id", "run", "kind")),
            texts["early"]: self._rows(early, list(EARLY), ("number", "saga_id")),
            texts["started_ids"]: self._started_ids(started),
        }

    def _created(self, table: Table) -> Meaning:
        async def created(c: SimulatedConnection, args: Sequence[Any], timeout: float | None) -> list[Row]:
            made: list[Row] = []
            for values in zip(*args, strict=True):
                row = dict(zip(SAGA, values, strict=True))
                key = (row["id"], row["run"])
                taken = any(r["id"] == row["id"] and r["status"] not in _CLOSED for _, r in c.tx.scan(table))
                open_twice = taken and row["status"] not in _CLOSED
                if c.tx.get(table, key) is None and not open_twice:
                    c.tx.insert(table, key, row)
                    made.append({"id": row["id"], "run": row["run"]})
            return made

        return created

    def _changed(self, table: Table) -> Meaning:
        async def changed(c: SimulatedConnection, args: Sequence[Any], timeout: float | None) -> str:
            done = 0
            for values in zip(*args, strict=True):
                new = dict(zip(CHANGED, values, strict=True))
                key = (new["id"], new["run"])
                row = c.tx.get(table, key)
                if row is not None:
                    c.tx.put(table, key, {**row, **new})
                    done += 1
            return f"UPDATE {done}"

        return changed

    def _upsert(self, table: Table, columns: list[str]) -> Meaning:
        async def upsert(c: SimulatedConnection, args: Sequence[Any], timeout: float | None) -> str:
            for values in zip(*args, strict=True):
                row = dict(zip(columns, values, strict=True))
                c.tx.put(table, _key(table[1], row), row)
            return f"INSERT 0 {len(args[0])}"

        return upsert

    def _delete(self, table: Table, columns: list[str]) -> Meaning:
        async def delete(c: SimulatedConnection, args: Sequence[Any], timeout: float | None) -> str:
            rows = [dict(zip(columns, values, strict=True)) for values in zip(*args, strict=True)]
            return _deleted(c, table, [_key(table[1], row) for row in rows])

        return delete

    def _sagas(self, table: Table) -> Meaning:
        async def sagas(c: SimulatedConnection, args: Sequence[Any], timeout: float | None) -> list[Row]:
            wanted = set(args[0])
            best: dict[str, Row] = {}
            for _, row in sorted(c.tx.scan(table), key=lambda item: _newest(item[1])):
                if row["id"] in wanted:
                    best.setdefault(row["id"], row)
            return [_only(best[id], SAGA) for id in sorted(best)]

        return sagas

    def _runs(self, table: Table) -> Meaning:
        async def runs(c: SimulatedConnection, args: Sequence[Any], timeout: float | None) -> list[Row]:
            rows = [c.tx.get(table, key) for key in zip(*args, strict=True)]
            return [_only(row, SAGA) for row in rows if row is not None]

        return runs

    def _open_sagas(self, table: Table) -> Meaning:
        async def open_sagas(c: SimulatedConnection, args: Sequence[Any], timeout: float | None) -> list[Row]:
            shard, after, limit = args
            rows = [
                _only(row, SAGA)
                for _, row in c.tx.scan(table)
                if row["shard"] == shard and row["status"] not in _CLOSED and row["id"] > after
            ]
            return sorted(rows, key=lambda row: str(row["id"]))[:limit]

        return open_sagas

    def _blocked_ids(self, table: Table) -> Meaning:
        async def blocked(c: SimulatedConnection, args: Sequence[Any], timeout: float | None) -> list[Row]:
            return [
                {"id": row["id"]}
                for _, row in c.tx.scan(table)
                if row["shard"] == args[0]
                and row["attention"] is not None
                and row["decided"] is not None
                and row["status"] not in _CLOSED
            ]

        return blocked

    def _histories(self, table: Table) -> Meaning:
        async def histories(c: SimulatedConnection, args: Sequence[Any], timeout: float | None) -> list[Row]:
            places = {key: place for place, key in enumerate(zip(*args, strict=True), 1)}
            found: list[Row] = []
            for (id, run, _), row in c.tx.scan(table):
                place = places.get((id, run))
                if place is not None:
                    found.append({"place": place, **_only(row, HISTORY)})
            return sorted(found, key=lambda row: (row["place"], row["seq"]))

        return histories

    def _rows(self, table: Table, columns: list[str], order: tuple[str, ...]) -> Meaning:
        async def rows(c: SimulatedConnection, args: Sequence[Any], timeout: float | None) -> list[Row]:
            found = [_only(row, columns) for _, row in c.tx.scan(table) if row["shard"] == args[0]]
            return sorted(found, key=lambda row: tuple(row[name] for name in order))

        return rows

    def _started_ids(self, table: Table) -> Meaning:
        async def started(c: SimulatedConnection, args: Sequence[Any], timeout: float | None) -> list[Row]:
            rows = [c.tx.get(table, (id,)) for id in args[0]]
            return [_only(row, STARTED) for row in rows if row is not None]

        return started


def _key(table: str, row: Row) -> Key:
    return tuple(row[name] for name in _KEYS.get(table, ("id",)))


def _only(row: Row, columns: Iterable[str]) -> Row:
    return {name: row[name] for name in columns}


def _deleted(c: SimulatedConnection, table: Table, keys: Sequence[Key]) -> str:
    there = [key for key in keys if c.tx.get(table, key) is not None]
    for key in there:
        c.tx.put(table, key, None)
    return f"DELETE {len(there)}"


def _at(column: Sequence[Any], number: int) -> Any:
    """`unnest` fills up a shorter array with nulls."""
    return column[number] if number < len(column) else None


def _is(row: Row | None, token: UUID, turn: int) -> bool:
    return row is not None and row["token"] == token and row["turn"] == turn


def _newest(row: Row) -> tuple[Any, ...]:
    """The open run first, then the one that started last; of two the one that did not go on as another."""
    return row["id"], row["status"] in _CLOSED, -row["started_at"], row["status"] == "continued"


def _binary_rows(data: bytes) -> Iterable[list[bytes | None]]:
    at = 19  # signature, flags, length of the header's extension
    while (count := struct.unpack_from(">h", data, at)[0]) != -1:
        at += 2
        fields: list[bytes | None] = []
        for _ in range(count):
            (length,) = struct.unpack_from(">i", data, at)
            at += 4
            fields.append(None if length == -1 else data[at : at + length])
            at += max(length, 0)
        yield fields


def _history_row(fields: Mapping[str, bytes | None]) -> Row:
    row: dict[str, Any] = dict(fields)
    for name in ("id", "run", "kind", "name", "ref"):
        row[name] = row[name].decode()
    for name in ("seq", "at", "step", "attempt", "sequence"):
        row[name] = int.from_bytes(row[name], "big", signed=True)
    row["at"] += _EPOCH_2000
    return row
