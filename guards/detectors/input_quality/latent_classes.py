"""A density of rows with numbers and categories: a mixture of classes in which columns are independent."""

from typing import Self

import torch
from torch import Tensor, nn

from guards.detectors.input_quality.value_cells import ValueCells

__all__ = ["LatentClasses"]

CLASSES = 16
ROWS_PER_CLASS = 100
"""Fewer rows have fewer classes. A single class knows no combination: all its lifts are zero."""
ITERATIONS = 40
CELLS_AT_ONCE = 20_000_000
"""The rows times the cells of a fit: of a larger reference only some rows are used."""
ROWS = 20_000
PRIOR = 0.5
"""Weight of the column's own distribution in each class, in rows for each cell."""


class LatentClasses(nn.Module):
    """The lift of each value: the log of its share in the reference over its probability given the row's other values.

    The lift of a value is large if the value is ordinary by itself, and unlikely in this row. The density is exact:
    with r the posterior probability of the classes, 1 / p(x_j | others) is the sum over the classes of r / p(x_j |
    class). A missing value is left out of the density, and its lift is zero.

    Goodman 1974, "Exploratory latent structure analysis using both identifiable and unidentifiable models", fitted by
    expectation maximisation.
    """

    chances: Tensor
    logs: Tensor
    weights: Tensor
    shares: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.cells = ValueCells()
        for name in ("chances", "logs", "weights", "shares"):
            self.register_buffer(name, torch.empty(0))

    def fit(self, x: Tensor, categorical: Tensor) -> Self:
        """Learn the classes from rows x (n, d), of which some columns are categorical (d,) bool."""
        self.cells.fit(x, categorical)
        absent = self.cells.absent
        total = int(absent[-1]) + 1
        most = min(ROWS, max(1, CELLS_AT_ONCE // total))
        x = x[:: -(-len(x) // most)]
        n = len(x)
        hot = torch.zeros((n, total), device=x.device).scatter_(1, self.cells(x), 1.0)
        hot[:, absent] = 0.0
        counts = hot.sum(0)
        column = torch.bucketize(torch.arange(total, device=x.device), absent)
        sizes = column.bincount() - 1
        shares = (counts + PRIOR) / (hot.new_zeros(len(absent)).index_add_(0, column, counts) + sizes * PRIOR)[column]
        pseudo = (PRIOR * shares * sizes[column])[:, None]
        classes = max(1, min(CLASSES, n // ROWS_PER_CLASS))
        seeds = torch.randperm(n, generator=torch.Generator().manual_seed(0))[:classes].to(x.device)
        posterior = torch.softmax(2 * hot @ hot[seeds].T, dim=1)
        for _ in range(ITERATIONS):
            self.weights = torch.log((posterior.sum(0) + 1) / (n + classes))
            pseudo_counts = hot.T @ posterior + pseudo
            pseudo_counts[absent] = 0.0
            sums = hot.new_zeros((len(absent), classes)).index_add_(0, column, pseudo_counts)
            chances = pseudo_counts / sums[column]
            chances[absent] = 1.0
            logs = chances.log()
            posterior = torch.softmax(hot @ logs + self.weights, dim=1)
        shares[absent] = 1.0
        self.chances, self.logs, self.shares = chances, logs, shares.log()
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Give the lift of each value (n, d) of rows x (n, d), in nats."""
        cell = self.cells(x)
        posterior = torch.softmax(self.logs[cell].sum(1) + self.weights, dim=1)
        unlikely = (posterior[:, None] / self.chances[cell]).sum(2)
        return unlikely.log() + self.shares[cell]
