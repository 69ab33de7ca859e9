"""Transactions of a turn, and the sessions that handlers get in them.

The transaction is the driver's, on a connection from the engine's pool. SQLAlchemy is put above it for a session alone,
which costs as much as BEGIN and COMMIT. It is told that its connection commits by itself, so nothing that a session
does, a failing flush included, can end the transaction that the handlers share. It also makes a savepoint a plain
statement of the driver's, a fifth of what SQLAlchemy's costs. The level is READ COMMITTED whatever the engine's
default is: the fence and the inbox rest on it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, suppress
from typing import Any, Final

from sqlalchemy import Connection as SyncConnection
from sqlalchemy import QueuePool
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import Session
from sqlalchemy.util import await_only, greenlet_spawn

from sagabus.contracts.errors import DeclarationError
from sagabus.messaging.postgres import connecting
from sagabus.messaging.postgres.borrowed import Borrowed
from sagabus.messaging.postgres.connecting import END_SECONDS, begun, committed, is_unusable
from sagabus.messaging.postgres.database import Connection, DatabaseUnreachable
from sagabus.messaging.postgres.engine import care_for, distrust, dropped
from sagabus.messaging.postgres.engine_database import EngineDatabase
from sagabus.messaging.postgres.lender import Lender
from sagabus.messaging.postgres.reachability import UNREACHABLE
from sagabus.messaging.postgres.silence import watched
from sagabus.participants.handlers.database_errors import causes
from sagabus.participants.handlers.session_guard import OWN, SHARED, close_for_good, guarded_class, watch

log = logging.getLogger(__name__)

CONNECTIONS_OF_TURNS: Final = 2
"""Connections of a participant's pool that its external handlers leave free, however many have a transaction open."""


class Transaction:
    """One transaction as the driver sees it; and as SQLAlchemy does, once somebody asks for that."""

    __slots__ = ("_borrowed", "_connection", "_engine", "_lender", "_savepoints", "driver")

    def __init__(self, engine: AsyncEngine, lender: Lender, borrowed: Borrowed) -> None:
        self.driver: Connection = borrowed.driver
        self._engine = engine
        self._lender = lender
        self._borrowed = borrowed
        self._connection: AsyncConnection | None = None
        self._savepoints = 0

    @property
    def info(self) -> dict[Any, Any]:
        """Of the connection's record, for as long as the pool has it."""
        return self._borrowed.info

    async def connection(self) -> AsyncConnection:
        """To which sessions can be bound."""
        if self._connection is None:
            self._connection = await greenlet_spawn(self._for_sessions)
        return self._connection

    def _for_sessions(self) -> AsyncConnection:
        made = SyncConnection(self._engine.sync_engine, self._borrowed.record)
        return AsyncConnection(self._engine, made.execution_options(isolation_level="AUTOCOMMIT", **SHARED))

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """An exception undoes what was done in the block."""
        self._savepoints += 1
        name = f"sagabus_plain_{self._savepoints}"
        await self.driver.execute(f"SAVEPOINT {name}")
        try:
            yield
        except BaseException:
            await self.driver.execute(f"ROLLBACK TO SAVEPOINT {name}; RELEASE SAVEPOINT {name}")
            raise
        await self.driver.execute(f"RELEASE SAVEPOINT {name}")

    async def over(self, *, usable: bool) -> None:
        """The connection is given back, or dropped. Raises nothing but a cancellation."""
        ended = self.driver.is_closed() or self.driver.is_in_transaction()
        if self._connection is None:
            await (self._lender.give_back(self._borrowed) if usable and not ended else self._borrowed.drop())
            return
        if not self._connection.invalidated and (ended or not usable):
            await dropped(self._connection)
        await self._connection.close()


class Sessions:
    """A participant's database. The engine is its owner's: nothing here disposes of it."""

    def __init__(self, maker: async_sessionmaker[AsyncSession]) -> None:
        engine = maker.kw.get("bind")
        if not isinstance(engine, AsyncEngine):
            raise DeclarationError("database=: bind the async_sessionmaker to one AsyncEngine")
        if engine.dialect.driver != "asyncpg":
            raise DeclarationError(
                f"database=: this engine uses the driver {engine.dialect.driver!r}; make it with postgresql+asyncpg://…"
            )
        self.engine = engine
        self._database = EngineDatabase(engine)
        self._own = _Permits(engine)
        care_for(engine)
        watch(engine)
        self._maker = maker
        sync_class = maker.kw.get("sync_session_class") or maker.class_.sync_session_class
        self._class = guarded_class(maker.class_)
        self._options = {
            **maker.kw,
            "sync_session_class": guarded_class(sync_class, _BoundLate),
            "join_transaction_mode": "rollback_only",
            "autobegin": True,
            "close_resets_only": False,  # kept by somebody beyond its handler, it says so instead of writing elsewhere
        }

    @classmethod
    def of(cls, database: AsyncEngine | async_sessionmaker[AsyncSession]) -> Sessions:
        """Raises DeclarationError for an engine that is not asyncpg's, and for a sessionmaker without one engine."""
        given = database
        return cls(async_sessionmaker(given, expire_on_commit=False) if isinstance(given, AsyncEngine) else given)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """Committed on leaving, rolled back by an exception.

        Raises DatabaseUnreachable if it could not begin. Any other error of the commit: outcome unknown.
        """
        transaction = await self._begun()
        driver, usable = transaction.driver, False
        try:
            try:
                with self._watched(driver):
                    yield transaction
            except BaseException as error:
                usable = not self._lost(error) and await _rolled_back(driver)
                raise
            try:
                await committed(_commit(driver))
                usable = True
            except Exception as error:
                self._lost(error)
                raise
        finally:
            await transaction.over(usable=usable)

    @property
    def database(self) -> EngineDatabase:
        """The same database, for what needs no session."""
        return self._database

    def shared(self, begin: Callable[[], Awaitable[Transaction]]) -> AsyncSession:
        """A session within the transaction of a turn, which it cannot end. `finish` it.

        begin: gives the transaction; asked once, before its first statement.
        """
        session: AsyncSession = self._class(**{**self._options, "bind": None})

        async def bound() -> Any:
            transaction = await begin()
            session.bind = connection = await transaction.connection()
            return connection.sync_connection

        session.sync_session.sagabus_begin = bound  # type: ignore[attr-defined]
        return session

    @asynccontextmanager
    async def own(self) -> AsyncIterator[AsyncSession]:
        """A session with a transaction of its own, as the participant's author has configured it; committed on leaving.

        A connection that turns out to be of no use is dropped. Some of the pool are left to turns: who gets none in
        the time that the pool gives raises sqlalchemy's TimeoutError, as with the pool itself.
        """
        async with self._own.one(), self._maker() as session:
            try:
                with ExitStack() as until_committed:
                    async with session.begin():
                        connection = await session.connection(execution_options=OWN)
                        until_committed.enter_context(self._watched(await EngineDatabase.driver(connection)))
                        yield session
            except BaseException as error:
                if self._lost(error):
                    await session.invalidate()
                raise

    def _watched(self, driver: Connection) -> AbstractContextManager[None]:
        return watched(driver, lambda: distrust(self.engine))

    def _lost(self, error: BaseException) -> bool:
        """Whether the connection is of no use after this error. Then those of its pool are not to be trusted either."""
        if lost := any(map(is_unusable, causes(error))):
            distrust(self.engine)
        return lost

    async def _begun(self) -> Transaction:
        try:
            try:
                return await self._begin(connecting.BEGIN_SECONDS)
            except UNREACHABLE as error:  # perhaps only this connection: a pool keeps what the server has closed
                self._lost(error)
                return await self._begin(connecting.COMMAND_SECONDS)
        except UNREACHABLE as error:
            raise DatabaseUnreachable(f"PostgreSQL is unreachable: {str(error) or type(error).__name__}") from error

    async def _begin(self, seconds: float) -> Transaction:
        lender = self._database.lender
        borrowed = await lender.borrow()
        try:
            await begun(_start(borrowed.driver), seconds)
        except BaseException:
            await borrowed.drop()
            raise
        return Transaction(self.engine, lender, borrowed)


class _BoundLate:
    """Before a Session in the bases of a handler's: with its first statement it gets the connection of the turn.

    Each statement asks for its bind, within SQLAlchemy's greenlet, where may be awaited.
    """

    bind: Any
    sagabus_begin: Callable[[], Awaitable[Any]]

    def get_bind(self, *arguments: Any, **options: Any) -> Any:
        if self.bind is None:
            self.bind = await_only(self.sagabus_begin())
        return super().get_bind(*arguments, **options)  # type: ignore[misc]


class _Permits:
    """How many connections of a pool may be used beside the turns."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._free: asyncio.Semaphore | None = None
        pool = engine.sync_engine.pool
        if not isinstance(pool, QueuePool) or pool._max_overflow < 0:
            return  # without a bound
        self._seconds = pool.timeout()
        self._free = asyncio.Semaphore(max(1, pool.size() + pool._max_overflow - CONNECTIONS_OF_TURNS))

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        if self._free is None:
            yield
            return
        try:
            async with asyncio.timeout(self._seconds):
                await self._free.acquire()
        except TimeoutError as error:
            raise PoolTimeoutError(f"other handlers hold all connections, for over {self._seconds:g} s") from error
        try:
            yield
        finally:
            self._free.release()


# A process that was stopped in its transaction holds rows of the handlers' too, for which another process's turn would
# wait without end: it could not even hear that the stopped one's shards are its own now, and free them by taking them
# (S4). As long as a turn may take (`max_poll_interval_ms` in shard_consumer) the transaction lasts at most.
_BEGIN: Final = (
    "BEGIN ISOLATION LEVEL READ COMMITTED; "
    "SET LOCAL lock_timeout = '5s'; SET LOCAL idle_in_transaction_session_timeout = '60s'"
)


async def _start(driver: Connection) -> None:
    """In one round trip."""
    await driver.execute(_BEGIN)


async def _commit(driver: Connection) -> None:
    await driver.execute("COMMIT")


async def _rolled_back(driver: Connection) -> bool:
    """Within bounds; False if it did not work. Nothing is committed either way."""
    try:
        async with asyncio.timeout(END_SECONDS):
            await driver.execute("ROLLBACK")
    except Exception as error:
        log.debug("rollback: %s", error)
        return False
    return True


async def finish(session: AsyncSession) -> None:
    """Flush what is pending, and close the session for good. The transaction goes on."""
    await session.run_sync(_flush_and_close)


async def abandon(session: AsyncSession) -> None:
    """Close it after a failure, without a flush."""
    with suppress(Exception):  # whatever it says, the transaction is rolled back to before this session
        await session.run_sync(close_for_good)


def _flush_and_close(session: Session) -> None:
    session.flush()
    close_for_good(session)
