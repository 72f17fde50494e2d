"""Clothes of 28x28 pixels (Fashion-MNIST) against MNIST, foreign images, corruptions, and classes never seen."""

import gzip
import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.detection.case import Case, Split, make_case, trained
from benchmarks.detection.suspects import corruptions, foreign

__all__ = ["data_folder", "fashion_case"]

ROOT = Path(__file__).resolve().parents[2]
UNSEEN = (3, 6, 9)
ROWS, QUICK_ROWS = 30_000, 1_500
EPOCHS, BATCH, RATE = 5, 128, 3e-3
CALIBRATION, SUSPECTS = 5_000, 2_000


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
    """Train a network without the ``unseen`` classes, which become suspects."""
    folder, generator = data_folder(), torch.Generator().manual_seed(0)
    x, y = (_read(folder / "fashion-mnist" / f"train-{part}-ubyte.gz") for part in ("images-idx3", "labels-idx1"))
    clean, clean_y = (
        _read(folder / "fashion-mnist" / f"t10k-{part}-ubyte.gz") for part in ("images-idx3", "labels-idx1")
    )
    number = torch.full((10,), -1)
    number[[label for label in range(10) if label not in unseen]] = torch.arange(10 - len(unseen))
    order = torch.randperm(len(x), generator=generator)
    x, y, clean_y = x[order], number[y[order].long()], number[clean_y.long()]
    known = (y >= 0).nonzero()[:, 0]
    rows = QUICK_ROWS if quick else ROWS
    first, last = known[:rows], known[-CALIBRATION:]
    if quick:
        last = last[:1_000]
    split = Split(
        (_images(x[first]), y[first]), _images(x[last]), (_images(clean[clean_y >= 0]), clean_y[clean_y >= 0])
    )
    suspects = {"unseen clothes": _images(clean[clean_y < 0])} if unseen else _far(folder, split.clean[0], generator)
    net = network(10 - len(unseen))
    net = trained(net, *split.train, epochs=1 if quick else EPOCHS, rate=RATE, batch=BATCH, seed=0)
    return make_case(net, split, suspects)


def _far(folder: Path, clean: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
    mnist = _images(_read(folder / "mnist" / "t10k-images-idx3-ubyte.gz"))
    some = clean[:SUSPECTS]
    worse = {f"corrupted: {name}": rows for name, rows in corruptions(some, generator).items()}
    return {"MNIST": mnist, **foreign(some, generator), **worse}


def _images(pixels: Tensor) -> Tensor:
    return pixels[:, None].float() / 255


def _read(path: Path) -> Tensor:
    content = gzip.decompress(path.read_bytes())
    shape = np.frombuffer(content, ">i4", content[3], offset=4)
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=4 + 4 * content[3]).reshape(shape).copy())
