"""A participant's own tables, in the schema `sagabus_<service>`: the inbox, and those that both sides have.

Business tables are not among them: they are their owner's, and stand in a schema of the owner's choice.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    DateTime,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    func,
    select,
    text,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.schema import CreateSchema

from sagabus.contracts.names import service_schema
from sagabus.messaging.postgres.plain_view import plain_view
from sagabus.messaging.postgres.tables import KEPT_STORAGE, messaging_tables

_POSTGRESQL: Final = postgresql.dialect()  # type: ignore[no-untyped-call]

_ONE_AT_A_TIME: Final = 0x5A6A_B05
"""Key of the advisory lock under which tables are made: IF NOT EXISTS of two processes at once can fail."""


def participant_tables(service: str) -> MetaData:
    """A new MetaData with all tables of ours for this service."""
    metadata = messaging_tables(service_schema(service))
    _inbox(metadata)
    return metadata


async def create_tables(connection: AsyncConnection, service: str) -> None:
    """Make the schema and the tables that are not there yet. Repeatable, and safe when several processes do it at once.

    Tables of an earlier version get the columns, indexes and storage settings that they lack. Within the connection's
    transaction: committing it is the caller's.
    """
    await connection.execute(select(func.pg_advisory_xact_lock(_ONE_AT_A_TIME)))
    await connection.execute(CreateSchema(service_schema(service), if_not_exists=True))
    metadata = participant_tables(service)
    await connection.run_sync(metadata.create_all)
    await _columns(connection, metadata)
    await connection.run_sync(_indexes, metadata)
    await _storage(connection, metadata)
    for statement in plain_view(service_schema(service)):
        await connection.exec_driver_sql(statement)


async def _columns(connection: AsyncConnection, metadata: MetaData) -> None:
    """Every column that is added later takes NULL, and one that did not may come to do so."""
    asked = "SELECT column_name, is_nullable = 'YES' FROM information_schema.columns"
    for table in metadata.sorted_tables:
        place = {"schema": table.schema, "name": table.name}
        rows = await connection.execute(text(f"{asked} WHERE table_schema = :schema AND table_name = :name"), place)
        there = {row[0]: row[1] for row in rows}
        for column in table.columns:
            if column.name not in there:
                change = f'ADD "{column.name}" {column.type.compile(_POSTGRESQL)}'
            elif column.nullable and not there[column.name]:
                change = f'ALTER "{column.name}" DROP NOT NULL'
            else:
                continue
            await connection.execute(text(f"ALTER TABLE {table.fullname} {change}"))


def _indexes(connection: Connection, metadata: MetaData) -> None:
    for table in metadata.sorted_tables:
        for index in table.indexes:
            index.create(connection, checkfirst=True)


async def _storage(connection: AsyncConnection, metadata: MetaData) -> None:
    """Only where something differs: the lock that it takes would wait for a VACUUM."""
    there = text("SELECT relname, reloptions FROM pg_class WHERE relnamespace = CAST(:schema AS regnamespace)")
    found = {row[0]: row[1] or [] for row in await connection.execute(there, {"schema": metadata.schema})}
    for table in metadata.sorted_tables:
        wanted = [f"{name}={value}" for name, value in (table.dialect_options["postgresql"]["with"] or {}).items()]
        if missing := sorted({*wanted} - {*found[table.name]}):
            await connection.execute(text(f"ALTER TABLE {table.fullname} SET ({', '.join(missing)})"))


def _inbox(metadata: MetaData) -> None:
    table = Table(
        "inbox",
        metadata,
        Column("source", Text, primary_key=True, comment="which coordinator asks: ce_source"),
        Column("id", Text, primary_key=True, comment="ce_id of the command; for a settle, of the step that it settles"),
        Column("activity", Text, nullable=False),
        Column("state", Text, nullable=False, comment="started, completed, refused, failed, tombstone"),
        Column("attempt", BigInteger, nullable=False, comment="of the outcome; while started, of the command kept"),
        Column("input_hash", LargeBinary, comment="null in a tombstone"),
        Column("reply", LargeBinary, comment="body of the reply"),
        Column("reply_kind", Text, comment="completed, refused, failed, never"),
        Column("at", DateTime(timezone=True), nullable=False, comment="when the outcome was written"),
        Column("shard", Integer, nullable=False, comment="partition of the command topic"),
        Column("command", LargeBinary, comment="body of the command, while started"),
        Column("headers", LargeBinary, comment="headers of the command, while started"),
        # Rows are written once, but for those of external handlers. Said, since tables of before have another value.
        postgresql_with={"fillfactor": "100", **KEPT_STORAGE},
    )
    # Not "WHERE state = 'started'": an index on a column that each row changes would cost each row a second entry.
    Index("inbox_at", table.c.shard, table.c.at)  # what retention removes next; 20 bytes a row
    Index(
        "inbox_started_at", table.c.shard, table.c.at, table.c.source, table.c.id,
        postgresql_where=table.c.headers.is_not(None),
    )  # fmt: skip
