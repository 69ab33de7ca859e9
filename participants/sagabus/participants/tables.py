"""A participant's own tables, in the schema `sagabus_<service>`: the inbox, and those that both sides have.

Business tables are not among them: they are their owner's, and stand in a schema of the owner's choice.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
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
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.schema import CreateSchema

from sagabus.contracts.names import service_schema
from sagabus.messaging.tables import messaging_tables

_ONE_AT_A_TIME: Final = 0x5A6A_B05
"""Key of the advisory lock under which tables are made: IF NOT EXISTS of two processes at once can fail."""


def participant_tables(service: str) -> MetaData:
    """A new MetaData with all tables of ours for this service."""
    metadata = messaging_tables(service_schema(service))
    _inbox(metadata)
    return metadata


async def create_tables(connection: AsyncConnection, service: str) -> None:
    """Make the schema and the tables that are not there yet. Repeatable, and safe when several processes do it at once.

    Within the connection's transaction: committing it is the caller's.
    """
    await connection.execute(select(func.pg_advisory_xact_lock(_ONE_AT_A_TIME)))
    await connection.execute(CreateSchema(service_schema(service), if_not_exists=True))
    await connection.run_sync(participant_tables(service).create_all)


async def missing_tables(connection: AsyncConnection, service: str) -> list[str]:
    """The tables of ours that this database does not have, sorted."""
    there = text("SELECT table_name FROM information_schema.tables WHERE table_schema = :schema")
    found = set(await connection.scalars(there, {"schema": service_schema(service)}))
    return sorted({table.name for table in participant_tables(service).sorted_tables} - found)


def _inbox(metadata: MetaData) -> None:
    table = Table(
        "inbox",
        metadata,
        Column("source", Text, primary_key=True, comment="which coordinator asks: ce_source"),
        Column("id", Text, primary_key=True, comment="ce_id of the command; for a settle, of the step that it settles"),
        Column("activity", Text, nullable=False),
        Column("state", Text, nullable=False, comment="started, completed, refused, failed, tombstone"),
        Column("attempt", BigInteger, nullable=False, comment="of the outcome; while started, of the latest command"),
        Column("input_hash", LargeBinary, comment="null in a tombstone"),
        Column("reply", LargeBinary, comment="body of the reply"),
        Column("reply_kind", Text, comment="completed, refused, failed, never"),
        Column("at", DateTime(timezone=True), nullable=False, comment="when the outcome was written"),
        Column("shard", Integer, nullable=False, comment="partition of the command topic"),
        Column("command", LargeBinary, comment="body of the command, while started"),
        Column("headers", LargeBinary, comment="headers of the command, while started"),
        # Rows are claimed with nothing in them and filled in the same transaction: with room on their page the second
        # version needs no second index entry.
        postgresql_with={"fillfactor": "50"},
    )
    # Not "WHERE state = 'started'": an index on a column that each row changes would cost each row a second entry.
    Index("inbox_started", table.c.shard, postgresql_where=table.c.headers.is_not(None))
