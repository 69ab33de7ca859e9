"""Makes the coordinator's schema, and brings it up to date. Alembic does it; nobody needs an alembic.ini.

All of a migration is one transaction, under an advisory lock: of two that run at once, the second finds nothing to do.
A revision under `versions/` is never changed once released; `tables` says what the last one leaves behind.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection as SyncConnection
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool
from sqlalchemy.schema import CreateSchema

from sagabus.messaging import database_url
from sagabus.messaging.postgres.database import Connection
from sagabus.messaging.postgres.tables import qualified

VERSION_TABLE: Final = "alembic_version"

MIGRATION_WAIT_SECONDS: Final = 60
"""Seconds that a migration waits for another one, or for a table that is in use."""


async def migrate(url: str, schema: str) -> bool:
    """Bring the schema up to date, and make it if need be. Whether there was anything to do.

    url: `postgresql://…`. May be run by any number of processes at once, and again. Raises what SQLAlchemy raises; the
    schema is then as it was.
    """
    address = database_url.sqlalchemy_url(database_url.normalised(url))
    engine = create_async_engine(address, poolclass=NullPool)
    try:
        async with engine.begin() as connection:
            return await connection.run_sync(_migrated, schema)
    finally:
        await engine.dispose()


async def schema_version(connection: Connection, schema: str) -> str | None:
    """The revision that this schema is at; None where it was never migrated."""
    table = qualified(schema, VERSION_TABLE)
    if await connection.fetchval("SELECT to_regclass($1) IS NULL", table):
        return None
    found: str | None = await connection.fetchval(f"SELECT version_num FROM {table}")
    return found


async def schema_is_current(connection: Connection, schema: str) -> bool:
    """Whether the schema is the one that this release works with. If not: `sagabus migrate`."""
    return await schema_version(connection, schema) == head()


def head() -> str:
    """The revision that this release works with."""
    found = ScriptDirectory.from_config(_config()).get_current_head()
    assert found is not None
    return found


def _migrated(connection: SyncConnection, schema: str) -> bool:
    connection.execute(text(f"SET LOCAL lock_timeout = '{MIGRATION_WAIT_SECONDS}s'"))
    connection.execute(_LOCK, {"name": f"sagabus migrate {schema}"})
    if not connection.scalar(_HAS_SCHEMA, {"name": schema}):
        connection.execute(CreateSchema(schema))
    # The scripts name no schema: what they make stands in ours, and public is out of sight.
    connection.execute(_SEARCH_PATH, {"path": qualified(schema, "").removesuffix(".")})
    migration = MigrationContext.configure(connection, opts={"version_table_schema": schema})
    if migration.get_current_revision() == head():
        return False
    config = _config()
    config.attributes.update(connection=connection, schema=schema)
    command.upgrade(config, "head")
    return True


_LOCK: Final = text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))")
_HAS_SCHEMA: Final = text("SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = :name)")
_SEARCH_PATH: Final = text("SELECT set_config('search_path', :path, true)")


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    return config
