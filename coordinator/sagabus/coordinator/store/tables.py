"""The coordinator's tables: messaging's four, and saga, started_id, history, timer, early_request, shard_owner.

They stand in the schema of the namespace. `migrations` makes them; a test holds the two together. Times are
`timestamptz`, since people read these tables with psql. Payloads are `bytea`: jsonb costs two to three times as much
and refuses what other languages write. Ids compare as bytes (collation C): no index breaks with another libc's order.

Indexes beyond the keys are those that a read needs, because each one is paid for by every saga:

- `saga_open`: at most one open run an id (S12);
- `saga_shard`: the open sagas of a shard that is taken. Of 100,000 on 12 shards it finds a shard's in 7 ms, not in 200;
- `saga_listed`: sagas of a status by time of start, for lists;
- `saga_attention`: the few that are flagged for attention;
- `saga_blocked`: those of a shard that could not go on, and are tried again after a take;
- `saga_attributes`: the sagas that have attributes, by these. Sagas of a definition that declares none are not in it;
- `timer_due`: the timers of a shard in the order in which they fire. Those of the next minutes are in memory;
- `dead_letter_key`: the dead letters of one saga, the latest last. Of the key it holds a hash: keys may be very long;
- `saga_closed`, `started_id_until`: what retention removes next in a shard.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from sagabus.coordinator.core.saga.status import CLOSED, SagaStatus
from sagabus.messaging.postgres.tables import (
    KEPT_STORAGE,
    QUEUE_STORAGE,
    TIME,
    messaging_tables,
    record_columns,
    required,
)

OPEN: Final = tuple(status for status in SagaStatus if status not in CLOSED)
"""In SQL and in the index's predicate alike: PostgreSQL uses the index only for the words that it was made with."""

IS_OPEN: Final = f"status IN ({', '.join(repr(status.value) for status in OPEN)})"

UNKNOWN_EVENTS: Final = "'{\"row\": 0}'::jsonb"
"""What a release says of events that knows nothing of them, as it does not name the column. Null says: of none."""

_ID: Final = Text(collation="C")


def coordinator_tables(schema: str) -> MetaData:
    """A new MetaData with all of the coordinator's tables in this schema, which is the namespace."""
    metadata = messaging_tables(schema)
    _saga(metadata)
    _history(metadata)
    _started_id(metadata)
    _timer(metadata)
    _early_request(metadata)
    _shard_owner(metadata)
    letters = metadata.tables[f"{schema}.dead_letter"]
    Index("dead_letter_key", func.sha256(letters.c.key), letters.c.id)
    return metadata


def _saga(metadata: MetaData) -> None:
    table = Table(
        "saga",
        metadata,
        Column("id", _ID, primary_key=True),
        Column("run", _ID, primary_key=True, comment="born with the saga: a reused id never meets old messages"),
        required("definition", Text()),
        required("version", Integer()),
        required("fingerprint", Text(), comment="of the code that ran it last"),
        required("status", Text()),
        required("shard", Integer(), comment="murmur2(id) mod the partitions at its start"),
        required("sequence", Integer(), comment="of its last lifecycle event, as of the last change of this row"),
        required("last_now", TIME),
        required("input_hash", LargeBinary()),
        required("started_at", TIME),
        Column("result", LargeBinary),
        Column("error", LargeBinary),
        Column("attributes", JSONB, comment="that its code has set; null of a saga that declares none"),
        Column("parent_id", _ID),
        Column("parent_run", _ID),
        Column("parent_step", Integer),
        Column("parent_shard", Integer),
        Column("attention", Text, comment="why a person should look"),
        Column("concerns", JSONB, comment="all of why: [{kind, number, words}]"),
        Column("decided", Integer, comment="history rows after this one were taken, but not decided upon"),
        required("paused", Boolean()),
        required("trace", LargeBinary()),
        Column("closed_at", TIME),
        Column(
            "events",
            JSONB,
            server_default=text(UNKNOWN_EVENTS),
            comment="of its code, as of that row of history: {row, awaited: [{name, since}], kept: [{name, number}]}",
        ),
        postgresql_with=KEPT_STORAGE,
    )
    Index("saga_open", table.c.id, unique=True, postgresql_where=text(IS_OPEN))
    Index("saga_shard", table.c.shard, table.c.id, postgresql_where=text(IS_OPEN))
    Index("saga_listed", table.c.status, table.c.started_at)
    Index("saga_attention", table.c.started_at, postgresql_where=text("attention IS NOT NULL"))
    Index("saga_blocked", table.c.shard, table.c.id, postgresql_where=text("decided IS NOT NULL"))
    Index(
        "saga_attributes",
        table.c.attributes,
        postgresql_using="gin",
        postgresql_ops={"attributes": "jsonb_path_ops"},
        postgresql_where=text("attributes IS NOT NULL"),
    )
    Index("saga_closed", table.c.shard, table.c.closed_at, postgresql_where=text("closed_at IS NOT NULL"))


def _history(metadata: MetaData) -> None:
    Table(
        "history",
        metadata,
        Column("id", _ID, primary_key=True),
        Column("run", _ID, primary_key=True),
        Column("seq", Integer, primary_key=True, autoincrement=False),
        required("at", TIME),
        required("kind", Text()),
        required("step", Integer(), comment="the step, the publication's number or the timer's"),
        required("attempt", BigInteger(), comment="as a reply says: anybody's number"),
        required("name", Text(), comment="activity, event, kind of timer or of end"),
        required("ref", Text(), comment="id of the message that brought an input"),
        Column("payload", LargeBinary, comment="the bytes as they came, or as they were sent"),
        required("sequence", Integer(), comment="the saga's last lifecycle event when this row was written"),
        postgresql_with=KEPT_STORAGE,
    )


def _started_id(metadata: MetaData) -> None:
    table = Table(
        "started_id",
        metadata,
        Column("id", _ID, primary_key=True),
        required("run", _ID),
        required("input_hash", LargeBinary()),
        required("until", TIME),
        required("shard", Integer()),
        postgresql_with=KEPT_STORAGE,
    )
    Index("started_id_until", table.c.shard, table.c.until)


def _timer(metadata: MetaData) -> None:
    table = Table(
        "timer",
        metadata,
        Column("shard", Integer, primary_key=True, autoincrement=False),
        Column("id", _ID, primary_key=True),
        Column("run", _ID, primary_key=True),
        Column("kind", Text, primary_key=True),
        Column("number", Integer, primary_key=True, autoincrement=False),
        required("due", TIME),
        postgresql_with=QUEUE_STORAGE,
    )
    of = table.c
    Index("timer_due", of.shard, of.due, of.id, of.run, of.kind, of.number)


def _early_request(metadata: MetaData) -> None:
    Table(
        "early_request",
        metadata,
        Column("shard", Integer, primary_key=True, autoincrement=False),
        Column("saga_id", _ID, primary_key=True),
        Column("number", BigInteger, primary_key=True, autoincrement=False),
        required("at", TIME),
        *record_columns(),
    )


def _shard_owner(metadata: MetaData) -> None:
    Table(
        "shard_owner",
        metadata,
        Column("shard", Integer, primary_key=True, autoincrement=False),
        required("host", Text()),
        required("process", Integer()),
        required("instance", Text(), comment="SAGABUS_INSTANCE"),
        required("definitions", JSONB(), comment="that this process runs: [{name, version}]"),
        Column("lost_records", JSONB, comment="topics; not null while a loss is being made good (S6)"),
        Column("acquired_at", TIME, nullable=False, server_default=func.clock_timestamp()),
    )
