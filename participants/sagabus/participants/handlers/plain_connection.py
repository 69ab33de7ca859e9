"""Plain SQL for handlers: the driver's connection of the transaction that they share, without SQLAlchemy above it.

A statement costs less than a tenth of what one through a session does (bench.handlers). So this is the door for what
is done with each command. The session's rules hold here too (`session_guard`), and one statement is sent at a time,
since a second one could hide a COMMIT.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeAlias

import asyncpg

from sagabus.messaging.postgres.database import Connection
from sagabus.participants.handlers.session_guard import check_shared

Row: TypeAlias = asyncpg.Record


class PlainConnection:
    """An asyncpg connection in the transaction of the inbox row, the reply and the events; without methods to end it.

    Parameters stand as `$1`, `$2`. Rows are asyncpg's. A value of json or jsonb is text. Errors are asyncpg's too. What
    waits in the session is not seen here before `await ctx.session.flush()`. After the handler's end all methods raise
    HandlerEnded; a statement that would end the transaction, or outlast it, raises SessionMisuse.
    """

    __slots__ = ("_check", "_driver", "_may_last")

    def __init__(self, driver: Connection, *, check: Callable[[], None], may_last: Callable[[], None]) -> None:
        """check: raises once the handler has ended. may_last: called before what may stay on the connection."""
        self._driver = driver
        self._check = check
        self._may_last = may_last

    async def execute(self, statement: str, /, *arguments: Any) -> str:
        """PostgreSQL's word for what was done: `UPDATE 3`."""
        self._look(statement, arguments)
        if arguments:
            return await self._driver.execute(statement, *arguments)
        prepared = await self._driver.prepare(statement)  # without arguments, asyncpg would send several statements
        await prepared.fetch()
        return prepared.get_statusmsg() or ""

    async def executemany(self, statement: str, arguments: Iterable[Sequence[Any]], /) -> None:
        """The statement once for each of these, in one round trip."""
        given = [*arguments]
        self._look(statement, [value for values in given for value in values])
        await self._driver.executemany(statement, given)

    async def fetch(self, statement: str, /, *arguments: Any) -> list[Row]:
        """All rows."""
        self._look(statement, arguments)
        return await self._driver.fetch(statement, *arguments)

    async def fetchrow(self, statement: str, /, *arguments: Any) -> Row | None:
        """The first row; None without one."""
        self._look(statement, arguments)
        return await self._driver.fetchrow(statement, *arguments)

    async def fetchval(self, statement: str, /, *arguments: Any) -> Any:
        """The first value of the first row; None without one."""
        self._look(statement, arguments)
        return await self._driver.fetchval(statement, *arguments)

    def savepoint(self) -> AbstractAsyncContextManager[Any]:
        """`async with ctx.connection.savepoint():` an exception undoes what was done in the block, and goes on."""
        self._check()
        return self._driver.transaction()

    def _look(self, statement: str, arguments: Sequence[Any]) -> None:
        self._check()
        if check_shared(statement, arguments):
            self._may_last()
