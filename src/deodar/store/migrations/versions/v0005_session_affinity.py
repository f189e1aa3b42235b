"""Apps can keep a client with the dyno that answered it first."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0005"
down_revision: str | None = "0004"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column(
        "apps", sa.Column("affinity", sa.Boolean(), nullable=False, server_default=sa.false())
    )
