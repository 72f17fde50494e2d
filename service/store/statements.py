"""The SQL statements on many rows, for SQLite and PostgreSQL. Each statement takes its rows as one JSON document."""

from collections.abc import Mapping
from typing import Any

import orjson
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Double,
    Integer,
    Label,
    Select,
    SmallInteger,
    Text,
    bindparam,
    cast,
    func,
    literal_column,
    select,
    text,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import TypeEngine

from service.store.remembered import Remembered
from service.store.tables import BLOCK_COUNTS, BLOCKS, CORRECTIONS, DECISIONS, OUTCOMES, PREDICTIONS, TOTALS

__all__ = ["ROWS", "Statements", "json_of"]

Columns = Mapping[str, TypeEngine[Any]]
KEY = "prediction"
ROWS = "rows"
"""The parameter that holds the rows: a JSON list of lists, or a JSON list of the keys to find."""
WRITTEN: Columns = {
    name: PREDICTIONS.c[name].type
    for name in (
        "id", "time", "label", "value", "confidence", "labels", "low", "high", "action", "groups", "inputs",
        "flags", "skipped", "excluded",
    )
}  # fmt: skip
DECIDED: Columns = {"id": Text(), "time": Double(), "action": SmallInteger(), "guards": Text(), "p_values": Text()}
AGAIN: Columns = {"id": Text(), "time": Double()}
REPLACED: Columns = {
    "prediction": BigInteger(), "time": Double(), "replaced": Double(), "label": Text(), "value": Double(),
    "probability": Double(),
}  # fmt: skip
TRUE: Columns = {"prediction": BigInteger(), "label": Text(), "value": Double(), "probability": Double()}
COUNTED: Columns = {
    "version": Text(), "bundle": Text(), "monitor": Text(), "layout": Text(), "place": Integer(), "count": BigInteger(),
}  # fmt: skip
IN_BLOCK: Columns = {
    "block": BigInteger(), "monitor": Text(), "layout": Text(), "place": Integer(), "count": BigInteger(),
}  # fmt: skip


class Statements:
    """The statements of one SQL dialect, made once.

    An id, an outcome or a decision that is already stored stays as it is; counts are added to the stored counts. The
    database parses the JSON, so Python runs no code for each row: a thousand rows are one bound value and one
    statement, and the driver releases the interpreter lock while the statement runs.
    """

    def __init__(self, dialect: str) -> None:
        insert = sqlite.insert if dialect == "sqlite" else postgresql.insert
        model = bindparam("model", type_=Text()).label("model")
        edition = bindparam("edition", type_=BigInteger()).label("edition")
        now: Label[float] = bindparam("now", type_=Double()).label("time")
        era = bindparam("era", type_=BigInteger()).label("era")
        rows = _given(dialect, WRITTEN).add_columns(model, edition, era)
        writing = insert(PREDICTIONS).from_select([*WRITTEN, "model", "edition", "era"], rows).on_conflict_do_nothing()
        self.predictions = writing.returning(PREDICTIONS.c.id)
        given, stored = _given(dialect, AGAIN).subquery("again"), PREDICTIONS.alias("stored")
        # One search of the index for each given row. A join would let SQLite read every prediction for each of them.
        repeated = select(stored.c.prediction).where(
            stored.c.model == bindparam("whose", type_=Text()),
            stored.c.id == given.c.id,
            stored.c.time.is_distinct_from(given.c.time),
        )
        found = select(repeated.scalar_subquery()).select_from(given)
        self.repeated = update(PREDICTIONS).values(repeated=1).where(PREDICTIONS.c.prediction.in_(found))
        rows = _given(dialect, DECIDED).add_columns(model, edition)
        deciding = insert(DECISIONS).from_select([*DECIDED, "model", "edition"], rows)
        self.decisions = deciding.on_conflict_do_nothing()
        rows = _given(dialect, TRUE).add_columns(now)
        joining = insert(OUTCOMES).from_select([*TRUE, "time"], rows).on_conflict_do_nothing()
        self.outcomes = joining.returning(OUTCOMES.c.prediction)
        rows = _given(dialect, REPLACED)
        self.corrections = insert(CORRECTIONS).from_select([*REPLACED], rows)
        given = _given(dialect, TRUE).subquery("corrected")
        self.correct = (
            update(OUTCOMES)
            .values(time=bindparam("now", type_=Double()), **{name: given.c[name] for name in TRUE if name != KEY})
            .where(OUTCOMES.c[KEY] == given.c[KEY])
        )
        rows = _given(dialect, COUNTED).add_columns(model)
        counting = insert(TOTALS).from_select([*COUNTED, "model"], rows)
        self.totals = counting.on_conflict_do_update(
            index_elements=list(TOTALS.primary_key), set_={"count": TOTALS.c.count + counting.excluded.count}
        )
        beginning = insert(BLOCKS)
        self.block = beginning.on_conflict_do_update(
            index_elements=["model", "version", "bundle", "stage", "number"],
            set_={"rows": BLOCKS.c.rows + beginning.excluded.rows},
        ).returning(BLOCKS.c.block)
        counting = insert(BLOCK_COUNTS).from_select([*IN_BLOCK], _given(dialect, IN_BLOCK))
        self.block_counts = counting.on_conflict_do_update(
            index_elements=list(BLOCK_COUNTS.primary_key),
            set_={"count": BLOCK_COUNTS.c.count + counting.excluded.count},
        )
        keys = bindparam(ROWS, type_=Text())
        asked = (
            select(func.json_each(keys).table_valued("value").c.value)
            if dialect == "sqlite"
            else select(func.jsonb_array_elements_text(cast(keys, JSONB)).column_valued("asked"))
        )
        own = OUTCOMES.c
        # Rows are locked in order, so that two servers cannot deadlock. SQLite has only one writer anyway.
        self.lock = (
            select(own.prediction, own.time, own.label, own.value, own.probability)
            .where(own.prediction.in_(_numbers(dialect, asked)))
            .order_by(own.prediction)
            .with_for_update()
        )
        self.find = (
            select(
                PREDICTIONS.c.id,
                OUTCOMES.c.prediction,
                OUTCOMES.c.label,
                OUTCOMES.c.value,
                *(PREDICTIONS.c[name] for name in Remembered.__slots__),
            )
            .select_from(PREDICTIONS.outerjoin(OUTCOMES))
            .where(PREDICTIONS.c.model == bindparam("model", type_=Text()), PREDICTIONS.c.id.in_(asked))
        )


def _numbers(dialect: str, asked: Select[Any]) -> Select[Any]:
    """Read the keys to find as numbers."""
    (column,) = asked.selected_columns
    return asked if dialect == "sqlite" else asked.with_only_columns(cast(column, BigInteger))


def _given(dialect: str, columns: Columns) -> Select[Any]:
    """Select the rows of the parameter :data:`ROWS`; each inner list holds ``columns`` in this order."""
    rows = bindparam(ROWS, type_=Text())
    cells: list[ColumnElement[Any]]
    if dialect == "sqlite":
        value: ColumnElement[Any] = func.json_each(rows).table_valued("value", name="given").c.value
        cells = [func.json_extract(value, literal_column(f"'$[{place}]'")) for place in range(len(columns))]
    else:
        value = func.jsonb_array_elements(cast(rows, JSONB)).column_valued("given")
        cells = [cast(value.op("->>")(literal_column(str(place))), kind) for place, kind in enumerate(columns.values())]
    named = [cell.label(name) for cell, name in zip(cells, columns, strict=True)]
    return select(*named).where(text("1 = 1"))  # without WHERE, SQLite reads ON CONFLICT as a join's ON


def json_of(rows: object) -> str:
    """Write rows as the JSON document that a statement takes under :data:`ROWS`."""
    return orjson.dumps(rows).decode()
