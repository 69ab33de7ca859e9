"""A connection of somebody else's engine, from its pool, without SQLAlchemy above it.

SQLAlchemy's connect, BEGIN and close cost three times what a statement does. What goes to the driver alone needs none
of them; the pool is asked as SQLAlchemy asks it, so that its owner's events and limits hold.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final, cast

from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.util import greenlet_spawn

from sagabus.messaging.postgres.connecting import END_SECONDS, Connection
from sagabus.messaging.postgres.reachability import DatabaseUnreachable

log = logging.getLogger(__name__)

KEPT_SECONDS: Final = 0.5
"""For which one may be kept that comes back (`lender`), since the pool gave it out. Turns under load are milliseconds
apart; heartbeats are a second apart, and need none."""

_ALONE: Final = "sagabus.alone"
"""In a connection's record: whether a statement may stand alone there."""

_ALONE_SQL: Final = (
    "/* session.isolation */ SELECT current_setting('default_transaction_isolation') = 'read committed' "
    "AND current_setting('default_transaction_read_only') = 'off'"
)


class Borrowed:
    """To be given back or dropped, once: through its `Lender`, or here."""

    __slots__ = ("driver", "info", "record", "until")

    def __init__(self, record: Any) -> None:
        """record: as the pool has given it, for what SQLAlchemy puts above it."""
        self.record = record
        self.driver = cast("Connection", record.driver_connection)
        self.info: dict[Any, Any] = record.info
        """Of the connection's record, for as long as the pool has it."""
        self.until = asyncio.get_running_loop().time() + KEPT_SECONDS
        """When it has to go back at the latest, by the loop's clock."""

    @classmethod
    async def of(cls, engine: AsyncEngine) -> Borrowed:
        """Raises what the pool raises; DatabaseUnreachable for what SQLAlchemy would put in an exception of its own."""
        try:
            return cls(await engine.raw_connection())
        except engine.sync_engine.dialect.loaded_dbapi.Error as error:
            raise DatabaseUnreachable(f"PostgreSQL is unreachable: {error}") from error

    @property
    def known_alone(self) -> bool | None:
        """What `stands_alone` has said of this connection; None before it was asked."""
        known: bool | None = self.info.get(_ALONE)
        return known

    async def stands_alone(self) -> bool:
        """Whether a statement without BEGIN does what it does in a transaction of ours. To be asked once a connection.

        Not at another level than READ COMMITTED, where the fence would raise instead of finding nothing. Nor without
        asyncpg's cache of statements: whoever turns it off has a pooler, which may give each of the two messages of a
        statement another session.
        """
        alone = self._keeps_statements() and bool(await self.driver.fetchval(_ALONE_SQL))
        self.info[_ALONE] = alone
        return alone

    def _keeps_statements(self) -> bool:
        config = getattr(self.driver, "_config", None)  # asyncpg tells it nowhere else
        return getattr(config, "statement_cache_size", 0) > 0

    async def give_back(self) -> None:
        """Within bounds. Raises nothing but a cancellation."""
        try:
            async with asyncio.timeout(END_SECONDS):
                await greenlet_spawn(self.record.close)
        except Exception as error:
            log.debug("a connection was not given back: %s", error)

    async def drop(self) -> None:
        """Without a farewell, for which SQLAlchemy would wait two seconds if its server has fallen silent."""
        self.driver.terminate()
        await greenlet_spawn(self.record.invalidate)
