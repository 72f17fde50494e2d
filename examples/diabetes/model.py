"""A small regression network for the diabetes table in the table's own units."""

import torch
from torch import Tensor, nn

COLUMNS = ("age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6")
SEXES = ("1", "2")


class Network(nn.Module):
    """One hidden layer; the mean and scale of the columns are kept with the weights."""

    mean: Tensor
    scale: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(len(COLUMNS)))
        self.register_buffer("scale", torch.ones(len(COLUMNS)))
        self.hidden = nn.Linear(len(COLUMNS), width)
        self.head = nn.Linear(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map rows (n, 10), in the order of `COLUMNS` and `sex` as its index in `SEXES`, to progression (n, 1)."""
        return self.head(torch.relu(self.hidden((x - self.mean) / self.scale)))


def build() -> nn.Module:
    """Return the untrained network."""
    return Network(width=16)
