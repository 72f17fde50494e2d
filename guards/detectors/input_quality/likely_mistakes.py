"""Likely mistakes behind a strange value: another unit, or two columns swapped."""

from itertools import pairwise
from typing import Self

import torch
from torch import Tensor, nn

from guards.detectors.input_quality.familiar_values import FamiliarValues
from guards.host_arrays import is_on_host
from guards.input.column import Column

__all__ = ["LikelyMistakes"]

SLIPS = (
    ("1000 times too large", 1000.0, 0.0),
    ("1000 times too small", 0.001, 0.0),
    ("100 times too large", 100.0, 0.0),
    ("100 times too small", 0.01, 0.0),
    ("centimetres, not inches", 2.54, 0.0),
    ("inches, not centimetres", 1 / 2.54, 0.0),
    ("metres, not feet", 0.3048, 0.0),
    ("feet, not metres", 1 / 0.3048, 0.0),
    ("kilograms, not pounds", 0.45359237, 0.0),
    ("pounds, not kilograms", 1 / 0.45359237, 0.0),
    ("Fahrenheit, not Celsius", 1.8, 32.0),
    ("Celsius, not Fahrenheit", 1 / 1.8, -32 / 1.8),
)
"""What a value looks like, and the value as it is: factor * right value + offset."""
BULK = 0.01
"""A value is ordinary if no more than this share of the reference lies beyond the value, on either side."""
SMALL = 0.05
"""A corrected value is not smaller than this share of the reference: near zero, any value is 1000 times too large."""
MOST_PAIRS = 500
"""If more pairs of columns could be swapped, only neighbouring columns are compared."""
UNFAMILIAR = 4.0
"""How much worse a value is that the column never has, in widths of the bulk."""


class LikelyMistakes(nn.Module):
    """Looks for a mistake that would make a strange value ordinary.

    A mistake is suggested only if the value as it stands is strange, and the corrected value is ordinary in its column.
    If several units would do, the unit is suggested whose corrected value is nearest to the middle of the reference.
    """

    numeric: Tensor
    first: Tensor
    second: Tensor
    low: Tensor
    high: Tensor
    middle: Tensor
    least: Tensor
    factor: Tensor
    offset: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("numeric", "first", "second"):
            self.register_buffer(name, torch.empty(0, dtype=torch.int64))
        for name in ("low", "high", "middle", "least", "factor", "offset"):
            self.register_buffer(name, torch.empty(0))
        self.names: tuple[str, ...] = ()

    def fit(self, x: Tensor, columns: tuple[Column, ...]) -> Self:
        """Learn which values of rows x (n, d) are ordinary."""
        numeric = [place for place, column in enumerate(columns) if column.kind == "numeric"]
        pairs = [
            (a, b)
            for b, column in enumerate(columns)
            for a in range(b)
            if columns[a].kind == column.kind and columns[a].categories == column.categories
        ]
        if len(pairs) > MOST_PAIRS:
            neighbours = set(pairwise(range(len(columns))))
            pairs = [pair for pair in pairs if pair in neighbours]
        device = x.device
        self.numeric = torch.tensor(numeric, dtype=torch.int64, device=device)
        self.first, self.second = (
            torch.tensor([pair[end] for pair in pairs], dtype=torch.int64, device=device) for end in (0, 1)
        )
        ordered = torch.where(x.isfinite(), x, torch.inf).sort(dim=0).values
        counts = x.isfinite().sum(0)
        last = (counts - 1).clamp_min(0)
        self.low, self.middle, self.high = (
            ordered.gather(0, (share * last).round().long()[None])[0] for share in (BULK, 0.5, 1 - BULK)
        )
        sizes = ordered.abs().sort(dim=0).values
        self.least = sizes.gather(0, (SMALL * last).round().long()[None])[0]
        self.factor = torch.tensor([factor for _, factor, _ in SLIPS], device=device)
        self.offset = torch.tensor([offset for _, _, offset in SLIPS], device=device)
        names = [column.name for column in columns]
        self.names = (
            *(f"{names[place]}: looks {_like(slip)}" for place in numeric for slip, _, _ in SLIPS),
            *(f"{names[a]} and {names[b]} look swapped" for a, b in pairs),
        )
        return self

    def forward(self, x: Tensor, strange: Tensor, odd: Tensor, familiar: FamiliarValues) -> Tensor:
        """Mark the likely mistakes (n, c), in the order of ``names``.

        ``strange`` (n, d) marks the strange values, and ``odd`` (n, d) those that are at least odd.
        """
        if not is_on_host(x):
            return self._marks(x, strange, odd, familiar)
        # On the CPU, rows without a strange value are skipped; a device would have to wait for their number.
        doubtful = strange.any(1)
        marks = strange.new_zeros((len(x), len(self.numeric) * len(SLIPS) + len(self.first)))
        if doubtful.any():
            marks[doubtful] = self._marks(x[doubtful], strange[doubtful], odd[doubtful], familiar)
        return marks

    def _marks(self, x: Tensor, strange: Tensor, odd: Tensor, familiar: FamiliarValues) -> Tensor:
        swaps = self._swaps(x, strange, odd, familiar)
        return torch.cat([self._slips(x, strange & ~self._settled(swaps, strange), familiar), swaps], dim=1)

    def _settled(self, swaps: Tensor, strange: Tensor) -> Tensor:
        """Mark the values (n, d) of two strange columns that look swapped: one mistake is likelier than two."""
        both = (swaps & strange[:, self.first] & strange[:, self.second]).float()
        blank = torch.zeros_like(strange, dtype=both.dtype)
        return blank.index_add_(1, self.first, both).index_add_(1, self.second, both) > 0

    def _slips(self, x: Tensor, strange: Tensor, familiar: FamiliarValues) -> Tensor:
        """Mark the likeliest unit of each strange number: (n, m * s)."""
        n, s, m = len(x), len(SLIPS), len(self.numeric)
        right = (x[:, self.numeric].T[:, :, None] - self.offset) / self.factor
        distance = self._distance(right.reshape(m, n * s), self.numeric, familiar).reshape(m, n, s)
        distance = torch.where(right.abs() < self.least[self.numeric, None, None], torch.inf, distance)
        best = (distance == distance.amin(2, keepdim=True)) & distance.isfinite()
        return (best.permute(1, 0, 2) & strange[:, self.numeric, None]).flatten(1)

    def _swaps(self, x: Tensor, strange: Tensor, odd: Tensor, familiar: FamiliarValues) -> Tensor:
        """Mark the likeliest swapped pair of each row with a strange value: (n, p)."""
        if not len(self.first):
            return strange.new_zeros((len(x), 0))
        a, b = x[:, self.first].T, x[:, self.second].T
        columns = torch.cat([self.first, self.second]).repeat(2)
        ends = self._distance(torch.cat([a, b, b, a]), columns, familiar).view(2, 2, len(a), len(x))
        stands, swapped = ends.sum(1)
        # A number that is odd alone, and not far off, fits some other column by chance: both of a swap must be odd.
        width = (self.high - self.low).clamp_min(1e-6)
        far = torch.maximum(self.low - x, x - self.high) > width
        alone = (far[:, self.first] | far[:, self.second]).T | ~torch.isin(self.first, self.numeric)[:, None]
        both = ((odd[:, self.first].T | ends[0, 0].isinf()) & (odd[:, self.second].T | ends[0, 1].isinf())) | alone
        doubtful = (strange[:, self.first] | strange[:, self.second]).T & both & (a != b)
        swapped = torch.where(doubtful & (swapped < stands), swapped, torch.inf)
        return ((swapped == swapped.amin(0)) & swapped.isfinite()).T

    def _distance(self, values: Tensor, columns: Tensor, familiar: FamiliarValues) -> Tensor:
        """Give the distance of values (k, r) of columns (k,) from the middle, in widths of the bulk.

        The distance is infinite outside the bulk, and larger if the column never has such a value.
        """
        low, middle, high = (level[columns, None] for level in (self.low, self.middle, self.high))
        distance = (values - middle).abs() / (high - low).clamp_min(1e-6)
        distance = torch.where(familiar.know(values, columns), distance, distance + UNFAMILIAR)
        return torch.where((values >= low) & (values <= high), distance, torch.inf)


def _like(slip: str) -> str:
    return slip if slip.startswith("100") else f"like {slip}"
