"""Transactions over a SQLAlchemy engine that somebody else owns: a participant's own sessions write in them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar, cast

from sqlalchemy import NullPool, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from sagabus.contracts.errors import SagabusError
from sagabus.messaging.postgres import connecting
from sagabus.messaging.postgres.borrowed import Borrowed
from sagabus.messaging.postgres.connecting import END_SECONDS, Connection, answered, begun, committed, is_unusable
from sagabus.messaging.postgres.database import Database
from sagabus.messaging.postgres.engine import care_for, distrust, dropped
from sagabus.messaging.postgres.lender import Lender
from sagabus.messaging.postgres.reachability import UNREACHABLE, out_of_reach
from sagabus.messaging.postgres.silence import watched

T = TypeVar("T")

log = logging.getLogger(__name__)

_LOCAL = text(
    "SELECT set_config('lock_timeout', :lock, true), set_config('idle_in_transaction_session_timeout', :idle, true)"
)


class EngineDatabase(Database):
    """Transactions over somebody else's SQLAlchemy engine, for handlers that write through a session."""

    def __init__(self, engine: AsyncEngine) -> None:
        super().__init__("")
        if engine.dialect.driver != "asyncpg":
            raise SagabusError(
                f"this engine uses the driver {engine.dialect.driver!r}: make it with postgresql+asyncpg://…"
            )
        self._engine = engine
        self.lender = Lender(engine)
        """Of its connections, for whoever needs SQLAlchemy's transactions as little as `read` and `write` do."""
        self._stands_alone = not isinstance(engine.sync_engine.pool, NullPool)  # for which each would connect anew
        care_for(engine)

    @property
    def address(self) -> str:
        return self._engine.url.render_as_string(hide_password=True)

    @property
    def stands_alone(self) -> bool:
        return self._stands_alone

    async def start(self) -> None:
        """Nothing: the engine connects by itself."""

    async def stop(self) -> None:
        """The engine is its owner's: what is kept of its connections goes back to its pool."""
        await self.lender.return_kept()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """As with a pool of our own."""
        async with self.session_transaction() as connection:
            yield await self.driver(connection)

    async def read(self, reading: Callable[[Connection], Awaitable[T]]) -> T:
        """As with a pool of our own, where the engine's sessions are as ours would be; else in a transaction."""
        with out_of_reach():
            borrowed = await self._borrowed()
        if borrowed is not None:
            try:
                return await self._alone(borrowed, reading, connecting.BEGIN_SECONDS, "a read")
            except Exception as error:
                if not self._distrusted(error):
                    raise
        async with self.transaction() as connection:
            return await reading(connection)

    async def write(self, writing: Callable[[Connection], Awaitable[T]]) -> T:
        """The same."""
        with out_of_reach():
            borrowed = await self._borrowed()
        if borrowed is None:
            async with self.transaction() as connection:
                return await writing(connection)
        try:
            return await self._alone(borrowed, writing, connecting.COMMIT_SECONDS, "a write")
        except Exception as error:
            self._distrusted(error)
            raise

    async def _borrowed(self) -> Borrowed | None:
        """None if a statement is not to stand alone on this engine, or the connection is of no use: then a BEGIN finds
        another one, or says why there is none."""
        if isinstance(self._engine.sync_engine.pool, NullPool):
            return None
        try:
            borrowed = await self.lender.borrow()
        except UNREACHABLE as error:
            self._distrusted(error)
            return None
        try:
            alone = borrowed.known_alone  # nearly always known
            if alone is None:
                alone = await answered(borrowed.stands_alone(), connecting.BEGIN_SECONDS, "a question")
            self._stands_alone = alone
            if alone:
                return borrowed
        except UNREACHABLE as error:
            self._distrusted(error)
            await borrowed.drop()
            return None
        except BaseException:
            await borrowed.drop()
            raise
        await self.lender.give_back(borrowed)
        return None

    async def _alone(
        self, borrowed: Borrowed, doing: Callable[[Connection], Awaitable[T]], seconds: float, what: str
    ) -> T:
        usable = False
        try:
            with watched(borrowed.driver, lambda: distrust(self._engine)):
                done = await answered(doing(borrowed.driver), seconds, what)
            usable = True
            return done
        except Exception as error:
            usable = not (is_unusable(error) or borrowed.driver.is_closed())
            raise
        finally:
            await (self.lender.give_back(borrowed) if usable else borrowed.drop())

    @asynccontextmanager
    async def session_transaction(self) -> AsyncIterator[AsyncConnection]:
        """One transaction to which sessions can be bound, READ COMMITTED whatever the engine's default is.

        SQLAlchemy sends BEGIN with the first statement that goes through it, so the first one is ours; without it, what
        goes to the driver would be committed statement by statement.
        """
        with out_of_reach():
            connection = await self._begun_session()
        try:
            with watched(await self.driver(connection), lambda: distrust(self._engine)):
                yield connection
            await committed(connection.commit())
        except BaseException as error:
            if self._distrusted(error):
                await dropped(connection)
            raise
        finally:
            await _closed_session(connection)

    async def _begun_session(self) -> AsyncConnection:
        try:
            return await self._begin_session(connecting.BEGIN_SECONDS)
        except UNREACHABLE as error:  # perhaps only this connection: a pool keeps what the server has closed
            self._distrusted(error)
        return await self._begin_session(connecting.COMMAND_SECONDS)

    async def _begin_session(self, seconds: float) -> AsyncConnection:
        connection = await self._engine.connect()
        try:
            await connection.execution_options(isolation_level="READ COMMITTED")
            await begun(_limited(connection), seconds)
        except BaseException:
            await dropped(connection)
            await _closed_session(connection)
            raise
        return connection

    def _distrusted(self, error: BaseException) -> bool:
        if unusable := is_unusable(getattr(error, "orig", None) or error):
            distrust(self._engine)
        return unusable

    @staticmethod
    async def driver(connection: AsyncConnection) -> Connection:
        """The asyncpg connection below; what it does is part of the same transaction."""
        raw: Any = await connection.get_raw_connection()
        return cast("Connection", raw.driver_connection)


async def _limited(connection: AsyncConnection) -> None:
    await connection.execute(_LOCAL, {"lock": connecting.LOCK_TIMEOUT, "idle": f"{connecting.IDLE_SECONDS:g}s"})


async def _closed_session(connection: AsyncConnection) -> None:
    """Rolled back where it is still in a transaction, and given back; within bounds."""
    try:
        async with asyncio.timeout(END_SECONDS):
            await connection.close()
    except Exception as error:
        log.debug("a connection was not given back: %s", error)
