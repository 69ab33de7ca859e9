"""Plain SQL for handlers: the driver's connection of the transaction that they share, without SQLAlchemy above it.

A statement costs less than a tenth of what one through a session does (bench.handlers). So this is the door for what
is done with each command. The session's rules hold here too (`session_guard`), and one statement is sent at a time,
since a second one could hide a COMMIT.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

import asyncpg

from sagabus.messaging.postgres.database import Connection
from sagabus.messaging.postgres.engine import replace_when_next_used
from sagabus.participants.handlers.session_guard import check_shared

if TYPE_CHECKING:
    from sagabus.participants.handlers.session import Transaction

Row: TypeAlias = asyncpg.Record


class PlainConnection:
    """An asyncpg connection in the transaction of the inbox row, the reply and the events; without methods to end it.

    Parameters stand as `$1`, `$2`. Rows are asyncpg's. A value of json or jsonb is text. Errors are asyncpg's too. What
    waits in the session is not seen here before `await ctx.session.flush()`. After the handler's end all methods raise
    HandlerEnded; a statement that would end the transaction, or outlast it, raises SessionMisuse.
    """

    __slots__ = ("_begin", "_check")

    def __init__(self, begin: Callable[[], Awaitable[Transaction]], *, check: Callable[[], None]) -> None:
        """begin: gives the transaction. check: raises once the handler has ended."""
        self._begin = begin
        self._check = check

    async def execute(self, statement: str, /, *arguments: Any) -> str:
        """PostgreSQL's word for what was done: `UPDATE 3`."""
        driver = await self._driver(statement, arguments)
        if arguments:
            return await driver.execute(statement, *arguments)
        prepared = await driver.prepare(statement)  # without arguments, asyncpg would send several statements
        await prepared.fetch()
        return prepared.get_statusmsg() or ""

    async def executemany(self, statement: str, arguments: Iterable[Sequence[Any]], /) -> None:
        """The statement once for each of these, in one round trip."""
        given = [*arguments]
        driver = await self._driver(statement, [value for values in given for value in values])
        await driver.executemany(statement, given)

    async def fetch(self, statement: str, /, *arguments: Any) -> list[Row]:
        """All rows."""
        driver = await self._driver(statement, arguments)
        return await driver.fetch(statement, *arguments)

    async def fetchrow(self, statement: str, /, *arguments: Any) -> Row | None:
        """The first row; None without one."""
        driver = await self._driver(statement, arguments)
        return await driver.fetchrow(statement, *arguments)

    async def fetchval(self, statement: str, /, *arguments: Any) -> Any:
        """The first value of the first row; None without one."""
        driver = await self._driver(statement, arguments)
        return await driver.fetchval(statement, *arguments)

    def savepoint(self) -> AbstractAsyncContextManager[Any]:
        """`async with ctx.connection.savepoint():` an exception undoes what was done in the block, and goes on."""
        self._check()
        return self._savepoint()

    @asynccontextmanager
    async def _savepoint(self) -> AsyncIterator[None]:
        async with (await self._begun()).savepoint():
            yield

    async def _driver(self, statement: str, arguments: Sequence[Any]) -> Connection:
        """Raises HandlerEnded or SessionMisuse before anything is sent."""
        self._check()
        may_last = check_shared(statement, arguments)
        transaction = await self._begun()
        if may_last:
            replace_when_next_used(transaction.info)
        return transaction.driver

    async def _begun(self) -> Transaction:
        transaction = await self._begin()
        self._check()  # the handler may have ended meanwhile
        return transaction
