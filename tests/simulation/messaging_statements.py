"""What messaging's statements mean: shard rows, outbox, parked rows, takes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

from sagabus.messaging.shards.shard_row import ACQUIRE_LOCK_MILLISECONDS
from tests.simulation.meaning import Book, Meaning, deleted
from tests.simulation.postgres import Row, SimulatedConnection, Table


class MessagingStatements(Book):
    """Of the schemas that have messaging's tables."""

    def _messaging(self, schema: str) -> None:
        shard, out, parked = (schema, "shard"), (schema, "outbox"), (schema, "outbox_parked")
        self._mean(
            schema,
            {
                "shard_row.advance": self._advance(shard),
                "shard_row.forget_before": self._forget_before(shard),
                "shard_row.add": self._add_shard(shard),
                "shard_row.look": self._look(shard, lock=False),
                "shard_row.lock": self._look(shard, lock=True),
                "shard_row.acquire": self._acquire(shard),
                "shard_row.end_holder": self._end_holder(shard),
                "shard_row.partitions": self._partitions(shard),
                "outbox.unpublished": self._unpublished(out),
                "outbox.delete": self._delete_published(out),
                "outbox.park": self._park(out, parked),
                "outbox_parked.sagas": self._parked_sagas(parked),
                "outbox_parked.released": self._released(parked),
                "outbox_parked.delete": self._unpark(parked),
            },
        )
        self._mean("", {"shard_row.lock_timeout": self._lock_timeout(ACQUIRE_LOCK_MILLISECONDS / 1000)})

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

    def _forget_before(self, table: Table) -> Meaning:
        async def forget(c: SimulatedConnection, args: Sequence[Any], timeout: float | None) -> list[Row]:
            shard, moment = args
            row = c.tx.get(table, (shard,))
            assert row is not None
            before = moment if row["pruned_before"] is None else max(row["pruned_before"], moment)
            c.tx.put(table, (shard,), {**row, "pruned_before": before})
            return [{"pruned_before": before}]

        return forget

    def _unpublished(self, table: Table) -> Meaning:
        async def unpublished(c: SimulatedConnection, args: Sequence[Any], timeout: float | None) -> list[Row]:
            shard, after = args
            rows = [row for _, row in c.tx.scan(table) if row["shard"] == shard and row["position"] > after]
            return sorted(rows, key=lambda row: int(row["position"]))

        return unpublished

    def _delete_published(self, table: Table) -> Meaning:
        async def delete(c: SimulatedConnection, args: Sequence[Any], timeout: float | None) -> str:
            done = {shard: range(after + 1, position + 1) for shard, after, position in zip(*args, strict=True)}
            gone = [key for key, row in c.tx.scan(table) if row["position"] in done.get(row["shard"], ())]
            return deleted(c, table, gone)

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
            return deleted(c, table, [(shard, position) for position in positions])

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

    def _acquire(self, table: Table) -> Meaning:
        async def acquire(c: SimulatedConnection, args: Sequence[Any], timeout: float | None) -> list[Row]:
            shard, token, cluster, generation = args
            row = c.tx.get(table, (shard,))
            assert row is not None
            turn = row["turn"] + 1
            taken = {"token": token, "turn": turn, "cluster": cluster, "generation": generation, "beat_at": self._now()}
            c.tx.put(table, (shard,), {**row, **taken})
            return [{"turn": turn}]

        return acquire

    def _end_holder(self, table: Table) -> Meaning:
        async def end(c: SimulatedConnection, args: Sequence[Any], timeout: float | None) -> str:
            holder = c.tx.server.locks.get((table, (args[0],)))
            if holder is not None and holder is not c.tx:
                holder.end()
            return "SELECT 1"

        return end

    def _partitions(self, table: Table) -> Meaning:
        async def partitions(c: SimulatedConnection, args: Sequence[Any], timeout: float | None) -> list[Row]:
            [now] = args
            rows: list[Row] = [
                {"partitions": row["partitions"]}
                for _, row in c.tx.scan(table)
                if 0 <= row["shard"] < now != row["partitions"]
            ]
            return rows[:1]

        return partitions

    def _lock_timeout(self, seconds: float) -> Meaning:
        async def lock_timeout(c: SimulatedConnection, args: Sequence[Any], timeout: float | None) -> str:
            c.tx.lock_timeout = seconds
            return "SET"

        return lock_timeout


async def held(
    c: SimulatedConnection, table: Table, mine: Iterable[tuple[int, UUID, int]], timeout: float | None
) -> list[int]:
    """The part `holding` of a statement: the shards that are still ours, whose rows are locked from here on."""
    ours: list[int] = []
    for shard, token, turn in sorted(mine, key=lambda one: one[0]):
        if not _is(c.tx.get(table, (shard,)), token, turn):
            continue
        await c.tx.lock(table, (shard,), timeout=timeout)
        if _is(c.tx.get(table, (shard,)), token, turn):
            ours.append(shard)
    return ours


def still_ours(c: SimulatedConnection, table: Table, mine: Iterable[tuple[int, UUID, int]]) -> list[int]:
    """The part `ours`: the same without a lock."""
    return [shard for shard, token, turn in mine if _is(c.tx.get(table, (shard,)), token, turn)]


def _is(row: Row | None, token: UUID, turn: int) -> bool:
    return row is not None and row["token"] == token and row["turn"] == turn


def outbox_row(fields: Mapping[str, bytes | None]) -> Row:
    row: dict[str, Any] = dict(fields)
    for name in ("saga_id", "topic"):
        row[name] = row[name].decode()
    for name in ("shard", "position", "partition"):
        row[name] = None if row[name] is None else int.from_bytes(row[name], "big", signed=True)
    return row
