"""Totals by bundle, and the blocks of the last counted rows.

An existing total is given to a bundle if the total's version was served by that bundle alone. Otherwise the parts of
the bundles are unknown: the total keeps an empty bundle, and counts only for the version and the lifetime.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

KEY = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Make the tables, and move the totals."""
    _totals("totals_after", ["model", "version", "bundle", "monitor", "layout"])
    op.execute(
        "INSERT INTO totals_after (model, version, bundle, monitor, layout, place, count) "
        "SELECT model, version, COALESCE((SELECT CASE WHEN COUNT(DISTINCT editions.bundle) = 1 "
        "THEN MIN(editions.bundle) END FROM editions WHERE editions.model = totals.model "
        "AND editions.version = totals.version), ''), monitor, layout, place, count FROM totals"
    )
    op.drop_table("totals")
    op.rename_table("totals_after", "totals")
    op.create_table(
        "blocks",
        sa.Column("block", KEY, primary_key=True),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("bundle", sa.String(), nullable=False),
        sa.Column("stage", sa.String(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.UniqueConstraint("model", "version", "bundle", "stage", "number"),
    )
    op.create_table(
        "block_counts",
        sa.Column(
            "block", KEY, sa.ForeignKey("blocks.block", ondelete="CASCADE"), primary_key=True, autoincrement=False
        ),
        sa.Column("monitor", sa.String(), primary_key=True),
        sa.Column("layout", sa.String(), primary_key=True),
        sa.Column("place", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
    )


def downgrade() -> None:
    """Drop the blocks, and sum the totals of the bundles."""
    op.drop_table("block_counts")
    op.drop_table("blocks")
    _totals("totals_before", ["model", "version", "monitor", "layout"])
    op.execute(
        "INSERT INTO totals_before (model, version, monitor, layout, place, count) "
        "SELECT model, version, monitor, layout, place, SUM(count) FROM totals "
        "GROUP BY model, version, monitor, layout, place"
    )
    op.drop_table("totals")
    op.rename_table("totals_before", "totals")


def _totals(table: str, names: list[str]) -> None:
    op.create_table(
        table,
        *(sa.Column(name, sa.String(), primary_key=True) for name in names),
        sa.Column("place", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
    )
