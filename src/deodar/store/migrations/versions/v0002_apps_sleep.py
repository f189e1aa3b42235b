"""Apps sleep: since when and how deep, and when somebody last asked for them."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0002"
down_revision: str | None = "0001"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("apps", sa.Column("active_at", sa.Float(precision=53), nullable=True))
    op.add_column("apps", sa.Column("asleep_since", sa.Float(precision=53), nullable=True))
    op.add_column("apps", sa.Column("asleep_depth", sa.String(length=16), nullable=True))
    op.add_column("apps", sa.Column("asleep_workers", sa.Boolean(), nullable=True))
