"""What rooms keep."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Change the tables."""
    op.create_table(
        "served_bases",
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("workspace", sa.String(length=63), nullable=False),
        sa.Column("wanted", sa.String(length=16), nullable=False),
        sa.Column("endpoint", sa.String(length=512), nullable=True),
        sa.Column("message", sa.String(), nullable=True),
        sa.Column("last_used_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_served_bases")),
    )
    op.add_column("jobs", sa.Column("place_at", sa.BigInteger(), nullable=True))
