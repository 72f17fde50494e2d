"""A model of 8x8 images that costs next to nothing: what is measured is the server."""

import torch
from torch import nn

SIDE, CLASSES = 8, 10


def build() -> nn.Module:
    """Make the model; the same weights every time."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, CLASSES)).eval()
