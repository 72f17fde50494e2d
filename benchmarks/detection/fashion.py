"""Clothes of 28x28 pixels (Fashion-MNIST) against MNIST, foreign images, corruptions, and classes never seen."""

import gzip
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.detection.case import Case, Split, make_case, trained
from benchmarks.detection.suspects import corruptions, foreign

__all__ = ["data_folder", "fashion_case", "read"]

ROOT = Path(__file__).resolve().parents[2]
UNSEEN = (3, 6, 9)
BATCH, RATE = 128, 3e-3


class Sizes(NamedTuple):
    """How many rows are trained on, calibrate, are clean, and are changed into suspects, and how many epochs."""

    trained: int
    calibration: int
    clean: int
    suspects: int
    epochs: int


FULL, QUICK = Sizes(30_000, 5_000, 10_000, 2_000, 5), Sizes(1_000, 500, 500, 100, 1)


def data_folder() -> Path:
    """Give the folder that holds ``fashion-mnist`` and ``mnist``."""
    return Path(os.environ.get("GUARDHOUSE_DATA", ROOT.parent / "shared" / "data"))


def network(classes: int) -> nn.Module:
    """Return an untrained network with 96 features."""
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Dropout(0.25), nn.Linear(1568, 96), nn.ReLU(), nn.Linear(96, classes)),
    )


def fashion_case(unseen: tuple[int, ...], *, quick: bool) -> Case:
    """Train a network without the ``unseen`` classes, which become suspects; ``quick`` takes few rows."""
    sizes = QUICK if quick else FULL
    folder, generator = data_folder(), torch.Generator().manual_seed(0)
    x, y = _part(folder, "train")
    clean, clean_y = (part[: sizes.clean] for part in _part(folder, "t10k"))
    number = torch.full((10,), -1)
    number[[label for label in range(10) if label not in unseen]] = torch.arange(10 - len(unseen))
    order = torch.randperm(len(x), generator=generator)
    x, y, clean_y = x[order], number[y[order].long()], number[clean_y.long()]
    known = (y >= 0).nonzero()[:, 0]
    first, last, sound = known[: sizes.trained], known[-sizes.calibration :], clean_y >= 0
    split = Split((_images(x[first]), y[first]), _images(x[last]), (_images(clean[sound]), clean_y[sound]))
    net = network(10 - len(unseen))
    net = trained(net, *split.train, epochs=sizes.epochs, rate=RATE, batch=BATCH, seed=0)
    if unseen:
        return make_case(net, split, {"unseen clothes": _images(clean[~sound])})
    some = split.clean[0][: sizes.suspects]
    worse = {f"corrupted: {name}": rows for name, rows in corruptions(some, generator).items()}
    mnist = _images(read(folder / "mnist" / "t10k-images-idx3-ubyte.gz")[: sizes.clean])
    return make_case(net, split, {"MNIST": mnist, **foreign(some, generator), **worse})


def _part(folder: Path, part: str) -> tuple[Tensor, Tensor]:
    names = ("images-idx3", "labels-idx1")
    images, labels = (read(folder / "fashion-mnist" / f"{part}-{name}-ubyte.gz") for name in names)
    return images, labels


def _images(pixels: Tensor) -> Tensor:
    return pixels[:, None].float() / 255


def read(path: Path) -> Tensor:
    """Read a compressed file of the source: images (n, height, width) or labels (n,), uint8."""
    content = gzip.decompress(path.read_bytes())
    shape = np.frombuffer(content, ">i4", content[3], offset=4)
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=4 + 4 * content[3]).reshape(shape).copy())
