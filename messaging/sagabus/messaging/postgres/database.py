"""Transactions on PostgreSQL over a pool of our own (`engine_database`: over an engine that somebody else owns).

Hot statements go to the asyncpg driver itself (COPY, unnest). A transaction is always an argument, never hidden state,
and nothing here retries one: whether a failed commit happened is unknown, and only the tenure's rules know what to do.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, TypeAlias, TypeVar, cast

import asyncpg
import asyncpg.transaction

from sagabus.messaging.background import cancelled
from sagabus.messaging.backoff import Backoff, until_reachable
from sagabus.messaging.database_url import masked
from sagabus.messaging.postgres import connecting
from sagabus.messaging.postgres.connecting import (
    CONNECT_SECONDS,
    END_SECONDS,
    LOCAL_SESSION,
    Connection,
    Unanswered,
    answered,
    begun,
    committed,
    connect,
    is_of_pooler,
    is_unusable,
)
from sagabus.messaging.postgres.reachability import DatabaseUnreachable, out_of_reach
from sagabus.messaging.postgres.silence import watched

__all__ = ["Connection", "Database", "DatabaseUnreachable"]

T = TypeVar("T")

log = logging.getLogger(__name__)

CONNECTIONS: Final = 4
"""Each turn that is under way needs one (`shards.lanes`); at least one is left for reading beside them."""

FIRST_PAUSE_SECONDS: Final = 0.1
LONGEST_PAUSE_SECONDS: Final = 2.0
"""Between two tries to reach the database, doubling from the first."""


class Database:
    """Transactions over an asyncpg pool of our own.

    `url` is `postgresql://…`, also with `+asyncpg`, of one host or several. Every connection has the settings of
    `SESSION`. A connection that has met a standby, a shutdown or silence is dropped, and the pool with it is replaced.
    Behind a pooler that shares sessions between transactions, which shows by its errors, settings go with each of them.
    """

    def __init__(self, url: str, *, connections: int = CONNECTIONS) -> None:
        self._url = url.replace("postgresql+asyncpg://", "postgresql://", 1)
        self._connections = connections
        self._pool: _Pool | None = None
        self._starting = asyncio.Lock()
        self._pooled = False
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def address(self) -> str:
        """For messages: without the password."""
        return masked(self._url)

    @property
    def stands_alone(self) -> bool:
        """Whether `read` and `write` save BEGIN and COMMIT here, as far as is known. Else two of them cost more than a
        transaction for both."""
        return not self._pooled

    async def start(self) -> None:
        """Raises DatabaseUnreachable. A second call does nothing."""
        with out_of_reach():
            await self._started()

    async def stop(self) -> None:
        """Waits for the transactions that are under way, but for no answer that does not come."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await _closed(pool, END_SECONDS)
        if self._closing:
            _, late = await asyncio.wait(self._closing, timeout=END_SECONDS)
            await cancelled(late)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """One transaction, committed on leaving, rolled back by an exception.

        Raises DatabaseUnreachable if it could not begin. Any other error, of the commit as well: outcome unknown.
        """
        async with self._transaction(self._begun()) as connection:
            yield connection

    async def read(self, reading: Callable[[Connection], Awaitable[T]]) -> T:
        """What one statement reads, in a transaction of its own: one round trip, where BEGIN and COMMIT are two more.

        `reading` must not write; it is called again, within a transaction, if its connection turns out to be of no use.
        It is found so as by a BEGIN, also in time. Raises as `transaction` does.
        """
        with out_of_reach():
            pool = await self._started()
        if not self._pooled:
            try:
                return await self._read(pool, reading)
            except Exception as error:
                if not self._lost(pool, error):
                    raise
        async with self._transaction(self._begun_anew()) as connection:
            return await reading(connection)

    async def write(self, writing: Callable[[Connection], Awaitable[T]]) -> T:
        """What one statement writes, in a transaction of its own: one round trip.

        Raises DatabaseUnreachable if it was not sent. An error that PostgreSQL answers with: nothing was written. Any
        other, if no answer comes within the time of a commit, say: outcome unknown.
        """
        with out_of_reach():
            pool = await self._started()
            connection = None if self._pooled else await self._free(pool)
        if connection is None:
            async with self._transaction(self._begun_anew()) as connection:
                return await writing(connection)
        usable = False
        try:
            with watched(connection, lambda: self._replace(pool, END_SECONDS)):
                written = await answered(writing(connection), connecting.COMMIT_SECONDS, "a write")
            usable = True
            return written
        except Exception as error:
            self._lost(pool, error)
            raise
        finally:
            await _given_back(pool, connection, usable=usable)

    async def _free(self, pool: _Pool) -> Connection | None:
        """None if the pool has none that is of any use; it is replaced then."""
        try:
            return await _acquired(pool)
        except Exception as error:
            if not self._lost(pool, error):
                raise
        return None

    async def _read(self, pool: _Pool, reading: Callable[[Connection], Awaitable[T]]) -> T:
        usable, connection = False, await _acquired(pool)
        try:
            with watched(connection, lambda: self._replace(pool, END_SECONDS)):
                found = await answered(reading(connection), connecting.BEGIN_SECONDS, "a read")
            usable = True
            return found
        finally:
            await _given_back(pool, connection, usable=usable)

    @asynccontextmanager
    async def _transaction(self, begun: Awaitable[_Begun]) -> AsyncIterator[Connection]:
        with out_of_reach():
            pool, connection, block = await begun
        usable = False
        try:
            try:
                with watched(connection, lambda: self._replace(pool, END_SECONDS)):
                    yield connection
            except BaseException as error:
                usable = not self._lost(pool, error) and await rolled_back(block)
                raise
            try:
                await committed(block.commit())
                usable = True
            except Exception as error:
                self._lost(pool, error)
                raise
        finally:
            await _given_back(pool, connection, usable=usable)

    async def wait_until_reachable(self, *, patience: float | None = None) -> None:
        """Try until a transaction begins, 0.1 s apart and then doubling to 2 s. Each new reason is logged once.

        `patience` in seconds; without it, for ever. Raises DatabaseUnreachable when it is used up.
        """
        await until_reachable(
            self._reach,
            unreachable=DatabaseUnreachable,
            server=f"PostgreSQL at {self.address}",
            backoff=Backoff(first_seconds=FIRST_PAUSE_SECONDS, longest_seconds=LONGEST_PAUSE_SECONDS),
            patience_seconds=patience,
        )

    async def _reach(self) -> None:
        async with self.transaction():
            pass

    async def _started(self) -> _Pool:
        async with self._starting:
            if self._pool is None:
                try:
                    self._pool = await self._make()
                except asyncpg.PostgresError as error:
                    if self._pooled or not is_of_pooler(error):
                        raise
                    self._is_pooled(error)
                    self._pool = await self._make()
            return self._pool

    async def _make(self) -> _Pool:
        pooled = self._pooled

        async def connected(*_: Any, **__: Any) -> Connection:
            return await connect(self._url, pooled=pooled)

        return await asyncpg.create_pool(
            min_size=1, max_size=self._connections, connect=connected, reset=_nothing_to_reset
        )

    async def _begun(self) -> _Begun:
        """Twice, if a connection that lay in the pool turns out to be of no use: with a new pool it may work."""
        pool = await self._started()
        try:
            return await self._begin(pool, connecting.BEGIN_SECONDS)
        except Exception as error:
            if not self._lost(pool, error):
                raise
        return await self._begun_anew()

    async def _begun_anew(self) -> _Begun:
        return await self._begin(await self._started(), connecting.COMMAND_SECONDS)

    async def _begin(self, pool: _Pool, seconds: float) -> _Begun:
        connection = await _acquired(pool)
        try:
            block = connection.transaction(isolation="read_committed")
            await begun(self._start(block, connection), seconds)
        except BaseException:
            await _given_back(pool, connection, usable=False)
            raise
        return pool, connection, block

    async def _start(self, block: asyncpg.transaction.Transaction, connection: Connection) -> None:
        await block.start()
        if self._pooled:
            await connection.execute(LOCAL_SESSION)

    def _lost(self, pool: _Pool, error: BaseException) -> bool:
        """Whether the connection is of no use after this error. Then a new pool takes the place of its pool."""
        if is_of_pooler(error) and not self._pooled:
            self._is_pooled(error)
        elif not is_unusable(error):
            return False
        self._replace(pool, connecting.COMMAND_SECONDS if isinstance(error, Unanswered) else END_SECONDS)
        return True

    def _replace(self, pool: _Pool, seconds: float) -> None:
        """seconds: for the transactions that are under way in it. Whoever has not answered a BEGIN or a commit may be
        slow: then the others have as long as any."""
        if self._pool is pool:
            self._pool = None
            task = asyncio.get_running_loop().create_task(_closed(pool, seconds), name="sagabus old connections")
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    def _is_pooled(self, error: BaseException) -> None:
        self._pooled = True
        log.info(
            "PostgreSQL at %s stands behind a pooler that shares sessions (%s): settings go with each transaction, and "
            "no statement is kept prepared (docs/postgresql.md)", self.address, error,
        )  # fmt: skip


_Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
_Begun: TypeAlias = "tuple[_Pool, Connection, asyncpg.transaction.Transaction]"


async def _acquired(pool: _Pool) -> Connection:
    return cast("Connection", await pool.acquire(timeout=CONNECT_SECONDS))


async def rolled_back(block: asyncpg.transaction.Transaction) -> bool:
    """Within bounds; False if it did not work, and the connection is to be dropped."""
    try:
        async with asyncio.timeout(END_SECONDS):
            await block.rollback()
    except Exception as error:
        log.debug("rollback: %s", error)
        return False
    return True


async def _given_back(pool: _Pool, connection: Connection, *, usable: bool) -> None:
    """To its pool, within bounds; dropped if it is of no use."""
    try:
        if not usable:
            connection.terminate()
        await pool.release(cast("Any", connection), timeout=END_SECONDS)
    except Exception as error:  # the transaction is over, one way or the other, and the pool makes another connection
        log.debug("a connection was not given back: %s", error)


async def _closed(pool: _Pool, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await pool.close()
    except Exception:
        pool.terminate()


async def _nothing_to_reset(_: object) -> None:
    """asyncpg's own reset is a round trip for each transaction; we change no setting for longer than a transaction."""
