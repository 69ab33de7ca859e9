"""Databases for tests of participants, on a PostgreSQL of their own that nobody has to install or start.

All test processes of a user share one embedded server under the folder for temporary files. It is started by the first,
and stopped by the last one to end. Never for data that matters.
"""

from __future__ import annotations

import asyncio
import atexit
import fcntl
import secrets
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from getpass import getuser
from pathlib import Path

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from sagabus.messaging.database_url import sqlalchemy_url
from sagabus.messaging.embedded.embedded_postgres import EmbeddedPostgres


@asynccontextmanager
async def temporary_database() -> AsyncIterator[AsyncEngine]:
    """An engine on a fresh database, dropped on leaving. The first one of a process takes up to two seconds."""
    server = await asyncio.to_thread(_server)
    name = f"scratch_{secrets.token_hex(6)}"
    url = await asyncio.to_thread(server.start, name)
    engine = create_async_engine(sqlalchemy_url(url))
    try:
        yield engine
    finally:
        await engine.dispose()
        await _drop(server.url("postgres"), name)


async def _drop(url: str, name: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
    finally:
        await connection.close()


@cache
def _server() -> EmbeddedPostgres:
    """This process counts as a user of the server by a shared lock, which goes with it however it ends."""
    folder = Path(tempfile.gettempdir()) / f"sagabus-tests-{getuser()}"
    folder.mkdir(parents=True, exist_ok=True)
    users = (folder / "users.lock").open("w")
    fcntl.flock(users, fcntl.LOCK_SH)
    server = EmbeddedPostgres(folder)

    def leave() -> None:
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return  # somebody else still uses it
        server.stop()

    atexit.register(leave)
    return server
