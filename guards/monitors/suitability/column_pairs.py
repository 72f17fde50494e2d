"""Pairs of columns that depend on each other, and how often each pair's coarse values come together.

If a feed swaps or shuffles a column, each column alone looks as usual, and only pairs show the fault. The pairs are the
edges of the tree that keeps most of the columns' mutual information (Chow & Liu 1968, "Approximating discrete
probability distributions with dependence trees"): one pair fewer than there are columns.
"""

from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from guards.monitors.streams import MISSING, UNSEEN, Streams

__all__ = ["CELLS", "ColumnPairs"]

LEVELS = 4
"""A numeric column has three levels of equal shares, a categorical column its three most frequent categories; the last
level holds everything else: missing and unseen values, and the other categories."""
CELLS = LEVELS * LEVELS
"""The cells of a pair."""
OTHER = LEVELS - 1


class ColumnPairs(nn.Module):
    """Finds every row's cell in every pair: ``edges`` (pairs, 2) are streams, ``level`` (bins,) the levels of bins."""

    edges: Tensor
    level: Tensor

    def __init__(self, streams: Streams) -> None:
        super().__init__()
        names = tuple(streams.bins)
        self._columns = [place for place, name in enumerate(names) if name.startswith("column:")]
        self._bins = list(streams.bins.values())
        self._continuous = len(streams.continuous)
        self._offsets = streams.offsets.tolist()
        self.count = max(0, len(self._columns) - 1)
        self.register_buffer("edges", torch.zeros((self.count, 2), dtype=torch.int64))
        self.register_buffer("level", torch.zeros(streams.size, dtype=torch.int64))

    def fit(self, places: Tensor) -> Self:
        """Set levels and pairs by the places (streams, n) of the reference's rows."""
        counts = torch.bincount(places.flatten(), minlength=len(self.level)).double().cpu().numpy()
        level = np.full(len(self.level), OTHER)
        for column in self._columns:
            bins, start = self._bins[column], self._offsets[column]
            own = counts[start : start + len(bins)]
            known = np.array([name not in (MISSING, UNSEEN) for name in bins])
            if column < self._continuous:
                middle = (np.cumsum(own * known) - own / 2) / max(1.0, (own * known).sum())
                found = np.minimum((middle * OTHER).astype(np.int64), OTHER - 1)
            else:
                rank = np.empty(len(bins), np.int64)
                rank[np.argsort(-own * known, kind="stable")] = np.arange(len(bins))
                found = np.minimum(rank, OTHER)
            level[start : start + len(bins)] = np.where(known, found, OTHER)
        self.level = torch.from_numpy(level).to(places.device)
        pairs = _tree(self.level[places[self._columns]].cpu().numpy())
        self.edges = torch.tensor([[self._columns[a], self._columns[b]] for a, b in pairs], device=places.device)
        self.edges = self.edges.reshape(-1, 2).long()
        return self

    def cells(self, places: Tensor) -> Tensor:
        """Find the cell of every row in the flat array of all pairs' cells: (pairs, n) int64."""
        first, second = (self.level[places[column]] for column in self.edges.unbind(1))
        offsets = CELLS * torch.arange(len(self.edges), device=places.device)
        return LEVELS * first + second + offsets[:, None]


def _tree(levels: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
    """Find the tree of columns with the largest sum of mutual information, given their levels (columns, n)."""
    columns, rows = levels.shape
    ones = (levels[:, None, :] == np.arange(LEVELS)[None, :, None]).reshape(columns * LEVELS, rows).astype(np.float32)
    joint = (ones @ ones.T).astype(np.float64) / max(1, rows)
    alone = joint.diagonal()
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(joint > 0, joint * np.log(joint / np.outer(alone, alone)), 0.0)
    information = terms.reshape(columns, LEVELS, columns, LEVELS).sum((1, 3))
    tree: list[tuple[int, int]] = []
    inside = [0]
    while len(inside) < columns:  # Prim's algorithm
        best = information[inside].copy()
        best[:, inside] = -np.inf
        a, b = np.unravel_index(best.argmax(), best.shape)
        tree.append((inside[int(a)], int(b)))
        inside.append(int(b))
    return tree
