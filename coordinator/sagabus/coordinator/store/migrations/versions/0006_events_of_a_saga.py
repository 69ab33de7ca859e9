"""Which events the code of a saga waits for, and which were kept for it: stored for whoever has not its code.

The default tells of rows that a release has written which does not know the column; none is written anew for it.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "saga",
        sa.Column(
            "events", postgresql.JSONB(), server_default=sa.text("""'{"row": 0}'::jsonb"""),
            comment="of its code, as of that row of history: {row, awaited: [{name, since}], kept: [{name, number}]}",
        ),
    )  # fmt: skip


def downgrade() -> None:
    raise NotImplementedError("restore the backup that was made before the migration")
