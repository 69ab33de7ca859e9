"""A simulated PostgreSQL: tables in memory, transactions at READ COMMITTED, row locks, commits of unknown outcome.

What the statements mean is in `statements`; here is what a server and a connection do with them. A transaction sees
what is committed and what it has written itself. Rows are never changed in place.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import asyncpg

from sagabus.messaging.postgres.database import Connection, Database, DatabaseUnreachable

if TYPE_CHECKING:
    from tests.simulation.process import SimulatedProcess

T = TypeVar("T")
Key = tuple[Any, ...]
Row = Mapping[str, Any]
Table = tuple[str, str]
"""Schema and name."""

LOCK_TIMEOUT = 5.0
"""Seconds, as the sessions of `messaging.database` are set."""


class Found:
    """A row of an answer: by name, by place, or unpacked."""

    __slots__ = ("_row",)

    def __init__(self, row: Row) -> None:
        self._row = row

    def __getitem__(self, name: str | int) -> Any:
        return list(self._row.values())[name] if isinstance(name, int) else self._row[name]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._row.values())


@dataclass
class Server:
    """One database server. `up` is False while it is away; `backends` are its connections' transactions."""

    now: Callable[[], float]
    up: bool = True
    tables: dict[Table, dict[Key, Row]] = field(default_factory=dict)
    locks: dict[tuple[Table, Key], SimulatedTransaction] = field(default_factory=dict)
    waiting: dict[tuple[Table, Key], list[asyncio.Future[None]]] = field(default_factory=dict)
    backends: list[SimulatedTransaction] = field(default_factory=list)
    numbers: int = 0
    commits: int = 0

    def table(self, table: Table) -> dict[Key, Row]:
        return self.tables.setdefault(table, {})

    def number(self) -> int:
        self.numbers += 1
        return self.numbers

    def crash(self) -> None:
        """Every session ends; what was not committed never was."""
        for backend in list(self.backends):
            backend.end()

    def copy(self, schema: str) -> dict[Table, dict[Key, Row]]:
        """A backup of one schema."""
        return {table: dict(rows) for table, rows in self.tables.items() if table[0] == schema}

    def restore(self, backup: Mapping[Table, Mapping[Key, Row]], schema: str) -> None:
        """The schema as it was; sessions end."""
        self.crash()
        for table in [table for table in self.tables if table[0] == schema]:
            self.tables[table] = dict(backup.get(table, {}))


class SimulatedTransaction:
    """One session and its transaction, from BEGIN to its end. Locks are held until then."""

    def __init__(self, server: Server, process: SimulatedProcess) -> None:
        self.server = server
        self.process = process
        self.ended = False
        self.lock_timeout = LOCK_TIMEOUT
        self._writes: dict[Table, dict[Key, Row | None]] = {}
        self._inserted: set[tuple[Table, Key]] = set()
        self._locked: list[tuple[Table, Key]] = []
        server.backends.append(self)

    # Reading and writing: within one statement, nothing else happens in between.

    def get(self, table: Table, key: Key) -> Row | None:
        own = self._writes.get(table)
        if own is not None and key in own:
            return own[key]
        return self.server.table(table).get(key)

    def scan(self, table: Table) -> Iterator[tuple[Key, Row]]:
        own = self._writes.get(table, {})
        for key, row in list(self.server.table(table).items()):
            if key not in own:
                yield key, row
        for key, mine in list(own.items()):
            if mine is not None:
                yield key, mine

    def put(self, table: Table, key: Key, row: Row | None) -> None:
        self._writes.setdefault(table, {})[key] = row

    def insert(self, table: Table, key: Key, row: Row) -> None:
        if self.get(table, key) is not None:
            raise asyncpg.UniqueViolationError(f"{table} has a row {key} already")
        self._inserted.add((table, key))
        self.put(table, key, row)

    async def lock(self, table: Table, key: Key, *, timeout: float | None = None) -> None:
        """Wait for whoever holds this row. Raises LockNotAvailableError, or TimeoutError for a caller's timeout."""
        place = (table, key)
        patience = self.lock_timeout if timeout is None else min(timeout, self.lock_timeout)
        end = self.server.now() + patience
        while (holder := self.server.locks.get(place)) is not None and holder is not self:
            gate = asyncio.get_running_loop().create_future()
            self.server.waiting.setdefault(place, []).append(gate)
            try:
                async with asyncio.timeout(max(0.0, end - self.server.now())):
                    await gate
            except TimeoutError:
                if timeout is not None and timeout <= self.lock_timeout:
                    raise
                raise asyncpg.LockNotAvailableError("canceling statement due to lock timeout") from None
            self.check()
        if place not in self.server.locks:
            self.server.locks[place] = self
            self._locked.append(place)

    def mark(self) -> tuple[Any, ...]:
        """For a savepoint."""
        return {table: dict(rows) for table, rows in self._writes.items()}, set(self._inserted)

    def back_to(self, mark: tuple[Any, ...]) -> None:
        self._writes, self._inserted = {table: dict(rows) for table, rows in mark[0].items()}, set(mark[1])

    def commit(self) -> None:
        """At once, all or nothing."""
        self.check()
        for table, key in self._inserted:
            if self._writes[table].get(key) is not None and key in self.server.table(table):
                self.end()
                raise asyncpg.UniqueViolationError(f"{table} has got a row {key} meanwhile")
        for table, rows in self._writes.items():
            kept = self.server.table(table)
            for key, row in rows.items():
                if row is None:
                    kept.pop(key, None)
                else:
                    kept[key] = row
        self.server.commits += 1
        self.end()

    def end(self) -> None:
        """Rolled back, unless it was committed; its locks are free. Twice is once."""
        if self.ended:
            return
        self.ended = True
        self.server.backends.remove(self)
        for place in self._locked:
            if self.server.locks.get(place) is self:
                del self.server.locks[place]
                for gate in self.server.waiting.pop(place, []):
                    if not gate.done():
                        gate.set_result(None)

    def check(self) -> None:
        if self.ended:
            raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")


class SimulatedConnection:
    """What code of ours uses of an asyncpg connection."""

    def __init__(self, transaction: SimulatedTransaction, statements: Statements) -> None:
        self.tx = transaction
        self.schema = ""
        """Of the statement that is running."""
        self._statements = statements
        self._savepoints: list[tuple[Any, ...]] = []

    async def execute(self, sql: str, *args: Any, timeout: float | None = None) -> str:
        answer = await self._run(sql, args, timeout)
        return answer if isinstance(answer, str) else f"SELECT {len(answer)}"

    async def fetch(self, sql: str, *args: Any, timeout: float | None = None) -> list[Found]:
        answer = await self._run(sql, args, timeout)
        assert not isinstance(answer, str), sql
        return [Found(row) for row in answer]

    async def fetchrow(self, sql: str, *args: Any) -> Found | None:
        rows = await self.fetch(sql, *args)
        return rows[0] if rows else None

    async def fetchval(self, sql: str, *args: Any) -> Any:
        row = await self.fetchrow(sql, *args)
        return None if row is None else row[0]

    async def copy_records_to_table(
        self, table: str, *, schema_name: str, columns: Sequence[str], records: Sequence[Sequence[Any]],
        timeout: float | None = None,
    ) -> None:  # fmt: skip
        await self.reach()
        self._statements.copy(self.tx, (schema_name, table), [dict(zip(columns, row, strict=True)) for row in records])
        await self.reach()

    async def copy_to_table(
        self, table: str, *, schema_name: str, columns: Sequence[str], source: memoryview, format: str,
        timeout: float | None = None,
    ) -> None:  # fmt: skip
        await self.reach()
        self._statements.copy_binary(self.tx, (schema_name, table), columns, source)
        await self.reach()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """A savepoint."""
        mark = self.tx.mark()
        try:
            yield
        except BaseException:
            self.tx.back_to(mark)
            raise

    def is_closed(self) -> bool:
        return self.tx.ended

    def is_in_transaction(self) -> bool:
        return not self.tx.ended

    def savepoint(self) -> None:
        self._savepoints.append(self.tx.mark())

    def release(self, *, undo: bool) -> None:
        mark = self._savepoints.pop()
        if undo:
            self.tx.back_to(mark)

    async def reach(self) -> None:
        """The way to the server, or back from it: the process may die on it, and the server be gone."""
        await self.tx.process.boundary("database")
        self.tx.check()

    async def _run(self, sql: str, args: Sequence[Any], timeout: float | None) -> str | list[Row]:
        await self.reach()
        answer = await self._statements.run(self, sql, args, timeout)
        await self.reach()
        return answer


class Statements:
    """What each statement does. See `statements` for those that are known."""

    async def run(
        self, connection: SimulatedConnection, sql: str, args: Sequence[Any], timeout: float | None
    ) -> str | list[Row]:
        raise NotImplementedError

    def copy(self, tx: SimulatedTransaction, table: Table, rows: Sequence[Row]) -> None:
        raise NotImplementedError

    def copy_binary(self, tx: SimulatedTransaction, table: Table, columns: Sequence[str], source: memoryview) -> None:
        raise NotImplementedError


class SimulatedDatabase(Database):
    """One process's way to the server."""

    def __init__(self, server: Server, process: SimulatedProcess, statements: Statements) -> None:
        super().__init__("")
        self._server = server
        self._process = process
        self._made = statements

    async def start(self) -> None:
        await self._process.boundary("database")
        if not self._server.up:
            raise DatabaseUnreachable("PostgreSQL is unreachable: connection refused")

    async def stop(self) -> None: ...

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        connection = await self.begin()
        try:
            yield connection  # type: ignore[misc]
        except BaseException:
            connection.tx.end()
            raise
        await self.commit(connection)

    async def read(self, reading: Callable[[Connection], Awaitable[T]]) -> T:
        connection = await self.begin()
        try:
            return await reading(connection)  # type: ignore[arg-type]
        finally:
            connection.tx.end()

    async def write(self, writing: Callable[[Connection], Awaitable[T]]) -> T:
        async with self.transaction() as connection:
            return await writing(connection)

    async def begin(self) -> SimulatedConnection:
        await self.start()
        return SimulatedConnection(SimulatedTransaction(self._server, self._process), self._made)

    async def commit(self, connection: SimulatedConnection) -> None:
        """What the process hears of it may be a lost connection, whether it happened or not."""
        fate = self._process.commit_fate()
        await connection.reach()
        if fate == "never":
            connection.tx.end()
        else:
            connection.tx.commit()
        await self._process.boundary("database")
        if fate != "known":
            raise asyncpg.ConnectionDoesNotExistError(f"connection lost while committing (it {fate} happened)")
