"""Makes the tables of a schema, and brings those of an earlier release up to date, without a migration tool.

For schemas whose columns only ever come in addition: those of participants and of routes. The coordinator's own has
migrations.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, MetaData, Table, func, select, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.schema import CreateSchema

from sagabus.messaging.postgres.plain_view import plain_view
from sagabus.messaging.postgres.tables import qualified

_POSTGRESQL: Final = postgresql.dialect()  # type: ignore[no-untyped-call]

_ONE_AT_A_TIME: Final = 0x5A6A_B05
"""Key of the advisory lock under which tables are made: IF NOT EXISTS of two processes at once can fail."""


async def make_tables(connection: AsyncConnection, metadata: MetaData) -> None:
    """Make the schema and the tables that are not there yet. Repeatable, and safe when several processes do it at once.

    Tables of an earlier version get the columns, indexes and storage settings that they lack. Within the connection's
    transaction: committing it is the caller's. metadata: of one schema.
    """
    assert metadata.schema is not None
    await connection.execute(select(func.pg_advisory_xact_lock(_ONE_AT_A_TIME)))
    await connection.execute(CreateSchema(metadata.schema, if_not_exists=True))
    await connection.run_sync(metadata.create_all)
    await _columns(connection, metadata)
    await connection.run_sync(_indexes, metadata)
    await _storage(connection, metadata)
    for statement in plain_view(metadata.schema):
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
            await connection.execute(text(f"ALTER TABLE {_quoted(table)} {change}"))


def _indexes(connection: Connection, metadata: MetaData) -> None:
    for table in metadata.sorted_tables:
        for index in table.indexes:
            index.create(connection, checkfirst=True)


async def _storage(connection: AsyncConnection, metadata: MetaData) -> None:
    """Only where something differs: the lock that it takes would wait for a VACUUM."""
    there = text(
        "SELECT relname, reloptions FROM pg_class WHERE relnamespace = CAST(quote_ident(:schema) AS regnamespace)"
    )
    found = {row[0]: row[1] or [] for row in await connection.execute(there, {"schema": metadata.schema})}
    for table in metadata.sorted_tables:
        wanted = [f"{name}={value}" for name, value in (table.dialect_options["postgresql"]["with"] or {}).items()]
        if missing := sorted({*wanted} - {*found[table.name]}):
            await connection.execute(text(f"ALTER TABLE {_quoted(table)} SET ({', '.join(missing)})"))


def _quoted(table: Table) -> str:
    """For SQL that is written by hand."""
    return qualified(table.schema or "", table.name)
