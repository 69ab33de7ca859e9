"""Where a command finds the tables and Kafka: by the settings, or without any by the host of this directory."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import asyncpg

from sagabus.commands.subcommand import Exit, Failed
from sagabus.contracts import names
from sagabus.contracts.errors import DeclarationError
from sagabus.messaging.bus.producer import BatchProducer
from sagabus.messaging.postgres.database import Database
from sagabus.messaging.publishing.dead_letter_rows import DeadLetterRows
from sagabus.messaging.publishing.parked_rows import ParkedRows
from sagabus.messaging.service.backing import Backing, find_here

WAIT_SECONDS: Final = 10.0
"""Seconds to wait for a server that does not answer."""


@dataclass(frozen=True)
class ServiceTables:
    """The tables of one side; Kafka is reached when it is asked for."""

    letters: DeadLetterRows
    parked: ParkedRows
    schema: str
    backing: Backing

    @asynccontextmanager
    async def producer(self) -> AsyncIterator[BatchProducer]:
        """Raises KafkaUnreachable."""
        await self.backing.kafka.wait_until_reachable(patience=WAIT_SECONDS)
        producer = self.backing.kafka.producer()
        await producer.start()
        try:
            yield producer
        finally:
            await producer.stop()


@asynccontextmanager
async def opened(options: Namespace, *, kafka: bool = False) -> AsyncIterator[ServiceTables]:
    """Raises SettingsError, DatabaseUnreachable, and Failed where this database has no such tables."""
    backing = find_here(require=("kafka", "database") if kafka else ("database",))
    schema = _schema(options.service, backing)
    database = Database(backing.settings.database)
    try:
        await database.wait_until_reachable(patience=WAIT_SECONDS)
        yield ServiceTables(DeadLetterRows(database, schema), ParkedRows(database, schema), schema, backing)
    except (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError) as error:
        raise Failed(Exit.USAGE, _no_tables(options.service, schema, backing.settings.namespace)) from error
    except asyncpg.InsufficientPrivilegeError as error:
        raise Failed(Exit.REFUSED, f"PostgreSQL refuses: {error}; use the role of the service itself") from error
    finally:
        await database.stop()


def _no_tables(service: str | None, schema: str, namespace: str) -> str:
    cure = f"run `sagabus migrate{' MODULE' if service else ''}`, or set SAGABUS_DATABASE to the database that holds it"
    words = f"the schema {schema} is not in this database, or not up to date: {cure}"
    if service is None:
        return words
    topic = names.dead_letters_topic(namespace)
    return (
        f"{words}. If {service} is written without our kit, it has no such tables: its dead letters are records of the "
        f"topic {topic} whose header x-dlt-by is {service}. Read them there (docs/dead-letters.md). A command among "
        "them is sent again by itself"
    )


def _schema(service: str | None, backing: Backing) -> str:
    try:
        return names.service_schema(names.service_name(service)) if service else backing.settings.namespace
    except DeclarationError as error:
        raise Failed(Exit.USAGE, f"--service {service}: {error}") from error
