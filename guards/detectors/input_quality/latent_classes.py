"""A density of rows with numbers and categories: a mixture of classes in which columns are independent."""

from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn

__all__ = ["LatentClasses"]

CLASSES = 16
ROWS_PER_CLASS = 100
"""Fewer rows have fewer classes. A single class knows no combination: all its lifts are zero."""
ITERATIONS = 40
PRIOR = 0.5
"""Weight of the column's own distribution in each class, in rows for each cell."""


class LatentClasses(nn.Module):
    """The lift of each value: the log of its share in the reference over its probability given the row's other values.

    The lift of a value is large if the value is ordinary by itself, and unlikely in this row. The density is exact:
    with r the posterior probability of the classes, 1 / p(x_j | others) is the sum over the classes of r / p(x_j |
    class). A missing value is left out of the density, and its lift is zero.

    ``logs`` (c, k) holds log p(cell | class) of each of k classes, and ``ratios`` (c, k) p(cell) / p(cell | class).

    Goodman 1974, "Exploratory latent structure analysis using both identifiable and unidentifiable models", fitted by
    expectation maximisation.
    """

    logs: Tensor
    ratios: Tensor
    weights: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("logs", "ratios", "weights"):
            self.register_buffer(name, torch.empty(0))

    def fit(self, cell: Tensor, absent: Tensor) -> Self:
        """Learn the classes from the cells (n, d) of rows; ``absent`` (d,) is each column's cell for missing values."""
        d, total = len(absent), int(absent[-1]) + 1
        n = len(cell)
        hot = torch.zeros((n, total), device=cell.device).scatter_(1, cell, 1.0)
        hot[:, absent] = 0.0
        counts = hot.sum(0)
        column = torch.bucketize(torch.arange(total, device=cell.device), absent)
        sizes = column.bincount() - 1
        shares = (counts + PRIOR) / (hot.new_zeros(d).index_add_(0, column, counts) + sizes * PRIOR)[column]
        prior = (PRIOR * shares * sizes[column])[:, None]
        classes = max(1, min(CLASSES, n // ROWS_PER_CLASS))
        seeds = torch.randperm(n, generator=torch.Generator().manual_seed(0))[:classes].to(cell.device)
        posterior = torch.softmax(2 * hot @ hot[seeds].T, dim=1)
        for _ in range(ITERATIONS):
            weights = torch.log((posterior.sum(0) + 1) / (n + classes))
            rows = hot.T @ posterior + prior
            rows[absent] = 0.0
            chances = rows / hot.new_zeros((d, classes)).index_add_(0, column, rows)[column]
            chances[absent] = 1.0
            logs = chances.log()
            posterior = torch.softmax(hot @ logs + weights, dim=1)
        shares[absent] = 1.0
        self.logs, self.ratios, self.weights = logs, shares[:, None] / chances, weights
        return self

    def forward(self, cell: Tensor) -> Tensor:
        """Give the lift of each value (n, d), in nats, of rows by their cells (n, d)."""
        return self.bound()(nn.functional.embedding(cell, self.logs).sum(1), nn.functional.embedding(cell, self.ratios))

    def bound(self) -> Callable[[Tensor, Tensor], Tensor]:
        """Give the function from the sums (n, k) of ``logs`` and from ``ratios`` (n, d, k) to the lifts (n, d)."""
        weights = self.weights

        def lift(logs: Tensor, ratios: Tensor) -> Tensor:
            posterior = torch.softmax(logs + weights, dim=1)
            return torch.bmm(ratios, posterior[:, :, None])[:, :, 0].log_()

        return lift
