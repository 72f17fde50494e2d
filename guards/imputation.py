"""What stands in for a missing or unseen value in the model's input; guards see the rows as they came."""

import torch
from torch import Tensor, nn

__all__ = ["Imputation"]


class Imputation(nn.Module):
    """Fills missing and unseen values with what the reference had, so that the model gets a number everywhere.

    Columns of ``keep`` are passed on as they are: NaN for missing, -1 for unseen.
    """

    fill: Tensor
    categorical: Tensor
    keep: Tensor

    def __init__(self, fill: Tensor, categorical: Tensor, keep: Tensor) -> None:
        super().__init__()
        self.register_buffer("fill", fill)
        self.register_buffer("categorical", categorical)
        self.register_buffer("keep", keep)

    def forward(self, x: Tensor) -> Tensor:
        """Fill rows (n, d)."""
        absent = x.isnan() | (self.categorical & (x < 0))
        filled = torch.where(absent & ~self.keep, self.fill, x)
        return torch.where(self.keep & self.categorical & x.isnan(), -1.0, filled)
