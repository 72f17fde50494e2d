"""Rows that no network was trained on, with their outputs, labels and guards' scores: what every split is cut from."""

import gzip
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.datasets import load_diabetes, load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

from guards.calibration.temperature import fit_temperature
from guards.detectors.mahalanobis import Mahalanobis, MahalanobisParams
from guards.input.schema import InputSchema
from guards.types import Batch, ModelOutput, Reference

__all__ = ["Pool", "ValuePool", "data_folder", "label_pools", "value_pools"]

ROOT = Path(__file__).resolve().parents[2]
BATCH = 128


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """Held-out rows of a classification: ``logits`` (n, k), labels ``y`` (n,), and two guards' scores (2, n)."""

    name: str
    logits: Tensor
    y: Tensor
    scores: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class ValuePool:
    """Held-out rows of a regression: ``features`` (n, d), values, truths ``y``, and the noise if known (n,)."""

    name: str
    features: Tensor
    value: Tensor
    y: Tensor
    noise: Tensor | None = None


def data_folder() -> Path:
    """Give the folder of the data that is not in this repository."""
    return Path(os.environ.get("GUARDHOUSE_DATA", ROOT.parent / "shared" / "data"))


def label_pools(*, quick: bool) -> Iterator[Pool]:
    """Train a network on a part of each data set, and give the other rows; data sets that are absent are left out."""
    digits = load_digits()
    x, y = torch.tensor(digits.data / 16, dtype=torch.float32), torch.tensor(digits.target)
    yield _pool("digits", x, y, train=700, width=64, epochs=5 if quick else 30)
    folder = data_folder()
    if (folder / "fashion-mnist").is_dir():
        x, y = _fashion(folder / "fashion-mnist")
        kept = slice(0, 16_000 if quick else 70_000)
        yield _pool("fashion", x[kept], y[kept], train=8000 if quick else 30_000, width=128, epochs=1 if quick else 4)
    if (folder / "adult").is_dir():
        table = _adult(folder / "adult")
        x = _encoded(table.drop(columns="income"))
        y = torch.tensor((table["income"] == ">50K").to_numpy(), dtype=torch.int64)
        yield _pool("adult", x, y, train=16_000, width=64, epochs=1 if quick else 4)


def value_pools(*, quick: bool) -> Iterator[ValuePool]:
    """Give pools of regressions: a made-up one whose noise is known, the diabetes table, and hours of work of Adult."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn((20_000, 8), generator=generator)
    noise = 0.2 + torch.relu(x[:, 0]) + 0.5 * x[:, 1].abs()
    y = x[:, 2] + (x[:, 3] * x[:, 4]).tanh() + noise * torch.randn(len(x), generator=generator)
    features, value = _regressed(x, y, train=8000, width=32, epochs=2 if quick else 8)
    yield ValuePool("made up", features, value, y[8000:], noise[8000:])
    diabetes = load_diabetes(scaled=False)
    x, y = _standardised(torch.tensor(diabetes.data)), torch.tensor(diabetes.target, dtype=torch.float32)
    order = torch.randperm(len(x), generator=generator)
    features, value = _regressed(x[order], y[order], train=180, width=16, epochs=60)
    yield ValuePool("diabetes", features, value, y[order][180:])
    if (data_folder() / "adult").is_dir():
        table = _adult(data_folder() / "adult")
        y = torch.tensor(table["hours-per-week"].astype(np.float32).to_numpy())
        x = _encoded(table.drop(columns=["hours-per-week"]))
        features, value = _regressed(x, y, train=16_000, width=64, epochs=1 if quick else 3)
        yield ValuePool("hours of work", features, value, y[16_000:])


def _pool(name: str, x: Tensor, y: Tensor, *, train: int, width: int, epochs: int) -> Pool:
    """Train on the first rows of a shuffled data set, and score the others."""
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    x, y = x[order], y[order]
    classes = int(y.max()) + 1
    body, head = _trained(x[:train], y[:train], width=width, outputs=classes, epochs=epochs)
    with torch.no_grad():
        features = body(x)
        logits = head(features)
    output = ModelOutput(logits[:train], features[:train])
    schema = InputSchema(kind="tensor", shape=tuple(x.shape[1:]))
    reference = Reference(Batch(x[:train], output=output), y[:train], schema, head, 1.0)
    strange = Mahalanobis(MahalanobisParams()).fit(reference)
    rest = Batch(x[train:], output=ModelOutput(logits[train:], features[train:]))
    with torch.no_grad():
        unsure = 1 - (rest.output.logits / fit_temperature(logits[:train], y[:train])).softmax(1).amax(1)  # type: ignore[union-attr]
        return Pool(name, logits[train:], y[train:], torch.stack([strange.score(rest), unsure]))


def _regressed(x: Tensor, y: Tensor, *, train: int, width: int, epochs: int) -> tuple[Tensor, Tensor]:
    """Train on the first rows; give features (n, d) and values (n,) of the others."""
    mean, scale = y[:train].mean(), y[:train].std()
    body, head = _trained(x[:train], (y[:train] - mean) / scale, width=width, outputs=1, epochs=epochs)
    with torch.no_grad():
        features = body(x[train:])
        return features, head(features)[:, 0] * scale + mean


def _trained(x: Tensor, y: Tensor, *, width: int, outputs: int, epochs: int) -> tuple[nn.Module, nn.Linear]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        body = nn.Sequential(
            nn.Flatten(), nn.Linear(x[0].numel(), width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()
        )
        head = nn.Linear(width, outputs)
        net = nn.Sequential(body, head)
        optimiser = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=0.01)
        for _ in range(epochs):
            for rows in torch.split(torch.randperm(len(x)), BATCH):
                optimiser.zero_grad()
                made = net(x[rows])
                loss = cross_entropy(made, y[rows]) if outputs > 1 else mse_loss(made[:, 0], y[rows])
                torch.autograd.backward(loss)
                optimiser.step()
    return body, head


def _fashion(folder: Path) -> tuple[Tensor, Tensor]:
    """Read the images (70000, 784) in [0, 1] and their classes, from the idx files."""
    x, y = [], []
    for part in ("train", "t10k"):
        images = gzip.decompress((folder / f"{part}-images-idx3-ubyte.gz").read_bytes())
        labels = gzip.decompress((folder / f"{part}-labels-idx1-ubyte.gz").read_bytes())
        x.append(np.frombuffer(images, np.uint8, offset=16).reshape(-1, 784))
        y.append(np.frombuffer(labels, np.uint8, offset=8))
    return torch.from_numpy(np.concatenate(x)).float() / 255, torch.from_numpy(np.concatenate(y)).long()


def _adult(folder: Path) -> pd.DataFrame:
    table = pd.concat(
        [pd.read_csv(folder / f"adult_{part}.csv.gz", skipinitialspace=True) for part in ("train", "test")]
    )
    return table.drop(columns=["fnlwgt", "education"]).sample(frac=1, random_state=0)


def _encoded(table: pd.DataFrame) -> Tensor:
    """Standardise numbers, and write categories as ones and zeros."""
    return _standardised(torch.tensor(pd.get_dummies(table).to_numpy(dtype=np.float64)))


def _standardised(x: Tensor) -> Tensor:
    return ((x - x.mean(0)) / (x.std(0) + 1e-9)).float()
