"""Finds the kind of each column of a reference, its categories, and the value that replaces a missing value."""

import numpy as np
import numpy.typing as npt
import pandas as pd

from guards.data.categories import categories_of, check_categories
from guards.data.distinct_values import Mask, Values
from guards.data.number_columns import check_numbers, numbers_of
from guards.data.table import Table, TableColumn
from guards.data.text_formats import digits, led_by_zeros, likeliest, marks
from guards.input.column import Column, ColumnSpec, Kind
from guards.notices import Notices
from guards.sentences import agreeing, as_list
from guards.types import Mistake

__all__ = ["WRONG_NUMBER", "resolve_columns"]

FEW = 50
MANY_UNKNOWN = 0.1
"""If more than this share of the values is unknown, it is improbable that only rare categories were left out."""
FEW_WORDS, MANY_NUMBERS = 3, 20
"""At most so many different texts among at least so many different numbers are no categories."""
NOTHING = TableColumn(np.empty(0, dtype=object), "untyped")
DROP = "give the column `drop: true` in input.columns"
MEANT = "declare `kind: categorical` if the values are meant as categories"
WRONG_NUMBER = "if the value means missing, add the value to the column's `missing`, or declare the column categorical"


def resolve_columns(
    names: list[str], declared: dict[str, ColumnSpec], table: Table, notices: Notices
) -> tuple[Column, ...]:
    """Find the kind, the categories and the imputed value of some columns, unless the config declares them.

    Raises:
        Mistake: a column is not of its declared kind, or its kind cannot be found; one sentence per column.
    """
    columns, sentences = [], list[str]()
    for name in names:
        try:
            columns.append(_resolved(name, declared.get(name) or ColumnSpec(name=name), table.columns[name], notices))
        except Mistake as mistake:
            sentences += mistake.sentences
    if sentences:
        raise Mistake(*sentences)
    constant = [name for name in names if _is_constant(table.columns[name])]
    if constant:
        have = agreeing(len(constant), f"column {as_list(constant)} has", f"columns {as_list(constant)} have")
        notices.note(f"{have} one value in all rows (missing values aside)")
    return tuple(columns)


def _is_constant(column: TableColumn) -> bool:
    codes, _ = pd.factorize(column.cells[:FEW])
    return codes.max(initial=-1) < 1 and len(pd.unique(column.cells[pd.notna(column.cells)])) == 1


def _resolved(name: str, spec: ColumnSpec, column: TableColumn, notices: Notices) -> Column:
    if column.type == "nested":
        raise Mistake(f"column {name!r} holds lists, structures or bytes, and no single value in each row: {DROP}")
    given = spec.model_dump()
    warned = len(notices.warnings)
    kind = spec.declared_kind or ("numeric" if column.type == "number" else None)
    values = Values.of(column if kind != "numeric" else NOTHING).without(spec.missing)
    kind = kind or _kind(name, column, values, notices)
    if kind == "numeric":
        numbers = numbers_of(column, f"column {name!r}", missing=spec.missing, hint=WRONG_NUMBER)
        if spec.declared_kind is None or np.isnan(numbers).all():
            check_numbers(name, column, numbers, notices)
        _check_bounds(name, spec, numbers, notices)
        present = numbers[~np.isnan(numbers)]
        fill = float(np.median(present)) if len(present) else 0.0
        return Column.model_validate({**given, "kind": kind, "fill": fill})
    categories = spec.categories
    if categories is None:
        categories = categories_of(name, column, values, notices)
        meant = spec.declared_kind is not None or len(notices.warnings) > warned
        check_categories(name, values, notices, meant=meant)
    made = Column.model_validate(
        {**given, "kind": kind, "categories": categories, "categories_declared": spec.categories is not None}
    )
    codes, _ = made.encode(values.texts.tolist())
    _check_declared(name, values, codes < 0, notices)
    return made.model_copy(update={"fill": _most_frequent(made, values, codes)})


def _check_bounds(name: str, spec: ColumnSpec, numbers: npt.NDArray[np.float64], notices: Notices) -> None:
    """Warn if rows of the reference (n,) break the bounds that the config declares for a numeric column."""
    low = -np.inf if spec.minimum is None else spec.minimum
    high = np.inf if spec.maximum is None else spec.maximum
    for key, broken in {
        "minimum": numbers < low,
        "maximum": numbers > high,
        "nullable: false": np.isnan(numbers) & (spec.nullable is False),
    }.items():
        rows = int(broken.sum())
        if rows:
            tell = notices.warn if rows > MANY_UNKNOWN * len(numbers) else notices.note
            first = int(np.flatnonzero(broken)[0])
            tell(
                f"column {name!r}: {rows} of {len(numbers)} rows of the reference break `{key}` in input.columns "
                f"(row {first}: {'missing' if np.isnan(numbers[first]) else f'{numbers[first]:g}'}), and a guard of "
                "kind ranges flags such rows: correct the key, or the file"
            )


def _check_declared(name: str, values: Values, unknown: Mask, notices: Notices) -> None:
    """Warn of texts (m,) of the reference that are not among the declared categories."""
    if not unknown.any():
        return
    rows, every = values.count(unknown), int(values.counts.sum())
    tell = notices.warn if rows > MANY_UNKNOWN * every else notices.note
    tell(
        f"column {name!r}: {rows} of {every} values are none of its `categories` in input.columns "
        f"({values.example(unknown)}), and are unknown to the model: list all categories that the model was trained "
        "with, as the file writes them"
    )


def _most_frequent(column: Column, values: Values, codes: npt.NDArray[np.float64]) -> float:
    """Give the index of the most frequent category; of equally frequent categories, the first by name counts.

    ``codes`` (m,) are the indices of the texts.
    """
    names, known = column.categories or (), codes >= 0
    totals = np.bincount(codes[known].astype(np.int64), values.counts[known], minlength=len(names))
    return float(min(range(len(names)), key=lambda index: (-totals[index], names[index]))) if known.any() else 0.0


def _kind(name: str, column: TableColumn, values: Values, notices: Notices) -> Kind:
    """Find a column's kind from its type and its values, and warn if the kind is doubtful.

    Raises:
        Mistake: the column has no value that would show its kind.
    """
    if not len(values.texts):
        raise Mistake(f"column {name!r} has no value in any row: declare its `kind` in input.columns, or {DROP}")
    if column.type == "date":
        every = np.ones(len(values.texts), dtype=np.bool_)
        notices.warn(
            f"column {name!r} holds dates or times ({values.example(every)}) and is taken as categorical, and a model "
            "only knows the dates of its reference: write numbers into the file, such as the days since a fixed date, "
            f"or {DROP}"
        )
        return "categorical"
    if column.type in ("boolean", "category"):
        return "categorical"
    return _kind_of_texts(name, column, values, notices)


def _kind_of_texts(name: str, column: TableColumn, values: Values, notices: Notices) -> Kind:
    gaps, numbers = marks(values), values.numeral
    rest = ~gaps & ~numbers
    counts = {"gaps": values.count(gaps), "numbers": values.count(numbers), "rest": values.count(rest)}
    if counts["rest"]:
        _check_rest(name, column, values, rest, notices)
    elif not counts["gaps"] and column.type == "untyped":
        return "numeric"
    elif not counts["gaps"]:
        notices.note(
            f"column {name!r} is text in the file, though all its values are numbers, and is taken as categorical: "
            "declare `kind: numeric` in input.columns to read it as numbers"
        )
    elif counts["numbers"]:
        found = [str(text) for text in values.texts[gaps]]
        notices.warn(
            f"column {name!r} would be numeric if {as_list(found)} meant missing ({values.example(gaps)}; "
            f"{counts['gaps']} rows in all), and is taken as categorical: add `missing: {as_list(found)}` to the "
            f"column in input.columns, or these texts to reference.missing, or {MEANT}"
        )
    if counts["gaps"] and (counts["rest"] or not counts["numbers"]):
        found = [str(text) for text in values.texts[gaps]]
        notices.note(
            f"column {name!r} takes {as_list(found)} as a category ({counts['gaps']} rows): to read such values as "
            f"missing, add `missing: {as_list(found)}` to the column in input.columns"
        )
    return "categorical"


def _check_rest(name: str, column: TableColumn, values: Values, rest: Mask, notices: Notices) -> None:
    """Warn of texts ``rest`` (m,) that are neither numbers nor marks of a missing value; say what they look like."""
    numbers, zeros = values.numeral, led_by_zeros(values)
    if not (rest & ~zeros).any() and digits(values)[numbers].all():
        if column.type in ("untyped", "text"):
            notices.note(
                f"column {name!r} has digits behind a leading zero ({values.example(zeros)}), and is taken as "
                "categorical: declare `kind: numeric` in input.columns if the values are numbers"
            )
        return
    known, odd = values.count(numbers), values.count(rest)
    few_words = int(rest.sum()) <= FEW_WORDS and int(numbers.sum()) >= MANY_NUMBERS
    mostly_numbers = (known > odd or few_words) and column.type == "untyped"
    form = likeliest(values, rest)
    if form is not None and values.count(form[1]) + known > odd - values.count(form[1]):
        what, which = form[0], form[1]
        some = f"{values.count(which)} of its values look" if mostly_numbers else "the column looks"
        notices.warn(
            f"column {name!r} is taken as categorical, since {some} like {what.what} ({values.example(which)}): "
            f"{what.advice}, or {DROP}, or {MEANT}"
        )
    elif mostly_numbers:
        notices.warn(
            f"column {name!r} is taken as categorical, since {odd} of its values {'is' if odd == 1 else 'are'} no "
            f"number ({values.example(rest)}), while {known} are: correct the value in the file, or, if the value "
            f"means missing, add the value to the column's `missing` in input.columns, or {MEANT}"
        )
