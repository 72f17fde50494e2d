"""The models and data that attacks are tried on. Only the digits were used to choose anything about the guard."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from benchmarks.detection.case import trained
from benchmarks.detection.fashion import data_folder, read
from benchmarks.input_quality.adult_model import AdultModel
from benchmarks.input_quality.table_errors import Adult
from guards.input.schema import InputSchema

__all__ = ["Subject", "subjects"]

BATCH, RATE = 64, 3e-3
_Bounds = tuple[float, float]


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """A model, as a function from rows (n, ...) to probabilities (n, k), and rows that it has seen or not seen.

    ``reference`` trained the model, ``calibration`` calibrates the guard, and ``test`` (with ``labels``) is attacked.
    ``eps`` bounds attacks in the largest norm, ``rms`` in the root mean square: a small and a large bound.
    """

    name: str
    schema: InputSchema
    probabilities: Callable[[Tensor], Tensor]
    reference: Tensor
    calibration: Tensor
    test: Tensor
    labels: Tensor
    eps: tuple[float, float]
    rms: tuple[float, float]


class _Sizes(NamedTuple):
    trained: int
    calibration: int
    epochs: int


def subjects(names: tuple[str, ...], *, quick: bool) -> Iterator[Subject]:
    """Train a model for each name; a data set that is not there is left out."""
    folder = data_folder()
    for name in names:
        if name == "digits":
            digits = load_digits()
            x, y = torch.from_numpy(digits.images / 16).float()[:, None], torch.from_numpy(digits.target).long()
            yield _pictures(name, x, y, _Sizes(800, 400, 4 if quick else 30), eps=(0.1, 0.2), rms=(0.08, 0.15))
        elif (folder / name).is_dir():
            yield _adult(folder, quick=quick) if name == "adult" else _photographs(name, folder, quick=quick)


def _photographs(name: str, folder: Path, *, quick: bool) -> Subject:
    x, y = (read(folder / name / f"t10k-{part}-ubyte.gz") for part in ("images-idx3", "labels-idx1"))
    x, y = x[:, None].float() / 255, y.long()
    eps, rms = ((0.1, 0.2), (0.08, 0.15)) if name == "mnist" else ((0.03, 0.1), (0.02, 0.08))
    return _pictures(name, x, y, _Sizes(1000, 400, 1) if quick else _Sizes(6000, 1000, 5), eps=eps, rms=rms)


def _pictures(name: str, x: Tensor, y: Tensor, sizes: _Sizes, *, eps: _Bounds, rms: _Bounds) -> Subject:
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    x, y = x[order], y[order]
    numbers = 32 * (x.shape[2] // 4) * (x.shape[3] // 4)
    net = nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(numbers, 64), nn.ReLU(), nn.Linear(64, 10)),
    )
    first, last = sizes.trained, sizes.trained + sizes.calibration
    fitted = trained(net, x[:first], y[:first], epochs=sizes.epochs, rate=RATE, batch=BATCH, seed=0)
    schema = InputSchema(kind="image", shape=tuple(x.shape[1:]))
    return Subject(
        name, schema, lambda rows: fitted(rows).softmax(1), x[:first], x[first:last], x[last:], y[last:], eps, rms
    )


def _adult(folder: Path, *, quick: bool) -> Subject:
    adult, first, more = Adult.load(folder), 3000 if quick else 20_000, 500 if quick else 2000
    model = AdultModel(adult, first, more)

    def probabilities(rows: Tensor) -> Tensor:
        output = model.run(rows).output
        assert output is not None  # noqa: S101 - the model has run
        return output.logits.softmax(1)

    x, y, last = adult.train, adult.labels, first + more
    return Subject(
        "adult",
        adult.schema,
        probabilities,
        x[:first],
        x[first:last],
        x[last:],
        y[last:],
        eps=(0.25, 0.5),
        rms=(0.2, 0.4),
    )
