"""The dead letters of one saga have an index: whoever waits for a saga that was rejected looks for them.

Of the key it holds a hash: a key is anybody's, and may be longer than an entry of an index.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("dead_letter_key", "dead_letter", [sa.text("sha256(key)"), "id"])


def downgrade() -> None:
    raise NotImplementedError("restore the backup that was made before the migration")
