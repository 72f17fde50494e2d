"""Prepares rows for the model: fills missing and unseen values, and scales columns. Guards see rows as sent."""

import torch
from torch import Tensor, nn

__all__ = ["Imputation"]


class Imputation(nn.Module):
    """Fills missing and unseen values with ``fill`` (d,), taken from the reference, so that the model gets numbers.

    Columns that ``keep`` (d,) marks are not filled: a missing number stays NaN, a missing or unseen category is -1.
    Then every column is multiplied by its factor in ``scale`` (d,), which is 1 for a categorical column.
    """

    fill: Tensor
    categorical: Tensor
    keep: Tensor
    scale: Tensor

    def __init__(self, fill: Tensor, categorical: Tensor, keep: Tensor, scale: Tensor | None = None) -> None:
        super().__init__()
        self.register_buffer("fill", fill)
        self.register_buffer("categorical", categorical)
        self.register_buffer("keep", keep)
        self.register_buffer("scale", torch.ones_like(fill) if scale is None else scale)
        self.scaled = bool((self.scale != 1).any())

    @property
    def typical(self) -> Tensor:
        """What the model gets for a row (1, d) without any value."""
        return (self.fill * self.scale)[None]

    def forward(self, x: Tensor) -> Tensor:
        """Fill and scale rows (n, d)."""
        absent = x.isnan() | (self.categorical & (x < 0))
        filled = torch.where(absent & ~self.keep, self.fill, x)
        filled = torch.where(self.keep & self.categorical & x.isnan(), -1.0, filled)
        return filled * self.scale if self.scaled else filled

    def as_sent(self, prepared: Tensor) -> Tensor:
        """Undo the scaling of prepared rows (n, d), for guards, which were fitted on values as they are sent."""
        return prepared / self.scale if self.scaled else prepared
