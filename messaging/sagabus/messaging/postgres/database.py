"""Transactions on PostgreSQL, over a pool of our own or over an engine that somebody else owns.

Hot statements go to the asyncpg driver itself (COPY, unnest). A transaction is always an argument, never hidden state,
and nothing here retries one: whether a failed commit happened is unknown, and only the tenure's rules know what to do.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any, Final, TypeAlias, cast

import asyncpg
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from sagabus.contracts.errors import ExitCode, SagabusError
from sagabus.messaging.backoff import Backoff, until_reachable
from sagabus.messaging.database_url import masked

log = logging.getLogger(__name__)

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

CONNECTIONS: Final = 4
"""One turn at a time needs one; the others are for reading beside it."""

CONNECT_TIMEOUT: Final = 5.0
"""Seconds. As long as a process may be without its database before it gives its shards to others (S10)."""

SESSION: Final = {
    "application_name": "sagabus",
    # The fence looks at the row as the other transaction left it: so READ COMMITTED does. Stricter levels would raise
    # where zero rows are the answer.
    "default_transaction_isolation": "read committed",
    # A shard row is held for one turn, milliseconds. Who waits longer waits for a process that hangs.
    "lock_timeout": "5s",
    # The largest statement of a turn copies some thousand rows. Well under the poll interval that Kafka grants.
    "statement_timeout": "30s",
    # Nothing is computed within a transaction: between two statements passes no time worth mentioning.
    "idle_in_transaction_session_timeout": "10s",
    # Statements of a millisecond: compiling them costs more than running them.
    "jit": "off",
    # Plans made while the tables were tiny keep scanning them whole until the next autoanalyze: at 100,000 sagas,
    # reading 300 histories took 170 ms instead of 37.
    "enable_seqscan": "off",
}

FIRST_PAUSE_SECONDS: Final = 0.1
LONGEST_PAUSE_SECONDS: Final = 2.0
"""Between two tries to reach the database, doubling from the first."""

COMMAND_TIMEOUT: Final = 35.0
"""Seconds until we stop waiting for an answer. Over statement_timeout: it is for a server that has fallen silent."""

UNREACHABLE: Final = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.InvalidAuthorizationSpecificationError,  # this one and the next: the database may still be being set up
    asyncpg.InvalidCatalogNameError,
    DBAPIError,
)


class DatabaseUnreachable(SagabusError):
    """No connection could be had. Nothing was begun."""

    exit_code = ExitCode.UNREACHABLE


class Database:
    """Transactions over an asyncpg pool of our own.

    `url` is `postgresql://…`, also with `+asyncpg`. Every connection has the settings of `SESSION`.
    """

    def __init__(self, url: str, *, connections: int = CONNECTIONS) -> None:
        self._url = url.replace("postgresql+asyncpg://", "postgresql://", 1)
        self._connections = connections
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None

    @staticmethod
    def of_engine(engine: AsyncEngine) -> EngineDatabase:
        """Transactions over an engine with the asyncpg driver, which stays its owner's."""
        return EngineDatabase(engine)

    @property
    def address(self) -> str:
        """For messages: without the password."""
        return masked(self._url)

    async def start(self) -> None:
        """Raises DatabaseUnreachable. A second call does nothing."""
        if self._pool is not None:
            return
        with _out_of_reach():
            self._pool = await asyncpg.create_pool(
                self._url,
                min_size=1,
                max_size=self._connections,
                timeout=CONNECT_TIMEOUT,
                command_timeout=COMMAND_TIMEOUT,
                server_settings=SESSION,
                reset=_nothing_to_reset,
            )

    async def stop(self) -> None:
        """Waits for the transactions that are under way, but for no answer that does not come."""
        pool, self._pool = self._pool, None
        if pool is None:
            return
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                await pool.close()
        except TimeoutError:
            pool.terminate()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """One transaction, committed on leaving, rolled back by an exception.

        Raises DatabaseUnreachable if it could not begin. Any other error, of the commit as well: outcome unknown.
        """
        async with AsyncExitStack() as stack:
            with _out_of_reach():
                connection = await self._begin(stack)
            yield connection

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

    async def _begin(self, stack: AsyncExitStack) -> Connection:
        await self.start()
        assert self._pool is not None
        proxy = await stack.enter_async_context(self._pool.acquire(timeout=CONNECT_TIMEOUT))
        connection = cast("Connection", proxy)
        await stack.enter_async_context(connection.transaction())
        return connection


class EngineDatabase(Database):
    """Transactions over somebody else's SQLAlchemy engine, for handlers that write through a session."""

    def __init__(self, engine: AsyncEngine) -> None:
        super().__init__("")
        if engine.dialect.driver != "asyncpg":
            raise SagabusError(
                f"this engine uses the driver {engine.dialect.driver!r}: make it with postgresql+asyncpg://…"
            )
        self._engine = engine

    @property
    def address(self) -> str:
        return self._engine.url.render_as_string(hide_password=True)

    async def start(self) -> None:
        """Nothing: the engine connects by itself."""

    async def stop(self) -> None:
        """Nothing: the engine is its owner's."""

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """As with a pool of our own."""
        async with self.session_transaction() as connection:
            yield await self.driver(connection)

    @asynccontextmanager
    async def session_transaction(self) -> AsyncIterator[AsyncConnection]:
        """One transaction to which sessions can be bound, READ COMMITTED whatever the engine's default is.

        SQLAlchemy sends BEGIN with the first statement that goes through it, so the first one is ours; without it, what
        goes to the driver would be committed statement by statement.
        """
        async with AsyncExitStack() as stack:
            with _out_of_reach():
                connection = await stack.enter_async_context(self._engine.connect())
                await connection.execution_options(isolation_level="READ COMMITTED")
                await stack.enter_async_context(connection.begin())
                await connection.execute(_LOCAL, {"lock_timeout": SESSION["lock_timeout"]})
            yield connection

    @staticmethod
    async def driver(connection: AsyncConnection) -> Connection:
        """The asyncpg connection below; what it does is part of the same transaction."""
        raw: Any = await connection.get_raw_connection()
        return cast("Connection", raw.driver_connection)


_LOCAL = text("SELECT set_config('lock_timeout', :lock_timeout, true)")


async def _nothing_to_reset(_: object) -> None:
    """asyncpg's own reset is a round trip for each transaction; we change no setting for longer than a transaction."""


@contextmanager
def _out_of_reach() -> Iterator[None]:
    try:
        yield
    except UNREACHABLE as error:
        said = getattr(error, "orig", None) or error  # without what SQLAlchemy puts around it
        raise DatabaseUnreachable(f"PostgreSQL is out of reach: {str(said) or type(said).__name__}") from error
