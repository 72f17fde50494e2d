"""Which values of a row are missing together, and how often the reference misses the same values."""

import math
from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn

__all__ = ["MissingPatterns"]

BITS = 62


class MissingPatterns(nn.Module):
    """Minus the log of the share of reference rows with the same missing values.

    A pattern that no reference row has counts log(n + 1), and in addition what its columns count if they are missing
    independently of each other. A pattern is known by the sum of its columns' random numbers of 62 bits: two of k
    patterns have the same sum with a probability below k^2 / 2^62.
    """

    weights: Tensor
    sums: Tensor
    surprises: Tensor
    absent: Tensor
    never: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("weights", "sums"):
            self.register_buffer(name, torch.empty(0, dtype=torch.int64))
        for name in ("surprises", "absent", "never"):
            self.register_buffer(name, torch.empty(0))

    def fit(self, missing: Tensor) -> Self:
        """Count the patterns of reference rows, whose missing values are marked (n, d)."""
        n, d = missing.shape
        generator = torch.Generator().manual_seed(0)
        self.weights = torch.randint(1 << BITS, (d,), generator=generator).to(missing.device)
        sums, counts = torch.unique(_sum(missing, self.weights), return_counts=True)
        self.never = torch.tensor(math.log(n + 1), device=missing.device)
        # The last sum is nobody's, so that every search ends at a sum.
        self.sums = torch.cat([sums, torch.full_like(sums[:1], torch.iinfo(torch.int64).max)])
        self.surprises = nn.functional.pad(self.never - torch.log1p(counts.float()), (0, 1), value=torch.inf)
        share = (missing.sum(0) + 1) / (n + 2)
        # What a missing value counts less what a present value counts; a row without missing values counts the latter.
        self.absent = torch.log1p(-share) - share.log()
        self.never = self.never - torch.log1p(-share).sum()
        return self

    def forward(self, missing: Tensor) -> Tensor:
        """Give the surprise of each row's pattern (n,), in nats."""
        return self.bound()(missing)

    def bound(self) -> Callable[[Tensor], Tensor]:
        """Give ``forward`` with the buffers read once."""
        weights, sums, surprises, never, absent = self.weights, self.sums, self.surprises, self.never, self.absent

        def surprise(missing: Tensor) -> Tensor:
            pattern = _sum(missing, weights)
            place = torch.searchsorted(sums, pattern)
            alone = torch.addmv(never, missing.float(), absent)
            return torch.where(sums.take(place) == pattern, surprises.take(place), alone)

        return surprise


def _sum(missing: Tensor, weights: Tensor) -> Tensor:
    """Add the columns' numbers; a sum beyond 64 bits wraps around, in any order of addition."""
    return (missing * weights).sum(1)
