"""The store's tables and their columns."""

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
)

__all__ = [
    "BLOCKS",
    "BLOCK_COUNTS",
    "CONFIGURATIONS",
    "CORRECTIONS",
    "DECISIONS",
    "EDITIONS",
    "EXPLANATIONS",
    "METADATA",
    "OUTCOMES",
    "PREDICTIONS",
    "SERVERS",
    "TOTALS",
]

METADATA = MetaData()
KEY = BigInteger().with_variant(Integer, "sqlite")  # SQLite numbers rows only in a column of type INTEGER

EDITIONS = Table(
    "editions",
    METADATA,
    Column("edition", KEY, primary_key=True),
    Column("model", String, nullable=False),
    Column("version", String, nullable=False),
    Column("bundle", String, nullable=False),
    Column("layouts", JSON, nullable=False, comment="for each monitor, a digest of what its counts mean"),
    Column("digest", String, nullable=False, comment="of the layouts"),
    UniqueConstraint("model", "version", "bundle", "digest"),
    comment="what was served: a version of a model, with the layouts of its monitors' counts",
)
PREDICTIONS = Table(
    "predictions",
    METADATA,
    Column("prediction", KEY, primary_key=True),
    Column("model", String, nullable=False),
    Column("id", Text, nullable=False, comment="as service.messages.row_name writes it"),
    Column("edition", KEY, ForeignKey("editions.edition"), nullable=False),
    Column("time", Double, nullable=False, comment="in seconds since 1970, like every time in these tables"),
    Column("label", Text, comment="null for regression, and if the row was not answered"),
    Column("value", Double, comment="for regression; null if the row was not answered"),
    Column("confidence", Double, comment="the calibrated probability of the label"),
    Column(
        "labels",
        Text,
        comment="the prediction set: a JSON list, or bits if the set is large; see prediction_sets.py",
    ),
    Column("low", Double, comment="the interval's lower end"),
    Column("high", Double, comment="the interval's upper end"),
    Column("action", SmallInteger, nullable=False, comment="0 allow, 1 flag, 2 abstain, 3 reject"),
    Column("groups", Text, comment="a JSON object of level codes by grouping"),
    Column("inputs", Text, comment="the input row as a JSON list, if store.inputs is true"),
    UniqueConstraint("model", "id"),
    Index("predictions_time", "time"),
    comment="answered rows, until they are deleted for their age or for the store's size",
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
    Column("label", Text, comment="the true label; null for regression"),
    Column("value", Double, comment="the true value, for regression"),
    Column("probability", Double, comment="the probability with which the row was chosen to be labelled, if given"),
    comment="true labels and values: at most one row for each prediction, so that it counts once",
)
CORRECTIONS = Table(
    "corrections",
    METADATA,
    Column("correction", KEY, primary_key=True),
    Column("prediction", KEY, ForeignKey("predictions.prediction", ondelete="CASCADE"), nullable=False),
    Column("time", Double, nullable=False, comment="when the replaced outcome was stored"),
    Column("replaced", Double, nullable=False, comment="when another outcome replaced it"),
    Column("label", Text),
    Column("value", Double),
    Column("probability", Double),
    Index("corrections_prediction", "prediction"),
    comment="outcomes that were replaced by a correction",
)
TOTALS = Table(
    "totals",
    METADATA,
    Column("model", String, primary_key=True),
    Column("version", String, primary_key=True),
    Column("bundle", String, primary_key=True, comment="the bundle that answered the rows; empty if unknown"),
    Column("monitor", String, primary_key=True),
    Column("layout", String, primary_key=True),
    Column("place", Integer, primary_key=True, autoincrement=False, comment="in the monitor's flattened counts"),
    Column("count", BigInteger, nullable=False),
    comment="the sums of the monitors' counts over all replicas; they stay when the counted rows are deleted",
)
BLOCKS = Table(
    "blocks",
    METADATA,
    Column("block", KEY, primary_key=True),
    Column("model", String, nullable=False),
    Column("version", String, nullable=False),
    Column("bundle", String, nullable=False),
    Column("stage", String, nullable=False, comment="answers, or outcomes"),
    Column(
        "number", BigInteger, nullable=False, comment="the block's number within its bundle and stage, in order of time"
    ),
    Column("rows", BigInteger, nullable=False),
    UniqueConstraint("model", "version", "bundle", "stage", "number"),
    comment="blocks of the rows that were counted last; old blocks are deleted",
)
BLOCK_COUNTS = Table(
    "block_counts",
    METADATA,
    Column("block", KEY, ForeignKey("blocks.block", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("monitor", String, primary_key=True),
    Column("layout", String, primary_key=True),
    Column("place", Integer, primary_key=True, autoincrement=False, comment="in the monitor's flattened counts"),
    Column("count", BigInteger, nullable=False),
    comment="the sums of the monitors' counts in a block",
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
    Column("guards", Text, nullable=False, comment="a JSON list of the guards that flagged the row"),
    Column("p_values", Text, nullable=False, comment="a JSON object of each guard's p-value, null if it crashed"),
    UniqueConstraint("model", "id", "time"),
    Index("decisions_time", "time"),
    comment="rows whose action was flag, abstain or reject",
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
    comment="the configs that servers were started with; a row only if the config had changed",
)
SERVERS = Table(
    "servers",
    METADATA,
    Column("model", String, primary_key=True),
    Column("server", String, primary_key=True, comment="the server's host and port"),
    Column(
        "asked", BigInteger, nullable=False, comment="raised by another server that needs this server's rows stored"
    ),
    Column("settled", BigInteger, nullable=False, comment="the value of `asked` up to which all rows are stored"),
    comment="the servers that write to this database now",
)
EXPLANATIONS = Table(
    "explanations",
    METADATA,
    Column("explanation", String, primary_key=True, comment="the last part of its address; it cannot be guessed"),
    Column("model", String, nullable=False),
    Column("bundle", String, nullable=False),
    Column("time", Double, nullable=False),
    Column("expires", Double, nullable=False, comment="when the question and the answer are deleted"),
    Column("lease", Double, nullable=False, comment="until when a server has reserved the job"),
    Column("attempts", Integer, nullable=False),
    Column("question", LargeBinary, nullable=False, comment="holds the rows; emptied when answered"),
    Column("status", SmallInteger, comment="how the job ended; null until then"),
    Column("media_type", String),
    Column("answer", LargeBinary),
    Index("explanations_lease", "model", "status", "lease"),
    Index("explanations_expires", "expires"),
    comment="explanations that were requested asynchronously",
)
