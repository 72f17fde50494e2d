"""Odd combinations of ordinary values: what is missing together, and how well a value fits the row's others."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from guards.detectors.input_quality.gaussian_copula import GaussianCopula
from guards.detectors.input_quality.latent_classes import LatentClasses
from guards.detectors.input_quality.missing_patterns import MissingPatterns
from guards.detectors.input_quality.swapped_values import SwappedValues
from guards.detectors.input_quality.value_cells import ValueCells
from guards.host_arrays import is_on_host
from guards.statistics.surprise import Surprise

__all__ = ["Combinations", "Lifts"]

HELD = 4
"""One row of so many is kept from the densities, and says how surprising their scores are."""
ROWS, CELLS_AT_ONCE = 20_000, 20_000_000
"""The densities are fitted to so many rows at most, and to fewer if rows times cells would be more."""
CHUNK = 4096
ODD = 0.99
"""A value is odd if its lift is larger than the largest lift of this share of the held-out rows."""
MARGIN = 2.0
"""A swap is suggested if its log odds exceed those of every held-out row by so many nats, a factor of 7: of many clean
rows some exceed them by a little."""


@dataclass(frozen=True, slots=True, eq=False)
class Lifts:
    """What the views say of n rows: the surprise of the ``pattern`` of missing values (n,), lifts, and odds of swaps.

    ``values`` (n, d) are the lifts of all values under the mixture, and ``numbers`` (n, m) the lifts of numbers under
    the Gaussian, None if there are no numbers. ``swaps`` (c, c, n) are the log odds of swaps, None if there is no pair.
    """

    pattern: Tensor
    values: Tensor
    numbers: Tensor | None
    swaps: Tensor | None

    @property
    def views(self) -> Tensor:
        """The pattern's surprise, the largest lift or odds of a swap, and the largest lift of a number: (n, 3)."""
        values = self.values.amax(1)
        if self.swaps is not None:
            values = torch.maximum(values, self.swaps.amax((0, 1)))
        numbers = self.pattern.new_zeros(len(self.pattern)) if self.numbers is None else self.numbers.amax(1)
        return torch.stack([self.pattern, values, numbers]).T


Functions = tuple[Callable[[Tensor, Tensor], Lifts], Callable[[Tensor], Tensor]]


class Combinations(nn.Module):
    """The surprise of a row's combination of values, in nats: the largest of three views.

    The views are the pattern of missing values, and the largest lift of a value under each of two densities: a mixture
    of classes, which knows categories and regions, and a Gaussian of normal scores, which knows close dependence of
    numbers. The log odds of a swap of two columns count as lifts under the mixture: both are logs of Bayes factors. The
    surprises are learned from reference rows that the densities were not fitted to.
    """

    odd: Tensor
    strangest: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.patterns, self.cells = MissingPatterns(), ValueCells()
        self.classes, self.copula = LatentClasses(), GaussianCopula()
        self.swaps, self.surprises = SwappedValues(), Surprise()
        self.register_buffer("odd", torch.empty(0))
        self.register_buffer("strangest", torch.empty(0))
        self._bound: Functions | None = None

    @property
    def fitted(self) -> bool:
        """Whether there is anything to judge by."""
        return len(self.odd) > 0

    def fit(self, x: Tensor, categorical: Tensor) -> Self:
        """Learn from rows x (n, d), of which some columns are categorical (d,) bool."""
        self._bound = None
        held = torch.arange(len(x), device=x.device) % HELD == 0
        rows = x[~held]
        self.patterns.fit(rows.isnan())
        self.cells.fit(rows, categorical)
        most = min(ROWS, CELLS_AT_ONCE // int(self.cells.absent[-1]))
        rows = rows[:: -(-len(rows) // max(1, most))]
        cell = self.cells(rows.T.contiguous()).T
        self.classes.fit(cell, self.cells.absent)
        if not categorical.all():
            self.copula.fit(rows, cell, self.cells.absent, categorical)
        self.swaps.fit(rows, categorical)
        lifts = self._bound_lifts()
        views = torch.cat([lifts(part, part.isnan()).views for part in torch.split(x[held], CHUNK)])
        self.surprises.fit(views)
        place = int(ODD * (len(views) - 1))
        ordered = views.sort(dim=0).values
        self.odd, self.strangest = ordered[place], ordered[-1]
        return self

    def lifts(self, x: Tensor, missing: Tensor) -> Lifts:
        """Compute what both the surprise and the odd values of rows x (n, d) are made of.

        ``missing`` (n, d) marks the values that are missing. A value that is NaN, and not missing, is left out of the
        densities alone.
        """
        return self._functions()[0](x, missing)

    def _functions(self) -> Functions:
        """Give the functions behind ``lifts`` and ``surprise``, made once: of a few rows, reading buffers is slow."""
        if self._bound is None:
            with torch.inference_mode(mode=False):  # the tables serve with and without inference mode
                self._bound = self._bound_lifts(), self.surprises.bound()
        return self._bound

    def _bound_lifts(self) -> Callable[[Tensor, Tensor], Lifts]:
        """Give the function ``lifts``: one table holds what both densities know of a cell."""
        cells, patterns = self.cells.bound(), self.patterns.bound()
        classes, copula = self.classes.bound(), self.copula.bound()
        logs, ratios, numeric = self.classes.logs, self.classes.ratios, len(self.copula.numeric) > 0
        table = torch.cat([logs, ratios, self.copula.pushes] if numeric else [logs, ratios], dim=1)
        swaps, paired, k = self.swaps.bound(), len(self.swaps.places) > 0, logs.shape[1]
        whole_pattern = patterns(torch.zeros((1, len(self.cells.absent)), dtype=torch.bool, device=logs.device))

        def lifts(x: Tensor, missing: Tensor) -> Lifts:
            whole = is_on_host(x) and not x.isnan().any()
            columns = x.T.contiguous()
            known = torch.embedding(table, cells(columns).T)
            pattern = whole_pattern.expand(len(x)) if whole else patterns(missing)
            values = classes(known[:, :, :k].sum(1), known[:, :, k : 2 * k])
            numbers = copula(columns, known[:, :, 2 * k :].sum(1), whole) if numeric else None
            return Lifts(pattern, values, numbers, swaps(columns) if paired else None)

        return lifts

    def surprise(self, lifts: Lifts) -> Tensor:
        """Give the surprise (n,) of rows."""
        return self._functions()[1](lifts.views).amax(1)

    def odd_values(self, lifts: Lifts) -> tuple[Tensor, Tensor]:
        """Mark the values (n, d) that fit the row's other values badly, and those that fit worse than any before."""
        return self._marked(lifts, self.odd), self._marked(lifts, self.strangest, margin=MARGIN)

    def _marked(self, lifts: Lifts, limit: Tensor, *, margin: float = 0.0) -> Tensor:
        marked = lifts.values > limit[1]
        if lifts.numbers is not None:
            marked[:, self.copula.numeric] |= lifts.numbers > limit[2]
        if lifts.swaps is not None:
            largest = lifts.swaps.amax((0, 1))
            likeliest = (lifts.swaps == largest).any(0) & (largest > limit[1].clamp_min(0) + margin)
            marked[:, self.swaps.places] |= likeliest.T
        return marked

    def odd_pattern(self, lifts: Lifts) -> Tensor:
        """Mark the rows (n,) whose pattern of missing values is odd."""
        return lifts.pattern > self.odd[0]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move the buffers, as ``to`` does, and forget the functions, which hold the former buffers."""
        self._bound = None
        moved: Self = super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # torch's is untyped
        return moved

    def __getstate__(self) -> dict[str, object]:
        """Leave the functions out of a copy, which has buffers of its own."""
        return self.__dict__ | {"_bound": None}
