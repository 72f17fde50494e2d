"""The tables of corrected outcomes and of the servers that write to the database."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "corrections",
        sa.Column("correction", KEY, primary_key=True),
        sa.Column("prediction", KEY, sa.ForeignKey("predictions.prediction", ondelete="CASCADE"), nullable=False),
        sa.Column("time", sa.Double(), nullable=False),
        sa.Column("replaced", sa.Double(), nullable=False),
        sa.Column("label", sa.Text()),
        sa.Column("value", sa.Double()),
        sa.Column("probability", sa.Double()),
    )
    op.create_index("corrections_prediction", "corrections", ["prediction"])
    op.create_table(
        "servers",
        sa.Column("model", sa.String(), primary_key=True),
        sa.Column("server", sa.String(), primary_key=True),
        sa.Column("asked", sa.BigInteger(), nullable=False),
        sa.Column("settled", sa.BigInteger(), nullable=False),
    )


def downgrade() -> None:
    """Drop the tables."""
    op.drop_table("servers")
    op.drop_table("corrections")
