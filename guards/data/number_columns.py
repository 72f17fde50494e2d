"""Reads columns of numbers, and warns of odd numbers."""

import numpy as np
import numpy.typing as npt
import pandas as pd

from guards.data.distinct_values import Mask, Values
from guards.data.table import TableColumn
from guards.data.text_formats import led_by_zeros, likeliest
from guards.input.spelling import key_of
from guards.notices import Notices
from guards.sentences import counted
from guards.types import Mistake

__all__ = ["check_numbers", "numbers_of"]

EXACT = 2**24
"""float32 holds every whole number up to this one."""
MERGED = 0.1
SENTINELS = (-999.0, -9999.0, -99999.0, -999999.0)
LEAST_ROWS = 50
DAYS = (19000101, 21001231)


def numbers_of(column: TableColumn, place: str, *, missing: tuple[str, ...] = (), hint: str) -> npt.NDArray[np.float64]:
    """Read a column as numbers (n,), NaN for missing values; true is 1, false is 0, and ``missing`` texts mean missing.

    The sentence of a mistake begins with ``place`` and ends with ``hint``.

    Raises:
        Mistake: a value is no number.
    """
    marked = np.array([float(str(number)) for kind, number in map(key_of, missing) if kind == "number"])
    if column.cells.dtype != object:
        numbers = column.cells.astype(np.float64)
        return np.where(np.isin(numbers, marked), np.nan, numbers) if len(marked) else numbers
    values = Values.of(column)
    numbers = values.numbers.copy()
    for index in np.flatnonzero(~values.numeral):
        kind, value = key_of(values.texts[index])
        if kind == "boolean":
            numbers[index] = float(bool(value))
    if not values.numeral.all():
        zeros = led_by_zeros(values)  # the column holds numbers, so 007 means 7
        numbers[zeros] = values.texts[zeros].astype(np.float64)
    gap = values.among(missing) | np.isin(numbers, marked)
    odd = np.isnan(numbers) & ~gap
    if odd.any():
        form = likeliest(values, odd)
        looks = f" (the value looks like {form[0].what}: {form[0].advice})" if form is not None else ""
        row, _, text = values.example(odd).partition(": ")
        rows = values.count(odd)
        more = f", and {counted(rows - 1, 'more row')} {'has' if rows == 2 else 'have'} no number" if rows > 1 else ""  # noqa: PLR2004
        raise Mistake(f"{place}, {row}: {text} is no number{more}{looks}; {hint}")
    numbers[gap] = np.nan
    return np.append(numbers, np.nan)[values.codes]


def check_numbers(name: str, column: TableColumn, numbers: npt.NDArray[np.float64], notices: Notices) -> None:
    """Warn of odd numbers in a column of the reference; ``numbers`` (n,) are its values, NaN if missing."""
    present = numbers[np.isfinite(numbers)]  # values that are not finite are refused with their row
    if not len(present):
        notices.warn(
            f"column {name!r} has no value in any row, and so tells the model nothing: give the column `drop: true` "
            "in input.columns, or write values into the file"
        )
        return
    low, high = float(present.min()), float(present.max())
    if low == high and abs(high) < 2**53:
        return
    _check_sentinel(name, present, low, notices)
    if high >= DAYS[0] and bool(np.all((present >= DAYS[0]) & (present <= DAYS[1]) & _is_day(present))):
        notices.warn(
            f"column {name!r} looks like dates that are written as numbers ({present[0]:.0f}): a model only knows the "
            "dates of its reference, so write the days since a fixed date into the file, or give the column `drop: "
            "true` in input.columns"
        )
    elif max(-low, high) > EXACT and bool(np.all(present == np.floor(present))):
        different = len(pd.unique(column.cells))  # cells, not numbers: float64 may merge different digits of the file
        merged = different - len(np.unique(present.astype(np.float32)))
        if merged > MERGED * different:
            notices.warn(
                f"column {name!r} holds whole numbers up to {max(low, high, key=abs):.0f}, and the model's float32 "
                f"cannot tell {merged} of the {different} different numbers from others: give the column `drop: true` "
                "in input.columns if the numbers are identifiers; if not, write smaller numbers into the file, such as "
                "the difference from a fixed number"
            )
    steps = np.diff(numbers)
    if len(numbers) >= LEAST_ROWS and bool(np.all(steps == steps[0])):
        notices.note(
            f"column {name!r} counts the rows: if the column is an identifier and not an input of the model, give the "
            "column `drop: true` in input.columns"
        )


def _check_sentinel(name: str, present: npt.NDArray[np.float64], low: float, notices: Notices) -> None:
    if low not in SENTINELS:
        return
    which: Mask = present == low
    others = present[~which]
    if which.sum() > 1 and others.min() > low / 2:
        notices.note(
            f"column {name!r} holds {low:.0f} in {which.sum()} rows, and nothing else below {others.min():g}: if "
            f"{low:.0f} "
            f'means missing, add `missing: ["{low:.0f}"]` to the column in input.columns'
        )


def _is_day(numbers: npt.NDArray[np.float64]) -> Mask:
    month, day = numbers // 100 % 100, numbers % 100
    whole: Mask = numbers % 1 == 0
    return whole & (month >= 1) & (month <= 12) & (day >= 1) & (day <= 31)  # noqa: PLR2004 - a calendar's
