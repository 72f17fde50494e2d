"""The model of the serving benchmark: the small CNN of PyTorch's MNIST example on 28x28 images, with random weights."""

import torch
from torch import nn

ROWS = 28
CLASSES = 10


def build() -> nn.Module:
    """Make the network; the same weights every time."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(9216, 128), nn.ReLU(), nn.Linear(128, CLASSES),
    ).eval()  # fmt: skip


def images(count: int, seed: int) -> torch.Tensor:
    """Make smooth images (count, 1, 28, 28) in [0, 1]."""
    coarse = torch.rand((count, 1, 7, 7), generator=torch.Generator().manual_seed(seed))
    return nn.functional.interpolate(coarse, size=(ROWS, ROWS), mode="bilinear")
