"""The first tables: predictions, outcomes, totals, decisions, configurations."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "editions",
        sa.Column("edition", KEY, primary_key=True),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("bundle", sa.String(), nullable=False),
        sa.Column("layouts", sa.JSON(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.UniqueConstraint("model", "version", "bundle", "digest"),
    )
    op.create_table(
        "predictions",
        sa.Column("prediction", KEY, primary_key=True),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("edition", KEY, sa.ForeignKey("editions.edition"), nullable=False),
        sa.Column("time", sa.Double(), nullable=False),
        sa.Column("label", sa.Text()),
        sa.Column("value", sa.Double()),
        sa.Column("confidence", sa.Double()),
        sa.Column("labels", sa.Text()),
        sa.Column("low", sa.Double()),
        sa.Column("high", sa.Double()),
        sa.Column("action", sa.SmallInteger(), nullable=False),
        sa.Column("groups", sa.Text()),
        sa.Column("inputs", sa.Text()),
        sa.UniqueConstraint("model", "id"),
    )
    op.create_index("predictions_time", "predictions", ["time"])
    op.create_table(
        "outcomes",
        sa.Column(
            "prediction",
            KEY,
            sa.ForeignKey("predictions.prediction", ondelete="CASCADE"),
            primary_key=True,
            autoincrement=False,
        ),
        sa.Column("time", sa.Double(), nullable=False),
        sa.Column("label", sa.Text()),
        sa.Column("value", sa.Double()),
        sa.Column("probability", sa.Double()),
    )
    op.create_table(
        "totals",
        sa.Column("model", sa.String(), primary_key=True),
        sa.Column("version", sa.String(), primary_key=True),
        sa.Column("monitor", sa.String(), primary_key=True),
        sa.Column("layout", sa.String(), primary_key=True),
        sa.Column("place", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "decisions",
        sa.Column("decision", KEY, primary_key=True),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("edition", KEY, sa.ForeignKey("editions.edition"), nullable=False),
        sa.Column("time", sa.Double(), nullable=False),
        sa.Column("action", sa.SmallInteger(), nullable=False),
        sa.Column("guards", sa.Text(), nullable=False),
        sa.Column("p_values", sa.Text(), nullable=False),
        sa.UniqueConstraint("model", "id", "time"),
    )
    op.create_index("decisions_time", "decisions", ["time"])
    op.create_table(
        "configurations",
        sa.Column("configuration", KEY, primary_key=True),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("time", sa.Double(), nullable=False),
        sa.Column("bundle", sa.String(), nullable=False),
        sa.Column("config", sa.JSON(), nullable=False),
        sa.Column("thresholds", sa.JSON(), nullable=False),
    )
    op.create_index("configurations_model", "configurations", ["model", "time"])


def downgrade() -> None:
    """Drop the tables; a table that refers to another table is dropped first."""
    for name in ("configurations", "decisions", "totals", "outcomes", "predictions", "editions"):
        op.drop_table(name)
