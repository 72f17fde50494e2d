"""Codes: few numbers for each row, so that rows which look alike have codes at a small Euclidean distance.

The last number of a code says how sparse the rows of the reference lie there: where many rows are alike, as pictures of
a 1 are, a small distance says little.

The model takes no part. An attack changes rows in the directions to which the model reacts, so the model's features
would show the rows of an attack as less alike than the rows are.
"""

from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool1d, adaptive_avg_pool2d

from guards.memory.base import WIDEST

if TYPE_CHECKING:
    from guards.input.schema import InputSchema

__all__ = ["RowCodes"]

IMAGE_SIDE = 7
MOST_NUMBERS = 1024
FARTHEST = 5.0
"""Standard deviations at which a number of a table is cut off: one huge number is no reason for a distance."""
LEAST_VARIANCE = 1e-6
"""The least variance of a component that is kept, as a share of the largest component's variance."""
LARGEST_CODE = 1e3
KNOWN, NEIGHBOURS = 512, 8
"""How many reference rows say how dense rows lie, and to which nearest of these rows the distance is taken."""
SPARSEST = 0.9
"""The quantile of the reference's sparseness that counts for rows that lie farther out, as foreign rows do."""
DENSEST = 0.2
"""The least sparseness, as a share of the largest: rows of which there are copies lie apart by nothing."""


class RowCodes(nn.Module):
    """Turns rows into the whitened first principal components of what is left of the rows at a coarse look.

    Of an image, areas are averaged until at most 7 x 7 of each channel are left. A table's numbers are standardised,
    and each category is a number of its own, 0 or 1. Of a tensor, neighbours are averaged until at most 1024 numbers
    are left.
    """

    source: Tensor
    category: Tensor
    centre: Tensor
    scale: Tensor
    middle: Tensor
    projection: Tensor
    known: Tensor
    sparsest: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("source", torch.empty(0, dtype=torch.int64))
        for name in ("category", "centre", "scale", "middle", "projection", "known", "sparsest"):
            self.register_buffer(name, torch.empty(0))

    @property
    def width(self) -> int:
        """How many numbers a code has."""
        return self.projection.shape[1] + 1 if self.projection.ndim > 1 else 0

    def fit(self, x: Tensor, schema: "InputSchema") -> Self:
        """Learn from rows (n, ...) of a schema.

        Raises:
            ValueError: the rows are all alike, or fewer than two.
        """
        if schema.kind == "tabular":
            places: list[tuple[int, float]] = []
            for index, column in enumerate(schema.columns):
                known = [float(code) for code in range(len(column.categories or ()))]
                places += [(index, code) for code in known] if column.kind == "categorical" else [(index, torch.nan)]
            self.source = torch.tensor([source for source, _ in places], device=x.device)
            self.category = torch.tensor([category for _, category in places], device=x.device)
            picked = x[:, self.source].double()
            known_numbers = torch.where(picked.isfinite(), picked, picked.nanmean(0))
            self.centre = known_numbers.mean(0).nan_to_num(0.0).float()
            self.scale = known_numbers.std(0).nan_to_num(0.0).clamp_min(1e-12).float()
        coarse = self._coarse(x).double()
        if len(coarse) < 2:  # noqa: PLR2004 - a covariance needs two
            raise ValueError("query_similarity needs at least two reference rows")
        self.middle = coarse.mean(0).float()
        values, vectors = torch.linalg.eigh(torch.cov(coarse.T).reshape(coarse.shape[1], -1))
        kept = values > LEAST_VARIANCE * values.max()
        if not bool(values.max() > 0):
            raise ValueError("query_similarity needs reference rows that differ; all rows of the reference are alike")
        values, vectors = values[kept][1 - WIDEST :], vectors[:, kept][:, 1 - WIDEST :]
        # A fixed sign, so that two fits on the same rows give the same codes.
        largest = vectors.abs().argmax(0, keepdim=True)
        self.projection = (vectors * vectors.gather(0, largest).sign() / values.sqrt()).float().contiguous()
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))[:KNOWN]
        self.known = self._components(x[order.to(x.device)])
        self.sparsest = self._apart(self._components(x[: 8 * KNOWN])).quantile(SPARSEST)
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Give the codes (n, w) float32 of rows (n, ...): w - 1 components, and the sparseness, which is positive."""
        components = self._components(x)
        sparseness = self._apart(components).clamp(DENSEST * self.sparsest, self.sparsest)
        return torch.cat([components, sparseness[:, None]], 1)

    def _components(self, x: Tensor) -> Tensor:
        codes: Tensor = (self._coarse(x) - self.middle) @ self.projection
        return codes.clamp_(-LARGEST_CODE, LARGEST_CODE)

    def _apart(self, components: Tensor) -> Tensor:
        """Give the distance of each row to the last of its nearest reference rows: (n,)."""
        squares = components.square().sum(1, keepdim=True) + self.known.square().sum(1) - 2 * components @ self.known.T
        nearest = squares.topk(min(NEIGHBOURS + 1, len(self.known)), largest=False).values[:, -1]
        return nearest.clamp_min(0).sqrt()

    def _coarse(self, x: Tensor) -> Tensor:
        if len(self.source):
            picked = x[:, self.source]
            numbers = ((picked - self.centre) / self.scale).nan_to_num(0.0, FARTHEST, -FARTHEST)
            return torch.where(
                self.category.isnan(), numbers.clamp(-FARTHEST, FARTHEST), (picked == self.category).float()
            )
        x = x.float().nan_to_num(0.0).clamp(-1e9, 1e9)
        if x.ndim == 4:  # noqa: PLR2004 - an image
            x = adaptive_avg_pool2d(x, [min(IMAGE_SIDE, side) for side in x.shape[2:]])  # type: ignore[arg-type]
        x = x.flatten(1)
        return adaptive_avg_pool1d(x, MOST_NUMBERS) if x.shape[1] > MOST_NUMBERS else x
