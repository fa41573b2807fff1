"""Rate windows."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Change the tables."""
    op.create_table(
        "rate_windows",
        sa.Column("project_id", sa.String(length=64), nullable=False),
        sa.Column("slots", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_rate_windows_project_id_projects")),
        sa.PrimaryKeyConstraint("project_id", name=op.f("pk_rate_windows")),
    )
