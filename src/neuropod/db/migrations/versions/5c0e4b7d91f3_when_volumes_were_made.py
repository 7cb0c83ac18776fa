"""When volumes were made."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision = "5c0e4b7d91f3"
down_revision = "117e2c7a206a"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Add what tells a volume that is lost from one that no pod has used yet; known from the next start on."""
    with op.batch_alter_table("volumes", schema=None) as batch_op:
        batch_op.add_column(sa.Column("made_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    """Forget it."""
    with op.batch_alter_table("volumes", schema=None) as batch_op:
        batch_op.drop_column("made_at")
