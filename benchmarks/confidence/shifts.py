"""Windows of rows that differ from the reference in many ways, drawn from a pool of rows that no fit has seen."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.confidence.census import Case

__all__ = ["KINDS", "Window", "windows"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Window:
    """Rows ``x`` (n, d) with their classes ``y`` (n,)."""

    x: npt.NDArray[np.float32]
    y: npt.NDArray[np.int64]


class Draw:
    """Draws one window; ``columns`` are those by which windows may differ."""

    def __init__(self, case: Case, generator: np.random.Generator, rows: int) -> None:
        self.case, self.generator, self.rows = case, generator, rows
        # The bounds of the verdict were chosen on windows that differ in the other columns.
        self.columns = list(range(1, len(case.columns), 2))

    def _take(self, index: npt.NDArray[np.int64]) -> Window:
        return Window(self.case.x[index].copy(), self.case.y[index].copy())

    def _weighted(self, log_weights: Floats) -> Window:
        weights = np.exp(log_weights - log_weights.max())
        return self._take(self.generator.choice(len(self.case.x), self.rows, replace=False, p=weights / weights.sum()))

    def _tilt(self, column: int, strength: float) -> Floats:
        values, count = self.case.x[:, column], self.case.categories[column]
        if count:
            return self.generator.normal(0, strength, count)[values.astype(np.int64)]
        rank = np.argsort(np.argsort(values + 1e-6 * self.generator.random(len(values)))) / len(values)
        return np.asarray(self.generator.choice([-1, 1]) * 3 * strength * (rank - 0.5))

    def none(self) -> Window:
        """Draw clean rows."""
        return self._take(self.generator.choice(len(self.case.x), self.rows, replace=False))

    def one_column(self) -> Window:
        """Prefer some values of one column."""
        return self._weighted(self._tilt(self.generator.choice(self.columns), self.generator.choice([0.5, 1, 1.5, 2])))

    def three_columns(self) -> Window:
        """Prefer some values of three columns."""
        chosen = self.generator.choice(self.columns, min(3, len(self.columns)), replace=False)
        return self._weighted(sum((self._tilt(i, self.generator.choice([0.5, 1])) for i in chosen), np.zeros(1)))

    def subgroup(self) -> Window:
        """Draw from one category, or from three tenths of a number's range of ranks."""
        while True:
            column = self.generator.choice(self.columns)
            values, count = self.case.x[:, column], self.case.categories[column]
            if count:
                inside = values == self.generator.integers(count)
            else:
                start = 0.7 * self.generator.random()
                low, high = np.quantile(values, [start, start + 0.3])
                inside = (low <= values) & (values <= high)
            if self.rows <= inside.sum() < 0.7 * len(values):
                return self._take(self.generator.choice(np.flatnonzero(inside), self.rows, replace=False))

    def broken_column(self) -> Window:
        """Break a column in some or all rows: missing or unseen, in another unit, shuffled, or random."""
        window = self.none()
        column, x = self.generator.choice(self.columns), window.x
        part = self.generator.random(self.rows) < self.generator.choice([0.1, 0.3, 1.0])
        count, values, how = self.case.categories[column], x[part, column], self.generator.integers(4)
        if how == 0:
            x[part, column] = -1 if count else np.nan
        elif how == 1:
            x[part, column] = self.generator.permutation(values)
        elif count:
            x[part, column] = self.generator.integers(count, size=len(values))
        elif how == 2:  # noqa: PLR2004
            x[part, column] = values * self.generator.choice([0.3, 3, 1000])
        else:
            x[part, column] = values + 2 * self.case.x[:, column].std() * self.generator.normal(size=len(values))
        return window

    def class_shares(self) -> Window:
        """Prefer one class."""
        return self._weighted(np.where(self.case.y == 1, np.log(self.generator.choice([0.25, 0.5, 2, 4])), 0.0))

    def other_labels(self) -> Window:
        """Let a tenth of the rows have the other class, with the same inputs: no input shows it."""
        window = self.none()
        flipped = self.generator.random(self.rows) < 0.1  # noqa: PLR2004
        window.y[flipped] = 1 - window.y[flipped]
        return window


KINDS: dict[str, Callable[[Draw], Window]] = {
    "no shift": Draw.none,
    "one column": Draw.one_column,
    "three columns": Draw.three_columns,
    "subgroup": Draw.subgroup,
    "broken column": Draw.broken_column,
    "class shares": Draw.class_shares,
    "other labels": Draw.other_labels,
}


def windows(case: Case, kind: str, *, count: int, rows: int) -> list[Window]:
    """Draw ``count`` windows of a kind."""
    seed = [2028, list(KINDS).index(kind), *case.name.encode()]
    draw = Draw(case, np.random.default_rng(seed), rows)
    return [KINDS[kind](draw) for _ in range(count)]
