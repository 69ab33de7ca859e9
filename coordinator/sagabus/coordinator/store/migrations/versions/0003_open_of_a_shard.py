"""The open sagas of a shard, which every take reads, have an index: their number no longer makes a take slow."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    is_open = sa.text("status IN ('running', 'compensating')")
    op.create_index("saga_shard", "saga", ["shard", "id"], postgresql_where=is_open)


def downgrade() -> None:
    raise NotImplementedError("restore the backup that was made before the migration")
