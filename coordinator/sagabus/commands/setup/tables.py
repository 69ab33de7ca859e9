"""`migrate`: makes the tables that the services need, once, before they run."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from typing import Final

from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from sagabus.commands import modules
from sagabus.commands.subcommand import Exit, Failed, say, say_json
from sagabus.contracts import names
from sagabus.coordinator.store.migrations import migrate
from sagabus.coordinator.store.route_tables import make_route_tables
from sagabus.messaging.postgres import condition
from sagabus.messaging.postgres.database import Database
from sagabus.messaging.service.backing import find_backing
from sagabus.messaging.service.participation import Participation
from sagabus.messaging.service.prerequisites import check_encoding
from sagabus.messaging.settings import Settings, load_settings

ANSWER_SECONDS: Final = 10.0
"""To wait for a server that does not answer."""


async def run_migrate(options: Namespace) -> Exit:
    backing = find_backing(load_settings(require=("database",)))
    participants = modules.participants(options.modules) if options.modules else []
    settings = backing.settings
    others = [names.service_schema(one.service.name) for one in participants]
    there = await _there(settings, [settings.namespace, *others])
    try:
        changed = await migrate(settings.database, settings.namespace)
        await make_route_tables(settings.database, settings.namespace)
        await make_tables(settings, participants, business=options.tables)
    except DBAPIError as error:
        raise Failed(Exit.REFUSED, f"PostgreSQL refuses: {error.orig}") from error
    made = [schema for schema in (settings.namespace, *others) if schema not in there]
    if options.json:
        say_json({"schema": settings.namespace, "changed": changed, "participants": others, "made": made})
        return Exit.DONE
    for schema in (settings.namespace, *others):
        was_behind = changed and schema == settings.namespace
        done = "are made" if schema in made else "are brought up to date" if was_behind else "are up to date"
        say(f"schema {schema}: tables {done}")
    return Exit.DONE


async def make_tables(settings: Settings, participants: Sequence[Participation], *, business: bool) -> None:
    """The participants' own tables, and on request those of their authors, in one transaction for each. Repeatable."""
    engine = create_async_engine(settings.sqlalchemy_url)
    try:
        for one in participants:
            async with engine.begin() as connection:
                await one.create_tables(connection)
                if business and one.tables is not None:
                    await connection.run_sync(one.tables.create_all)
    finally:
        await engine.dispose()


async def _there(settings: Settings, schemas: Sequence[str]) -> set[str]:
    """Those that have tables. Raises DatabaseUnreachable, and NotReady for a database that cannot hold all text."""
    database = Database(settings.database)
    try:
        await database.wait_until_reachable(patience=ANSWER_SECONDS)
        async with database.transaction() as connection:
            check_encoding(await condition.encoding(connection))
            return await condition.schemas(connection, schemas)
    finally:
        await database.stop()
