"""Set-ups of apps from sources with an app.json."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0004"
down_revision: str | None = "0003"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "setups",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("app_id", sa.String(length=36), nullable=False),
        sa.Column("app_name", sa.String(length=30), nullable=False),
        sa.Column("user", sa.String(length=255), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("source", sa.LargeBinary(), nullable=False),
        sa.Column("stack", sa.String(length=64), nullable=True),
        sa.Column("env", sa.LargeBinary(), nullable=False),
        sa.Column("buildpacks", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("manifest", sa.Text(), nullable=True),
        sa.Column("notes", sa.JSON(), nullable=False),
        sa.Column("build_id", sa.String(length=36), nullable=True),
        sa.Column("builds", sa.Integer(), nullable=False),
        sa.Column("dyno_id", sa.String(length=36), nullable=True),
        sa.Column("output", sa.Text(), nullable=True),
        sa.Column("exit_code", sa.Integer(), nullable=True),
        sa.Column("failure", sa.Text(), nullable=True),
        sa.Column("created_at", sa.Float(precision=53), nullable=False),
        sa.Column("updated_at", sa.Float(precision=53), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_setups_app_id"), "setups", ["app_id"])
    op.create_index(op.f("ix_setups_state"), "setups", ["state"])
