"""The table of explanations that were requested asynchronously."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "explanations",
        sa.Column("explanation", sa.String(), primary_key=True),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("bundle", sa.String(), nullable=False),
        sa.Column("time", sa.Double(), nullable=False),
        sa.Column("expires", sa.Double(), nullable=False),
        sa.Column("lease", sa.Double(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("question", sa.LargeBinary(), nullable=False),
        sa.Column("status", sa.SmallInteger()),
        sa.Column("media_type", sa.String()),
        sa.Column("answer", sa.LargeBinary()),
    )
    op.create_index("explanations_lease", "explanations", ["model", "status", "lease"])
    op.create_index("explanations_expires", "explanations", ["expires"])


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("explanations")
