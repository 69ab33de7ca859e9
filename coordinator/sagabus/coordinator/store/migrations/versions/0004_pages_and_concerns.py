"""What a shard with very many sagas is read by, page by page; concerns beside the words; who owns a shard.

Words that are there already become a concern of the kind `other`: the saga's history knows more, and says so when the
saga is loaded next.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "saga",
        sa.Column("concerns", postgresql.JSONB(), comment="all of why: [{kind, number, words}]"),
    )
    op.execute("""
        UPDATE saga SET concerns = jsonb_build_array(jsonb_build_object(
            'kind', 'other', 'number', 0, 'words', attention))
        WHERE attention IS NOT NULL""")
    op.create_index("saga_blocked", "saga", ["shard", "id"], postgresql_where=sa.text("decided IS NOT NULL"))
    op.create_index("timer_due", "timer", ["shard", "due", "id", "run", "kind", "number"])
    op.create_table(
        "shard_owner",
        sa.Column("shard", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("process", sa.Integer(), nullable=False),
        sa.Column("instance", sa.Text(), nullable=False, comment="SAGABUS_INSTANCE"),
        sa.Column(
            "definitions", postgresql.JSONB(), nullable=False, comment="that this process runs: [{name, version}]"
        ),
        sa.Column("lost_records", postgresql.JSONB(), comment="topics; not null while a loss is being made good (S6)"),
        sa.Column("acquired_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.clock_timestamp()),
    )


def downgrade() -> None:
    raise NotImplementedError("restore the backup that was made before the migration")
