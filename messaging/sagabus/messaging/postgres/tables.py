"""The tables that both sides have: shard, outbox, outbox_parked, dead_letter. One definition for two schemas.

The coordinator has them in the schema of its namespace, a participant in `sagabus_<service>`. Payloads are kept as the
bytes that came: no SQL ever asks about them, and jsonb would refuse what other languages write.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    Uuid,
    func,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import TypeEngine

TIME: Final = DateTime(timezone=True)

_TOPICS_COMMENT: Final = '{topic: {"id": topic id, "next": offset of the first record not taken in}}'

_OLDER_COMMENT: Final = "of rows that a release before 0007 has written"

SHARD_STORAGE: Final = {
    "fillfactor": "10",
    "autovacuum_vacuum_scale_factor": "0",
    "autovacuum_vacuum_threshold": "1000",
}
"""A row that is written in every turn has its page to itself, with room for the versions that readers may still see: of
19,248 updates none needed an index entry, against 47 of 12,768 without. A dozen pages are no price."""

QUEUE_STORAGE: Final = {
    "autovacuum_vacuum_scale_factor": "0",
    "autovacuum_vacuum_threshold": "1000",
    "autovacuum_vacuum_cost_delay": "0",
}
"""For tables whose rows come and go: few are there, thousands a second are deleted. PostgreSQL goes by how many were
there when it last looked; had it looked during a backlog, it would let a fifth of that many dead rows gather. With a
thousand it cleans up at each of its rounds (a minute apart: `autovacuum_naptime`), and at full speed. Reasoned, not
measured: at the rates that were tried, files did not become smaller by it."""

KEPT_STORAGE: Final = {"autovacuum_vacuum_scale_factor": "0.05"}
"""For tables that keep rows until retention removes the oldest: by default a fifth of two weeks would have to be dead
before the space is used again."""


def messaging_tables(schema: str) -> MetaData:
    """A new MetaData of this schema that holds the four tables; a side adds its own to it."""
    metadata = MetaData(schema=schema)
    _shard(metadata)
    Table("outbox", metadata, *_message(), postgresql_with=QUEUE_STORAGE)
    _outbox_parked(metadata)
    _dead_letter(metadata)
    return metadata


def qualified(schema: str, table: str) -> str:
    """The table's name for SQL that is written by hand."""
    quoted = schema.replace('"', '""')
    return f'"{quoted}".{table}'


def _shard(metadata: MetaData) -> None:
    Table(
        "shard",
        metadata,
        Column("shard", Integer, primary_key=True, autoincrement=False),
        required("token", Uuid()),
        required("turn", BigInteger()),
        required("cluster", Text(), comment="id of the Kafka cluster that the generation counts in"),
        required("generation", BigInteger(), comment="of the consumer group, as of the take"),
        Column("backend_pid", Integer, comment="of the take; a pool may use another one later"),
        Column("backend_start", TIME),
        required("partitions", Integer(), comment="of the topic that numbers the shards, at first use"),
        required("topics", JSONB(), comment=_TOPICS_COMMENT),
        required("next_position", BigInteger()),
        required("relay_position", BigInteger(), comment="every outbox row up to here has been published"),
        Column("pruned_before", TIME, comment="what is older may have been forgotten (P5, H2)"),
        _at("beat_at"),
        postgresql_with=SHARD_STORAGE,
    )


def _outbox_parked(metadata: MetaData) -> None:
    table = Table(
        "outbox_parked",
        metadata,
        *_message(),
        required("reason", Text()),
        _at("parked_at"),
        Column("released_at", TIME, comment="when a person asked for it to be sent again"),
        Column("release_reason", Text, comment="the person's word"),
    )
    Index("outbox_parked_released", table.c.shard, postgresql_where=table.c.released_at.is_not(None))


def _dead_letter(metadata: MetaData) -> None:
    Table(
        "dead_letter",
        metadata,
        Column("id", BigInteger, Identity(always=True), primary_key=True),
        required("shard", Integer()),
        required("reason", Text(), comment="stable code"),
        required("message", Text(), comment="for people"),
        *record_columns(),
        _at("at"),
    )


def _message() -> tuple[Column[Any], ...]:
    return (
        Column("shard", Integer, primary_key=True, autoincrement=False),
        Column("position", BigInteger, primary_key=True, autoincrement=False),
        required("saga_id", Text()),
        required("topic", Text()),
        Column("partition", Integer, comment="null: from the key"),
        Column("key", LargeBinary, comment=_OLDER_COMMENT),
        Column("headers", LargeBinary, comment=_OLDER_COMMENT),
        Column("value", LargeBinary, comment=_OLDER_COMMENT),
        Column("record", LargeBinary, comment="key, value and headers in Kafka's format; outbox_plain reads it"),
    )


def record_columns() -> tuple[Column[Any], ...]:
    """Of a table that keeps records as they were read."""
    return (
        required("topic", Text()),
        required("partition", Integer()),
        required("offset", BigInteger()),
        required("timestamp", BigInteger(), comment="of the record, in milliseconds"),
        Column("key", LargeBinary),
        required("headers", LargeBinary()),
        Column("value", LargeBinary),
    )


def required(name: str, type_: TypeEngine[Any], *, comment: str | None = None) -> Column[Any]:
    """A column that is never null."""
    return Column(name, type_, nullable=False, comment=comment)


def _at(name: str) -> Column[Any]:
    return Column(name, TIME, nullable=False, server_default=func.clock_timestamp())
