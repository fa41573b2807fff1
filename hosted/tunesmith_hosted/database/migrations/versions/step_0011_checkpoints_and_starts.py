"""Checkpoints have artifacts of their own, and jobs start from tuned models."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0005"


def upgrade() -> None:
    """Change the tables."""
    op.add_column("checkpoints", sa.Column("artifact", sa.String(length=1024), nullable=True))
    op.add_column("jobs", sa.Column("start", sa.String(length=1024), nullable=True))
