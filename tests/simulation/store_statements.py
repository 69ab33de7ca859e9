"""What the statements of the coordinator's store mean: sagas, histories, timers, early requests, started ids."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any, Final

import asyncpg

from sagabus.coordinator.core.saga.status import CLOSED
from sagabus.coordinator.store.columns import CHANGED, EARLY, EARLY_KEY, HISTORY, SAGA, STARTED, TIMER, TIMER_KEY
from sagabus.coordinator.store.open_page import FINAL, HARMLESS, ROWS_LOOKED_AT
from sagabus.coordinator.store.small_turn import PARTS, name_of_parts
from sagabus.messaging.shards.shard_row import ADVANCE_ARGUMENTS
from tests.simulation.meaning import Book, Meaning, deleted, key_of, only
from tests.simulation.postgres import Key, Row, SimulatedConnection, Table

_CLOSED: Final = frozenset(status.value for status in CLOSED)
_EPOCH_2000: Final = 946_684_800_000_000


class StoreStatements(Book):
    """Of the namespace's schema. A small turn means what the statements mean that it is put together from."""

    def _store(self, schema: str) -> None:
        names = ("saga", "history", "timer", "early_request", "started_id")
        saga, history, timer, early, started = ((schema, name) for name in names)
        self._mean(
            schema,
            {
                "saga.create": self._created(saga, started),
                "saga.change": self._changed(saga),
                "saga.load": self._sagas(saga),
                "saga.runs": self._runs(saga),
                "saga.open_page": self._open_page(saga, history, timer),
                "saga.blocked_ids": self._blocked_ids(saga),
                "history.load": self._histories(history),
                "history.steps": self._history_steps(history),
                "timer.set": self._upsert(timer, list(TIMER)),
                "timer.clear": self._delete(timer, list(TIMER_KEY)),
                "timer.drop": self._drop_timers(timer),
                "history.page": self._history_page(history),
                "timer.page": self._timer_page(timer),
                "early_request.add": self._upsert(early, list(EARLY)),
                "early_request.remove": self._delete(early, list(EARLY_KEY)),
                "early_request.counts": self._early_counts(early, saga),
                "early_request.load": self._early(early),
                "shard_owner.keep": self._keep_owner((schema, "shard_owner"), (schema, "shard")),
                "shard_owner.end_loss": self._end_loss((schema, "shard_owner")),
                "started_id.keep": self._upsert(started, list(STARTED)),
                "started_id.load": self._started_ids(started),
            },
        )

        for length in range(len(PARTS) + 1):
            for parts in combinations(PARTS, length):
                self._mean(schema, {name_of_parts(parts): self._small_turn(schema, parts)})

    def _small_turn(self, schema: str, parts: tuple[str, ...]) -> Meaning:
        async def small_turn(c: SimulatedConnection, args: Sequence[Any], timeout: float | None) -> list[Row]:
            mark = c.tx.mark()
            advance, presumed, *rest = args[:ADVANCE_ARGUMENTS], *args[ADVANCE_ARGUMENTS:]
            held = await self._fence(c, advance)
            if held != len(advance[0]):
                return [_row(held=held, known=False)]
            for part in parts:
                columns = [rest.pop(0) for _ in PARTS[part]]
                if not await self._do_part(c, schema, part, columns, presumed):
                    c.tx.back_to(mark)
                    return [_row(held=held, known=True)]
            return [_row(held=held, known=False)]

        return small_turn

    async def _do_part(
        self, c: SimulatedConnection, schema: str, part: str, columns: list[Any], presumed: Sequence[str]
    ) -> bool:
        """Whether no saga is known that was presumed new. Raises what the statement raises."""
        match part:
            case "created":
                made = await self._do(c, "saga.create", *columns, presumed)
                if len(made) != len(columns[0]) and not presumed:
                    raise asyncpg.InvalidTextRepresentationError("saga.exists")
                return len(made) == len(columns[0])
            case "changed":
                if await self._do(c, "saga.change", *columns) != f"UPDATE {len(columns[0])}":
                    raise asyncpg.InvalidTextRepresentationError("saga.missing")
            case "set" | "cleared":
                await self._do(c, "timer.set" if part == "set" else "timer.clear", *columns)
            case _:
                rows = (dict(zip(PARTS[part], values, strict=True)) for values in zip(*columns, strict=True))
                self.copy(c.tx, (schema, "outbox" if part == "sent" else "history"), [*rows])
        return True

    def _created(self, table: Table, started: Table) -> Meaning:
        async def created(c: SimulatedConnection, args: Sequence[Any], timeout: float | None) -> list[Row]:
            made: list[Row] = []
            *columns, presumed = args
            known = {id for (id, _), _ in c.tx.scan(table)} if presumed else set()
            if any(id in known or c.tx.get(started, (id,)) is not None for id in presumed):
                return made
            for values in zip(*columns, strict=True):
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
                c.tx.put(table, key_of(table[1], row), row)
            return f"INSERT 0 {len(args[0])}"

        return upsert

    def _delete(self, table: Table, columns: list[str]) -> Meaning:
        async def delete(c: SimulatedConnection, args: Sequence[Any], timeout: float | None) -> str:
            rows = [dict(zip(columns, values, strict=True)) for values in zip(*args, strict=True)]
            return deleted(c, table, [key_of(table[1], row) for row in rows])

        return delete

    def _drop_timers(self, table: Table) -> Meaning:
        async def drop(c: SimulatedConnection, args: Sequence[Any], timeout: float | None) -> str:
            sagas = set(zip(*args, strict=True))
            return deleted(c, table, [key for key, _ in c.tx.scan(table) if key[:3] in sagas])

        return drop

    def _sagas(self, table: Table) -> Meaning:
        async def sagas(c: SimulatedConnection, args: Sequence[Any], timeout: float | None) -> list[Row]:
            wanted = set(args[0])
            best: dict[str, Row] = {}
            for _, row in sorted(c.tx.scan(table), key=lambda item: _newest(item[1])):
                if row["id"] in wanted:
                    best.setdefault(row["id"], row)
            return [only(best[id], SAGA) for id in sorted(best)]

        return sagas

    def _runs(self, table: Table) -> Meaning:
        async def runs(c: SimulatedConnection, args: Sequence[Any], timeout: float | None) -> list[Row]:
            rows = [c.tx.get(table, key) for key in zip(*args, strict=True)]
            return [only(row, SAGA) for row in rows if row is not None]

        return runs

    def _open_page(self, table: Table, history: Table, timer: Table) -> Meaning:
        async def open_page(c: SimulatedConnection, args: Sequence[Any], timeout: float | None) -> list[Row]:
            shard, after, most, fingerprints = args
            rows = [row for _, row in c.tx.scan(table) if row["shard"] == shard and row["status"] not in _CLOSED]
            page = sorted((row for row in rows if row["id"] > after), key=lambda row: row["id"])[:most]
            pasts: dict[Key, list[Row]] = {(row["id"], row["run"]): [] for row in page}
            for (id, run, _), row in c.tx.scan(history):
                if (id, run) in pasts:
                    pasts[id, run].append(row)
            timed = {key[1:3] for key, _ in c.tx.scan(timer)}
            restless = [
                row["id"]
                for row, (key, past) in zip(page, pasts.items(), strict=True)
                if not self.is_at_rest(row, past, fingerprints, has_timer=key in timed)
            ]
            return [_row(count=len(page), last=page[-1]["id"] if page else "", restless=restless)]

        return open_page

    def is_at_rest(self, saga: Row, past: Sequence[Row], fingerprints: Sequence[str], *, has_timer: bool) -> bool:
        """As the rows of a saga say it: its own, and those of its history."""
        running = saga["status"] == "running" and not saga["paused"] and saga["decided"] is saga["attention"] is None
        events = {} if saga["events"] is None else json.loads(saga["events"])
        is_told = not events or events["row"] == max((row["seq"] for row in past), default=0)
        waits = bool(events.get("awaited")) or has_timer
        if not (running and saga["fingerprint"] in fingerprints and is_told and waits):
            return False
        harmless = all(row["kind"] in HARMLESS for row in past)
        commands = {row["step"] for row in past if row["kind"] == "command"}
        answered = commands <= {row["step"] for row in past if row["kind"] in FINAL}
        return 0 < len(past) < ROWS_LOOKED_AT and harmless and answered

    def _blocked_ids(self, table: Table) -> Meaning:
        async def blocked(c: SimulatedConnection, args: Sequence[Any], timeout: float | None) -> list[Row]:
            shard, after, most = args
            found = [
                row["id"]
                for _, row in c.tx.scan(table)
                if row["shard"] == shard and row["decided"] is not None and row["status"] not in _CLOSED
            ]
            return [_row(id=id) for id in sorted(found) if id > after][:most]

        return blocked

    def _histories(self, table: Table) -> Meaning:
        async def histories(c: SimulatedConnection, args: Sequence[Any], timeout: float | None) -> list[Row]:
            *keys, most = args
            places = {key: place for place, key in enumerate(zip(*keys, strict=True), 1)}
            found: list[Row] = []
            for (id, run, seq), row in c.tx.scan(table):
                place = places.get((id, run))
                if place is not None and seq <= most:
                    found.append({"place": place, **only(row, HISTORY)})
            return sorted(found, key=lambda row: (row["place"], row["seq"]))

        return histories

    def _history_steps(self, table: Table) -> Meaning:
        async def steps(c: SimulatedConnection, args: Sequence[Any], timeout: float | None) -> list[Row]:
            wanted = [*enumerate(zip(*args, strict=True), 1)]
            found: list[Row] = []
            for (id, run, _), row in c.tx.scan(table):
                same = [place for place, one in wanted if one == (id, run, row["step"])]
                found += [{"place": place, **only(row, HISTORY)} for place in same]
            return sorted(found, key=lambda row: (row["place"], row["seq"]))

        return steps

    def _history_page(self, table: Table) -> Meaning:
        async def page(c: SimulatedConnection, args: Sequence[Any], timeout: float | None) -> list[Row]:
            id, run, after, most = args
            rows = [row for key, row in c.tx.scan(table) if key[:2] == (id, run) and key[2] > after]
            return [only(row, HISTORY) for row in sorted(rows, key=lambda row: row["seq"])[:most]]

        return page

    def _timer_page(self, table: Table) -> Meaning:
        async def page(c: SimulatedConnection, args: Sequence[Any], timeout: float | None) -> list[Row]:
            shard, *after, until, most = args
            names = ("due", "id", "run", "kind", "number")
            places = {
                tuple(row[name] for name in names): row
                for _, row in c.tx.scan(table)
                if row["shard"] == shard and row["due"] <= until
            }
            return [only(places[place], TIMER) for place in sorted(places) if place > tuple(after)][:most]

        return page

    def _early_counts(self, table: Table, saga: Table) -> Meaning:
        async def counts(c: SimulatedConnection, args: Sequence[Any], timeout: float | None) -> list[Row]:
            shard, after, most = args
            rows = [row for _, row in c.tx.scan(table) if row["shard"] == shard and row["saga_id"] > after]
            started = {id for (id, _), _ in c.tx.scan(saga)}
            found: list[Row] = []
            for id in sorted({row["saga_id"] for row in rows})[:most]:
                kept = [row for row in rows if row["saga_id"] == id]
                number, first = max(row["number"] for row in kept), min(row["at"] for row in kept)
                found.append({"id": id, "kept": len(kept), "last": number, "first": first, "started": id in started})
            return found

        return counts

    def _early(self, table: Table) -> Meaning:
        async def early(c: SimulatedConnection, args: Sequence[Any], timeout: float | None) -> list[Row]:
            shard, ids, most = args
            rows = [row for _, row in c.tx.scan(table) if row["shard"] == shard and row["saga_id"] in ids]
            return [only(row, EARLY) for row in sorted(rows, key=lambda row: (row["number"], row["saga_id"]))[:most]]

        return early

    def _keep_owner(self, table: Table, shards: Table) -> Meaning:
        async def keep(c: SimulatedConnection, args: Sequence[Any], timeout: float | None) -> list[Row]:
            shard, *_, lost, token = args
            owned = c.tx.get(shards, (shard,))
            if owned is None or owned["token"] != token:
                return []
            before = c.tx.get(table, (shard,)) or {"lost_records": None}
            left = before["lost_records"] if lost is None else lost.decode()
            c.tx.put(table, (shard,), {"shard": shard, "lost_records": left})
            return [{"lost_records": left}]

        return keep

    def _end_loss(self, table: Table) -> Meaning:
        async def end(c: SimulatedConnection, args: Sequence[Any], timeout: float | None) -> str:
            for shard in args[0]:
                c.tx.put(table, (shard,), {"shard": shard, "lost_records": None})
            return f"UPDATE {len(args[0])}"

        return end

    def _started_ids(self, table: Table) -> Meaning:
        async def started(c: SimulatedConnection, args: Sequence[Any], timeout: float | None) -> list[Row]:
            rows = [c.tx.get(table, (id,)) for id in args[0]]
            return [only(row, STARTED) for row in rows if row is not None]

        return started


def _row(**values: Any) -> Row:
    return values


def _newest(row: Row) -> tuple[Any, ...]:
    """The open run first, then the one that started last; of two the one that did not go on as another."""
    return row["id"], row["status"] in _CLOSED, -row["started_at"], row["status"] == "continued"


def binary_rows(data: bytes) -> Iterable[list[bytes | None]]:
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


def history_row(fields: Mapping[str, bytes | None]) -> Row:
    row: dict[str, Any] = dict(fields)
    for name in ("id", "run", "kind", "name", "ref"):
        row[name] = row[name].decode()
    for name in ("seq", "at", "step", "attempt", "sequence"):
        row[name] = int.from_bytes(row[name], "big", signed=True)
    row["at"] += _EPOCH_2000
    return row
