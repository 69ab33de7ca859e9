"""What a statement's meaning is, and the few things that several of them do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Final

from tests.simulation.postgres import Key, Row, SimulatedConnection, Statements, Table

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


class Book(Statements):
    """Meanings by the statement's name and schema. now: the server's clock, seconds since 1970."""

    bugs: ClassVar[dict[str, Callable[[Meaning], Meaning]]] = {}
    """By the statement's name: what `mutants` put in the place of its meaning."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.all: dict[tuple[str, str], Meaning] = {}

    def _mean(self, schema: str, meanings: Mapping[str, Meaning]) -> None:
        """What these names mean in that schema; in no schema: what names no table."""
        self.all |= {(name, schema): meaning for name, meaning in meanings.items()}

    async def _do(self, c: SimulatedConnection, name: str, *args: Any) -> Any:
        """By itself, with the bug that it may have."""
        meaning = self.all[name, c.schema]
        if name in self.bugs:
            meaning = self.bugs[name](meaning)
        return await meaning(c, args, None)

    async def _fence(self, c: SimulatedConnection, advance: Sequence[Any]) -> int:
        """How many of these shard rows are still ours. If all are they are advanced, else nothing is done."""
        mark = c.tx.mark()
        held = int((await self._do(c, "shard_row.advance", *advance)).removeprefix("UPDATE "))
        if held != len(advance[0]):
            c.tx.back_to(mark)
        return held


def key_of(table: str, row: Row) -> Key:
    return tuple(row[name] for name in _KEYS.get(table, ("id",)))


def only(row: Row, columns: Iterable[str]) -> Row:
    return {name: row[name] for name in columns}


def deleted(c: SimulatedConnection, table: Table, keys: Sequence[Key]) -> str:
    there = [key for key in keys if c.tx.get(table, key) is not None]
    for key in there:
        c.tx.put(table, key, None)
    return f"DELETE {len(there)}"
