"""Digits of 8x8 pixels: six classes known, four never seen, and foreign images; a small multilayer perceptron."""

from collections.abc import Iterator

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from benchmarks.detection.case import Case, Split, make_case, trained
from benchmarks.detection.suspects import foreign

__all__ = ["digit_cases"]

KNOWN = 6
EPOCHS, BATCH, RATE = 40, 64, 5e-3
TRAINED, CALIBRATED = 0.5, 0.75
"""Up to which share of the rows of known classes they are for training, and for calibration."""


def network() -> nn.Module:
    """Return an untrained network with 64 features."""
    return nn.Sequential(
        *(nn.Flatten(), nn.Linear(64, 64), nn.ReLU()), *(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, KNOWN))
    )


def digit_cases(seeds: int) -> Iterator[Case]:
    """Train one network for each seed, which also draws the classes and the rows."""
    digits = load_digits()
    images, labels = torch.from_numpy(digits.images / 16).float()[:, None], torch.from_numpy(digits.target)
    for seed in range(seeds):
        generator = torch.Generator().manual_seed(seed)
        classes = torch.randperm(10, generator=generator)
        number = torch.full((10,), -1)
        number[classes[:KNOWN]] = torch.arange(KNOWN)
        order = torch.randperm(len(images), generator=generator)
        x, y = images[order], number[labels[order]]
        split, near = _split(x, y)
        net = trained(network(), *split.train, epochs=EPOCHS, rate=RATE, batch=BATCH, seed=seed)
        yield make_case(net, split, {"unseen digits": near, **foreign(split.clean[0], generator)})


def _split(x: Tensor, y: Tensor) -> tuple[Split, Tensor]:
    near, x, y = x[y < 0], x[y >= 0], y[y >= 0]
    first, second = int(TRAINED * len(x)), int(CALIBRATED * len(x))
    return Split((x[:first], y[:first]), x[first:second], (x[second:], y[second:])), near
