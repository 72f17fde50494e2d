"""A small convolutional network for grey images of clothes, 28x28 pixels."""

from torch import nn


def build() -> nn.Module:
    """Return the untrained network: images (n, 1, 28, 28) in [0, 1] to logits (n, 10)."""
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Dropout(0.25), nn.Linear(1568, 128), nn.ReLU()),
        nn.Linear(128, 10),
    )
