"""All tables of the first release.

Spelled out, not taken from `tables`: what this leaves behind must stay the same when the tables move on.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

ID = sa.Text(collation="C")
TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    _shard()
    op.create_table("outbox", *_message())
    _outbox_parked()
    _dead_letter()
    _saga()
    _history()
    _timer()
    _early_request()
    op.create_table(
        "started_id",
        sa.Column("id", ID, primary_key=True),
        _must("run", ID),
        _must("input_hash", sa.LargeBinary()),
        _must("until", TIME),
    )


def downgrade() -> None:
    raise NotImplementedError("there is nothing before the first release: drop the schema")


def _outbox_parked() -> None:
    op.create_table(
        "outbox_parked",
        *_message(),
        _must("reason", sa.Text()),
        _at("parked_at"),
        sa.Column("released_at", TIME, comment="when a person asked for it to be sent again"),
        sa.Column("release_reason", sa.Text(), comment="the person's word"),
    )
    released = sa.text("released_at IS NOT NULL")
    op.create_index("outbox_parked_released", "outbox_parked", ["shard"], postgresql_where=released)


def _shard() -> None:
    op.create_table(
        "shard",
        _key("shard", sa.Integer()),
        _must("token", sa.Uuid()),
        _must("turn", sa.BigInteger()),
        _must("cluster", sa.Text(), "id of the Kafka cluster that the generation counts in"),
        _must("generation", sa.BigInteger(), "of the consumer group, as of the take"),
        sa.Column("backend_pid", sa.Integer(), comment="of the take; a pool may use another one later"),
        sa.Column("backend_start", TIME),
        _must("partitions", sa.Integer(), "of the topic that numbers the shards, at first use"),
        _must(
            "topics", postgresql.JSONB(),
            '{topic: {"id": topic id, "next": offset of the first record not taken in}}',
        ),
        _must("next_position", sa.BigInteger()),
        _must("relay_position", sa.BigInteger(), "every outbox row up to here has been published"),
        sa.Column("pruned_before", TIME),
        _at("beat_at"),
    )  # fmt: skip


def _message() -> tuple[sa.Column[Any], ...]:
    return (
        _key("shard", sa.Integer()),
        _key("position", sa.BigInteger()),
        _must("saga_id", sa.Text()),
        _must("topic", sa.Text()),
        sa.Column("partition", sa.Integer(), comment="null: from the key"),
        sa.Column("key", sa.LargeBinary()),
        _must("headers", sa.LargeBinary()),
        sa.Column("value", sa.LargeBinary()),
    )


def _dead_letter() -> None:
    op.create_table(
        "dead_letter",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), primary_key=True),
        _must("shard", sa.Integer()),
        _must("reason", sa.Text(), "stable code"),
        _must("message", sa.Text(), "for people"),
        _must("topic", sa.Text()),
        _must("partition", sa.Integer()),
        _must("offset", sa.BigInteger()),
        _must("timestamp", sa.BigInteger(), "of the record, in milliseconds"),
        sa.Column("key", sa.LargeBinary()),
        _must("headers", sa.LargeBinary()),
        sa.Column("value", sa.LargeBinary()),
        _at("at"),
    )


def _saga() -> None:
    op.create_table(
        "saga",
        sa.Column("id", ID, primary_key=True),
        sa.Column("run", ID, primary_key=True, comment="born with the saga: a reused id never meets old messages"),
        _must("definition", sa.Text()),
        _must("version", sa.Integer()),
        _must("fingerprint", sa.Text(), "of the code that ran it last"),
        _must("status", sa.Text()),
        _must("shard", sa.Integer(), "murmur2(id) mod the partitions at its start"),
        _must("sequence", sa.Integer(), "of its last lifecycle event, as of the last change of this row"),
        _must("last_now", TIME),
        _must("input_hash", sa.LargeBinary()),
        _must("started_at", TIME),
        sa.Column("result", sa.LargeBinary()),
        sa.Column("error", sa.LargeBinary()),
        sa.Column("attributes", postgresql.JSONB()),
        sa.Column("parent_id", ID),
        sa.Column("parent_run", ID),
        sa.Column("parent_step", sa.Integer()),
        sa.Column("parent_shard", sa.Integer()),
        sa.Column("attention", sa.Text(), comment="why a person should look"),
        sa.Column("decided", sa.Integer(), comment="history rows after this one were taken, but not decided upon"),
        _must("paused", sa.Boolean()),
        _must("trace", sa.LargeBinary()),
        sa.Column("closed_at", TIME),
    )
    is_open = sa.text("status IN ('running', 'compensating')")
    op.create_index("saga_open", "saga", ["id"], unique=True, postgresql_where=is_open)
    op.create_index("saga_listed", "saga", ["status", "started_at"])
    op.create_index("saga_attention", "saga", ["started_at"], postgresql_where=sa.text("attention IS NOT NULL"))


def _history() -> None:
    op.create_table(
        "history",
        sa.Column("id", ID, primary_key=True),
        sa.Column("run", ID, primary_key=True),
        _key("seq", sa.Integer()),
        _must("at", TIME),
        _must("kind", sa.Text()),
        _must("step", sa.Integer(), "the step, the publication's number or the timer's"),
        _must("attempt", sa.BigInteger(), "as a reply says: anybody's number"),
        _must("name", sa.Text(), "activity, event, kind of timer or of end"),
        _must("ref", sa.Text(), "id of the message that brought an input"),
        sa.Column("payload", sa.LargeBinary(), comment="the bytes as they came, or as they were sent"),
        _must("sequence", sa.Integer(), "the saga's last lifecycle event when this row was written"),
    )


def _timer() -> None:
    op.create_table(
        "timer",
        _key("shard", sa.Integer()),
        sa.Column("id", ID, primary_key=True),
        sa.Column("run", ID, primary_key=True),
        sa.Column("kind", sa.Text(), primary_key=True),
        _key("number", sa.Integer()),
        _must("due", TIME),
    )


def _early_request() -> None:
    op.create_table(
        "early_request",
        _key("shard", sa.Integer()),
        sa.Column("saga_id", ID, primary_key=True),
        _key("number", sa.BigInteger()),
        _must("at", TIME),
        _must("topic", sa.Text()),
        _must("partition", sa.Integer()),
        _must("offset", sa.BigInteger()),
        _must("timestamp", sa.BigInteger(), "of the record, in milliseconds"),
        sa.Column("key", sa.LargeBinary()),
        _must("headers", sa.LargeBinary()),
        sa.Column("value", sa.LargeBinary()),
    )


def _key(name: str, type_: Any) -> sa.Column[Any]:
    return sa.Column(name, type_, primary_key=True, autoincrement=False)


def _must(name: str, type_: Any, comment: str | None = None) -> sa.Column[Any]:
    return sa.Column(name, type_, nullable=False, comment=comment)


def _at(name: str) -> sa.Column[Any]:
    return sa.Column(name, TIME, nullable=False, server_default=sa.func.clock_timestamp())
