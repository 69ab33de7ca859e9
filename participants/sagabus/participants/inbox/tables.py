"""A participant's own tables, in the schema `sagabus_<service>`: the inbox, and those that both sides have.

Business tables are not among them: they are their owner's, and stand in a schema of the owner's choice.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, DateTime, Index, Integer, LargeBinary, MetaData, Table, Text
from sqlalchemy.ext.asyncio import AsyncConnection

from sagabus.contracts.names import service_schema
from sagabus.messaging.postgres.schema_upkeep import make_tables
from sagabus.messaging.postgres.tables import KEPT_STORAGE, messaging_tables


def participant_tables(service: str) -> MetaData:
    """A new MetaData with all tables of ours for this service."""
    metadata = messaging_tables(service_schema(service))
    _inbox(metadata)
    return metadata


async def create_tables(connection: AsyncConnection, service: str) -> None:
    """Make the schema and the tables that are not there yet, and bring those of an earlier version up to date.

    Repeatable, and safe when several processes do it at once. Within the connection's transaction: committing it is the
    caller's.
    """
    await make_tables(connection, participant_tables(service))


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
