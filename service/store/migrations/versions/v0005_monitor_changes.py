"""The table of what admins changed about the monitors, and what rows need so that a principal can be taken out."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

KEY = sa.BigInteger().with_variant(sa.Integer, "sqlite")
COLUMNS = ("flags", "skipped", "excluded", "era", "repeated")


def upgrade() -> None:
    """Make the table, and add the columns."""
    op.create_table(
        "monitor_changes",
        sa.Column("change", KEY, primary_key=True),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("bundle", sa.String(), nullable=False),
        sa.Column("time", sa.Double(), nullable=False),
        sa.Column("by", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
    )
    op.create_index("monitor_changes_model", "monitor_changes", ["model", "change"])
    op.add_column("predictions", sa.Column("flags", sa.SmallInteger()))
    op.add_column("predictions", sa.Column("skipped", sa.Text()))
    op.add_column("predictions", sa.Column("excluded", sa.SmallInteger(), nullable=False, server_default="0"))
    op.add_column("predictions", sa.Column("era", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("predictions", sa.Column("repeated", sa.SmallInteger(), nullable=False, server_default="0"))


def downgrade() -> None:
    """Drop the table and the columns."""
    for name in COLUMNS:
        op.drop_column("predictions", name)
    op.drop_table("monitor_changes")
