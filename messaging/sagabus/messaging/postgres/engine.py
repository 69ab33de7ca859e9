"""SQLAlchemy engines over asyncpg: one of ours, and the care for one that somebody else has made.

An engine that is handed in stays its owner's: its connections get limits where the owner gave none, and those that were
there before a failover, or fell silent, are replaced when they are next used. Nothing else of it is changed.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final
from weakref import WeakKeyDictionary

from sqlalchemy import Pool, event
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from sagabus.messaging.database_url import sqlalchemy_url
from sagabus.messaging.postgres.connecting import COMMAND_SECONDS, CONNECT_SECONDS, END_SECONDS, connect

_MADE_AT: Final = "sagabus.made_at"
"""Monotonic seconds, in a connection's record."""

_SPOILT: Final = "sagabus.spoilt"
"""In a connection's record, while it is to be replaced."""

_distrusted: WeakKeyDictionary[Pool, float] = WeakKeyDictionary()
"""Pool to the moment (monotonic seconds) from before which its connections are not to be used."""


def make_engine(url: str, *, connections: int) -> AsyncEngine:
    """url: as `database_url.normalised` gives it, of several hosts too."""
    return create_async_engine(
        sqlalchemy_url(url),
        pool_size=connections,
        pool_timeout=CONNECT_SECONDS,
        async_creator=lambda: connect(url, settings=False),
    )


async def dispose(engine: AsyncEngine) -> None:
    """Close its connections. One that has fallen silent would take as long as a statement, and the next one again: what
    is not closed in `END_SECONDS` is left to the server."""
    try:
        async with asyncio.timeout(END_SECONDS):
            await engine.dispose()
    except TimeoutError:
        await engine.dispose(close=False)


def care_for(engine: AsyncEngine) -> None:
    """Give its connections limits, and replace those of which `distrust` speaks. May be repeated."""
    ours, pool = engine.sync_engine, engine.sync_engine.pool
    if not event.contains(ours, "do_connect", _limit):
        event.listen(ours, "do_connect", _limit)
    if not event.contains(pool, "checkout", _replace):
        event.listen(pool, "connect", _made)
        event.listen(pool, "checkout", _replace)


def distrust(engine: AsyncEngine) -> None:
    """The connections that the pool has now are replaced, each when it is next used."""
    _distrusted[engine.sync_engine.pool] = time.monotonic()


async def dropped(connection: AsyncConnection) -> None:
    """Without a farewell, for which SQLAlchemy would wait two seconds if its server has fallen silent."""
    if not connection.invalidated:
        raw: Any = await connection.get_raw_connection()
        raw.driver_connection.terminate()
        await connection.invalidate()


def replace_when_next_used(info: dict[Any, Any]) -> None:
    """info: of the connection (`Connection.info`). Something was done to its session that nobody else must meet."""
    info[_SPOILT] = True


def _limit(dialect: Any, record: Any, args: Any, options: dict[str, Any]) -> None:
    options.setdefault("timeout", CONNECT_SECONDS)
    options.setdefault("command_timeout", COMMAND_SECONDS)


def _made(connection: Any, record: Any) -> None:
    record.info[_MADE_AT] = time.monotonic()


def is_to_be_replaced(info: dict[Any, Any], pool: Pool) -> bool:
    """Whether this connection is not to be used any more. info: as above."""
    return bool(info.get(_SPOILT)) or _is_distrusted(info, pool)


def _replace(connection: Any, record: Any, proxy: Any) -> None:
    if record.info.get(_SPOILT):
        raise DisconnectionError("its session was changed by whoever had it last")
    if _is_distrusted(record.info, getattr(proxy, "_pool", None)):
        record.driver_connection.terminate()  # else SQLAlchemy waits two seconds for a farewell
        raise DisconnectionError("made before the database failed over or fell silent")


def _is_distrusted(info: dict[Any, Any], pool: Pool | None) -> bool:
    since = None if pool is None else _distrusted.get(pool)
    return since is not None and bool(info.get(_MADE_AT, 0.0) <= since)
