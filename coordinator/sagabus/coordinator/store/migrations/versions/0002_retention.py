"""What retention needs: indexes for what is removed next, a shard for each remembered id, storage for what turns over.

`started_id` was never written before this revision.
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

QUEUE: Final = {
    "autovacuum_vacuum_scale_factor": "0", "autovacuum_vacuum_threshold": "1000", "autovacuum_vacuum_cost_delay": "0",
}  # fmt: skip
KEPT: Final = {"autovacuum_vacuum_scale_factor": "0.05"}
STORAGE: Final = {
    "shard": {"fillfactor": "10", "autovacuum_vacuum_scale_factor": "0", "autovacuum_vacuum_threshold": "1000"},
    "outbox": QUEUE, "timer": QUEUE, "saga": KEPT, "history": KEPT, "started_id": KEPT,
}  # fmt: skip


def upgrade() -> None:
    op.create_index("saga_closed", "saga", ["shard", "closed_at"], postgresql_where=sa.text("closed_at IS NOT NULL"))
    op.add_column("started_id", sa.Column("shard", sa.Integer(), nullable=False))
    op.create_index("started_id_until", "started_id", ["shard", "until"])
    op.alter_column(
        "shard", "pruned_before", existing_type=sa.DateTime(timezone=True),
        comment="what is older may have been forgotten (P5, H2)",
    )  # fmt: skip
    for table, storage in STORAGE.items():
        settings = ", ".join(f"{name} = {value}" for name, value in storage.items())
        op.execute(f"ALTER TABLE {table} SET ({settings})")


def downgrade() -> None:
    raise NotImplementedError("restore the backup that was made before the migration")
