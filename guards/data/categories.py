"""Finds the categories of a column in the order of their indices, and warns of odd categories."""

from collections.abc import Sequence

import numpy as np

from guards.data.distinct_values import Values
from guards.data.name_order import alike, by_value, is_boolean, is_number, other_order
from guards.data.table import TableColumn
from guards.notices import Notices
from guards.sentences import as_list

__all__ = ["categories_of", "check_categories"]

FEW = 20
MANY = 1000
MANY_OF_FEW = 50
ALMOST_ALL = 0.9
BOOLEANS = (("False", "True"), ("FALSE", "TRUE"), ("false", "true"))
ORDER = "write the order that the model was trained with as `categories` of the column in input.columns"


def categories_of(name: str, column: TableColumn, values: Values, notices: Notices) -> tuple[str, ...]:
    """Sort the categories of a column of the reference as texts, false before true.

    A warning says that the order is doubtful if the file declares another order, or if the texts are numbers that have
    another order by value.
    """
    names = [str(text) for text in values.texts] or [""]
    if all(map(is_boolean, names)):
        return max(pair for pair in BOOLEANS if set(pair) & set(names))
    ordered = tuple(sorted(names))
    others: Sequence[str] | None = None
    if column.categories is not None:
        others, source = column.categories, "the file lists them in the order"
    elif all(map(is_number, names)):
        others, source = by_value(names), "sorted by their value, they are"
    if others is not None and tuple(others[: len(ordered)]) != ordered:
        notices.warn(
            f"column {name!r}: its categories are sorted as texts, {as_list(ordered)}; {source} {as_list(others)}: "
            f"{ORDER}"
        )
    elif others is None and len(names) <= FEW and (other := other_order(names)) is not None:
        notices.note(
            f"column {name!r}: its categories are sorted as texts, {as_list(ordered)}; by their meaning, they are "
            f"{as_list(other)}: {ORDER}"
        )
    return ordered


def check_categories(name: str, values: Values, notices: Notices, *, meant: bool) -> None:
    """Warn of odd categories in a column of the reference.

    Many categories are not odd if they are ``meant`` as categories, or if another warning already doubts the column.
    """
    names = [str(text) for text in values.texts]
    rows = values.count(np.ones(len(names), dtype=np.bool_))
    twins = alike(names) if not all(map(is_boolean, names)) else None
    if twins is not None:
        notices.warn(
            f"column {name!r}: the categories {twins[0]!r} and {twins[1]!r} differ only in how they are written, and "
            "are two categories for the model: write them in one way in the file"
        )
    padded = [text for text in names if text.strip() not in ("", text)]
    if padded and twins is None:
        notices.warn(
            f"column {name!r}: the category {padded[0]!r} has spaces around it, and a client that sends "
            f"{padded[0].strip()!r} sends another category: remove the spaces from the file"
        )
    if meant:
        return
    if len(names) > MANY or (len(names) >= MANY_OF_FEW and len(names) > ALMOST_ALL * rows):
        notices.warn(
            f"column {name!r} has {len(names)} different texts in {rows} rows (such as {names[0][:40]!r}), like free "
            "text or identifiers, and a model only knows the categories of its reference: give the column `drop: true` "
            "in input.columns, or declare `kind: categorical` if the texts are meant as categories"
        )
