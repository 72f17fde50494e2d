"""Odd combinations of ordinary values: what is missing together, and how well a value fits the row's others."""

from typing import Self

import torch
from torch import Tensor, nn

from guards.detectors.input_quality.gaussian_copula import GaussianCopula
from guards.detectors.input_quality.latent_classes import LatentClasses
from guards.detectors.input_quality.missing_patterns import MissingPatterns
from guards.detectors.input_quality.value_cells import ValueCells
from guards.statistics.surprise import Surprise

__all__ = ["Combinations"]

HELD = 4
"""One row of so many is kept from the densities, and says how surprising their scores are."""
ROWS, CELLS_AT_ONCE = 20_000, 20_000_000
"""The densities are fitted to so many rows at most, and to fewer if rows times cells would be more."""
CHUNK = 4096
ODD = 0.99
"""A value is odd if its lift is larger than the largest lift of this share of the held-out rows."""


class Combinations(nn.Module):
    """The surprise of a row's combination of values, in nats: the largest of three views.

    The views are the pattern of missing values, and the largest lift of a value under each of two densities: a mixture
    of classes, which knows categories and regions, and a Gaussian of normal scores, which knows close dependence of
    numbers. The surprises are learned from reference rows that the densities were not fitted to.
    """

    odd: Tensor
    strangest: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.patterns, self.cells = MissingPatterns(), ValueCells()
        self.classes, self.copula = LatentClasses(), GaussianCopula()
        self.surprise = Surprise()
        self.register_buffer("odd", torch.empty(0))
        self.register_buffer("strangest", torch.empty(0))

    @property
    def fitted(self) -> bool:
        """Whether there is anything to judge by."""
        return len(self.odd) > 0

    def fit(self, x: Tensor, categorical: Tensor) -> Self:
        """Learn from rows x (n, d), of which some columns are categorical (d,) bool."""
        held = torch.arange(len(x), device=x.device) % HELD == 0
        rows = x[~held]
        self.patterns.fit(rows.isnan())
        self.cells.fit(rows, categorical)
        most = min(ROWS, CELLS_AT_ONCE // int(self.cells.absent[-1]))
        rows = rows[:: -(-len(rows) // max(1, most))]
        cell = self.cells(rows)
        self.classes.fit(cell, self.cells.absent)
        if not categorical.all():
            self.copula.fit(rows, cell, self.cells.absent, categorical)
        views = torch.cat([self._views(part) for part in torch.split(x[held], CHUNK)])
        self.surprise.fit(views)
        place = int(ODD * (len(views) - 1))
        ordered = views.sort(dim=0).values
        self.odd, self.strangest = ordered[place], ordered[-1]
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Give the surprise (n,) of rows x (n, d)."""
        surprise: Tensor = self.surprise(self._views(x))
        return surprise.amax(1)

    def odd_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mark the values (n, d) that fit the row's other values badly, and those that fit worse than any before."""
        cell = self.cells(x)
        lifts: Tensor = self.classes(cell)
        marked, worse = lifts > self.odd[1], lifts > self.strangest[1]
        if len(self.copula.numeric):
            lifts = self.copula(x, cell)
            marked[:, self.copula.numeric] |= lifts > self.odd[2]
            worse[:, self.copula.numeric] |= lifts > self.strangest[2]
        return marked, worse

    def odd_pattern(self, x: Tensor) -> Tensor:
        """Mark the rows (n,) whose pattern of missing values is odd."""
        pattern: Tensor = self.patterns(x.isnan())
        return pattern > self.odd[0]

    def _views(self, x: Tensor) -> Tensor:
        """Give the pattern's surprise, and the largest lift under each density: (n, 3)."""
        cell = self.cells(x)
        numbers = self.copula(x, cell).amax(1) if len(self.copula.numeric) else x.new_zeros(len(x))
        return torch.stack([self.patterns(x.isnan()), self.classes(cell).amax(1), numbers], dim=1)
