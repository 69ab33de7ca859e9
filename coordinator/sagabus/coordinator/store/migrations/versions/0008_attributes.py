"""Sagas are found by their attributes. Those that have none, which are all that are there, are not in the index."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.alter_column("saga", "attributes", comment="that its code has set; null of a saga that declares none")
    op.create_index(
        "saga_attributes",
        "saga",
        ["attributes"],
        postgresql_using="gin",
        postgresql_ops={"attributes": "jsonb_path_ops"},
        postgresql_where=sa.text("attributes IS NOT NULL"),
    )


def downgrade() -> None:
    raise NotImplementedError("restore the backup that was made before the migration")
