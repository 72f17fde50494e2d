"""The store's tables."""

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
)

__all__ = [
    "CONFIGURATIONS",
    "DECISIONS",
    "EDITIONS",
    "METADATA",
    "OUTCOMES",
    "PREDICTIONS",
    "TOTALS",
]

METADATA = MetaData()
KEY = BigInteger().with_variant(Integer, "sqlite")  # which alone numbers rows there

EDITIONS = Table(
    "editions",
    METADATA,
    Column("edition", KEY, primary_key=True),
    Column("model", String, nullable=False),
    Column("version", String, nullable=False),
    Column("bundle", String, nullable=False),
    Column("layouts", JSON, nullable=False, comment="by monitor, a digest of what its counts are counts of"),
    Column("digest", String, nullable=False, comment="of the layouts"),
    UniqueConstraint("model", "version", "bundle", "digest"),
    comment="what served: a version of a model, with its monitors as they were",
)
PREDICTIONS = Table(
    "predictions",
    METADATA,
    Column("prediction", KEY, primary_key=True),
    Column("model", String, nullable=False),
    Column("id", Text, nullable=False, comment="a backslash and NUL are written with a backslash before them"),
    Column("edition", KEY, ForeignKey("editions.edition"), nullable=False),
    Column("time", Double, nullable=False, comment="seconds since 1970, as every time here"),
    Column("label", Text, comment="null where there was no answer, and for regression"),
    Column("value", Double, comment="of regression; null where there was no answer"),
    Column("confidence", Double, comment="the calibrated probability of the label"),
    Column("labels", Text, comment="the prediction set: a JSON list"),
    Column("low", Double, comment="the interval's lower end"),
    Column("high", Double, comment="and its upper"),
    Column("action", SmallInteger, nullable=False, comment="0 allow, 1 flag, 2 abstain, 3 reject"),
    Column("groups", Text, comment="level codes by monitor: a JSON object"),
    Column("inputs", Text, comment="the row, where store.inputs asks for it: a JSON list"),
    UniqueConstraint("model", "id"),
    Index("predictions_time", "time"),
    comment="answered rows, until their labels come or they are too old",
)
OUTCOMES = Table(
    "outcomes",
    METADATA,
    Column(
        "prediction",
        KEY,
        ForeignKey("predictions.prediction", ondelete="CASCADE"),
        primary_key=True,
        autoincrement=False,
    ),
    Column("time", Double, nullable=False),
    Column("label", Text, comment="what was true; null for regression"),
    Column("value", Double, comment="what was true, of regression"),
    Column("probability", Double, comment="with which the label of such a row comes to be known, where that was given"),
    comment="what turned out to be true: one row a prediction, so that it counts once",
)
TOTALS = Table(
    "totals",
    METADATA,
    Column("model", String, primary_key=True),
    Column("version", String, primary_key=True),
    Column("monitor", String, primary_key=True),
    Column("layout", String, primary_key=True),
    Column("place", Integer, primary_key=True, autoincrement=False, comment="in the monitor's flattened counts"),
    Column("count", BigInteger, nullable=False),
    comment="the sums of the monitors' counts over all replicas, which outlast the rows they count",
)
DECISIONS = Table(
    "decisions",
    METADATA,
    Column("decision", KEY, primary_key=True),
    Column("model", String, nullable=False),
    Column("id", Text, nullable=False),
    Column("edition", KEY, ForeignKey("editions.edition"), nullable=False),
    Column("time", Double, nullable=False),
    Column("action", SmallInteger, nullable=False),
    Column("guards", Text, nullable=False, comment="those that flagged the row: a JSON list"),
    Column("p_values", Text, nullable=False, comment="of every guard, null where it crashed: a JSON object"),
    UniqueConstraint("model", "id", "time"),
    Index("decisions_time", "time"),
    comment="rows that were flagged, abstained from or rejected",
)
CONFIGURATIONS = Table(
    "configurations",
    METADATA,
    Column("configuration", KEY, primary_key=True),
    Column("model", String, nullable=False),
    Column("time", Double, nullable=False),
    Column("bundle", String, nullable=False),
    Column("config", JSON, nullable=False),
    Column("thresholds", JSON, nullable=False, comment="the p-value at and under which each guard flags"),
    Index("configurations_model", "model", "time"),
    comment="what a server was started with, where that was not what the one before it had",
)
