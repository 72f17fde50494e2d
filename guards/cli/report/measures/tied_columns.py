"""Finds columns of a table that say nothing, or nothing that other columns do not say."""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt
import pandas as pd

__all__ = ["Tied", "constant_columns", "correlated_pairs", "distinct_counts", "one_to_one", "share_explained"]

Floats = npt.NDArray[np.float64]
CORRELATED, FEWEST_PAIRS = 0.95, 20
FEW_VALUES, FEWEST_ROWS_A_VALUE = 200, 5
MOST_COLUMNS = 300
SMALLEST = 1e-9


@dataclass(frozen=True, slots=True)
class Tied:
    """Two columns, by their places, and their correlation; the correlation is None if each names the other's value."""

    first: int
    second: int
    correlation: float | None


def distinct_counts(x: Floats) -> list[int]:
    """Count the different values of each column of rows (n, d), missing values apart."""
    return [len(np.unique(column[~np.isnan(column)])) for column in x.T]


def constant_columns(x: Floats) -> list[int]:
    """Find the columns of rows (n, d) that have at most one value and no missing value beside it.

    >>> constant_columns(np.array([[1.0, 2.0, np.nan], [1.0, 3.0, np.nan]]))
    [0, 2]
    """
    return [
        place
        for place, count in enumerate(distinct_counts(x))
        if count + bool(np.isnan(x[:, place]).any()) <= 1  # being missing is one more value
    ]


def correlated_pairs(x: Floats, numeric: list[int]) -> list[Tied]:
    """Find pairs of numeric columns of rows (n, d) whose Pearson correlation is at least 0.95 in size.

    Rows in which one of the two is missing do not count for a pair.
    """
    places = _varying(x, numeric)
    r = pd.DataFrame(x[:, places]).corr(min_periods=FEWEST_PAIRS).fillna(0.0).to_numpy()
    return [
        Tied(places[i], places[j], float(r[i, j]))
        for i, j in combinations(range(len(places)), 2)
        if abs(r[i, j]) >= CORRELATED
    ]


def share_explained(x: Floats, numeric: list[int]) -> dict[int, float]:
    """Give the share of each numeric column's variance that a linear function of the other numeric columns explains.

    It is 1 - 1 / VIF, with the variance inflation factor of Belsley, Kuh & Welsch 1980. A column that is an exact
    linear function of others has a share of 1.
    """
    places = _varying(x, numeric)
    if len(places) < 2 or len(x) <= len(places) + 1:  # noqa: PLR2004 - a column alone has no others
        return {}
    r = _correlations(x, places)
    inverse = np.linalg.inv(r + SMALLEST * np.eye(len(places)))
    return {place: float(np.clip(1 - 1 / inverse[i, i], 0, 1)) for i, place in enumerate(places)}


def one_to_one(x: Floats) -> list[Tied]:
    """Find pairs of columns of rows (n, d) with few values, of which each tells the other: a code and its name."""
    kept = ~np.isnan(x).any(1)
    rows = x[kept]
    if not len(rows):
        return []
    found, codes = [], {}
    for place in range(min(x.shape[1], MOST_COLUMNS)):
        values, code = np.unique(rows[:, place], return_inverse=True)
        if 1 < len(values) <= min(FEW_VALUES, len(rows) // FEWEST_ROWS_A_VALUE):
            codes[place] = (code, len(values))
    for (first, (a, size)), (second, (b, other)) in combinations(codes.items(), 2):
        if size == other and len(np.unique(a * other + b)) == size:
            found.append(Tied(first, second, None))
    return found


def _varying(x: Floats, numeric: list[int]) -> list[int]:
    constant = set(constant_columns(x))
    return [place for place in numeric if place not in constant and not np.isnan(x[:, place]).all()][:MOST_COLUMNS]


def _correlations(x: Floats, places: list[int]) -> Floats:
    """Correlate columns; a missing value counts as the column's mean, and a column without spread as unlike others."""
    rows = x[:, places].astype(np.float64)
    centred = np.nan_to_num(rows - np.nanmean(rows, axis=0, keepdims=True)) if places else rows
    length = np.linalg.norm(centred, axis=0)
    scaled = centred / np.where(length > 0, length, 1)
    r = scaled.T @ scaled
    np.fill_diagonal(r, 1.0)
    return np.asarray(r)
