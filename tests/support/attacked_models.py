"""Trains models that are no part of this repository, on MNIST and Adult, and writes their configs for `guardhouse fit`.

Independent attackers attack these models over HTTP. No row is in two of the parts train, calibration and test.
"""

import csv
import gzip
import json
import os
import runpy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import yaml
from gateways import ROOT
from safetensors.torch import save_file
from torch import nn

__all__ = ["Attacked", "write"]

DATA = Path(os.environ.get("GUARDHOUSE_DATA", ROOT.parent / "shared" / "data"))
NEEDED = {"mnist": "mnist/t10k-images-idx3-ubyte.gz", "adult": "adult/adult_train.csv.gz"}
GUARD = {"name": "queries", "kind": "query_similarity"}
NUMERIC = ("age", "fnlwgt", "education-num", "capital-gain", "capital-loss", "hours-per-week")
LABEL = "income"
Rows = npt.NDArray[Any]

PICTURES = '''
"""Pictures of digits through strided convolutions."""

from torch import nn


def build():
    return nn.Sequential(
        nn.Conv2d(1, 12, 5, stride=2), nn.GELU(), nn.Conv2d(12, 24, 5, stride=2), nn.GELU(),
        nn.Flatten(), nn.Linear(384, 48), nn.GELU(), nn.Linear(48, 10),
    )
'''
TABLE = '''
"""Rows of the census: numbers in standard units, a vector for each category."""

import json
from pathlib import Path

import torch
from torch import nn

FACTS = json.loads((Path(__file__).parent / "facts.json").read_text())


class Census(nn.Module):
    def __init__(self):
        super().__init__()
        sizes = FACTS["sizes"]
        self.numbers = [place for place, size in enumerate(sizes) if not size]
        self.names = [(place, size) for place, size in enumerate(sizes) if size]
        self.register_buffer("centre", torch.tensor(FACTS["centre"]))
        self.register_buffer("scale", torch.tensor(FACTS["scale"]))
        self.vectors = nn.ModuleList([nn.Embedding(size + 1, 4) for _, size in self.names])
        self.body = nn.Sequential(nn.Linear(len(self.numbers) + 4 * len(self.names), 48), nn.GELU())
        self.head = nn.Linear(48, 2)

    def forward(self, x):
        parts = [((x[:, self.numbers] - self.centre) / self.scale).nan_to_num(0.0).clamp(-5, 5)]
        for (place, size), vectors in zip(self.names, self.vectors):
            known = (x[:, place] >= 0) & (x[:, place] < size)
            parts.append(vectors(torch.where(known, x[:, place], size).long()))
        return self.head(self.body(torch.cat(parts, 1)))


def build():
    return Census()
'''


@dataclass(frozen=True)
class Attacked:
    """A trained model with its config, and test rows that clients send: ``rows`` as JSON has them, and their classes.

    ``numbers`` are the rows (n, ...) that an attacker changes: pixels, or a table's numbers in standard deviations.
    ``columns`` says how a table's numbers become JSON: name, mean and standard deviation of each.
    """

    config: Path
    classes: list[str]
    rows: list[Any]
    numbers: Rows
    labels: list[str]
    columns: list[tuple[str, float, float]]


def write(name: str, folder: Path, **guard: Any) -> Attacked:
    """Train a model on ``mnist`` or ``adult``; skip the test if the data are not there.

    ``guard`` changes parameters of the guard with memory.
    """
    if not (DATA / NEEDED[name]).is_file():
        pytest.skip(f"no {DATA / NEEDED[name]}: set GUARDHOUSE_DATA")
    folder.mkdir(parents=True)
    return (_pictures if name == "mnist" else _census)(folder, {**GUARD, **guard})


def _pictures(folder: Path, guard: dict[str, Any]) -> Attacked:
    with gzip.open(DATA / NEEDED["mnist"]) as file:
        x = np.frombuffer(file.read()[16:], np.uint8).reshape(-1, 1, 28, 28)
    with gzip.open(DATA / "mnist" / "t10k-labels-idx1-ubyte.gz") as file:
        y = np.frombuffer(file.read()[8:], np.uint8).astype(np.int64)
    order = np.random.default_rng(7).permutation(len(x))
    x, y = x[order], y[order]
    (folder / "pictures.py").write_text(PICTURES)
    _train(folder, "pictures", torch.from_numpy(x[:6000] / np.float32(255)), torch.from_numpy(y[:6000]), epochs=4)
    np.savez(folder / "train.npz", x=x[:6000], y=y[:6000])
    np.savez(folder / "heldout.npz", x=x[6000:8000], y=y[6000:8000])
    classes = [str(digit) for digit in range(10)]
    config = _config(folder, guard, "pictures", classes, {"kind": "image", "shape": [1, 28, 28]}, "npz", "y")
    test = (x[8000:] / 255).round(6)
    return Attacked(config, classes, test.tolist(), test, [classes[each] for each in y[8000:]], [])


def _census(folder: Path, guard: dict[str, Any]) -> Attacked:
    with gzip.open(DATA / NEEDED["adult"], "rt", newline="") as file:
        read = [{name: None if value == "?" else value for name, value in row.items()} for row in csv.DictReader(file)]
    rows: list[dict[str, Any]] = [read[place] for place in np.random.default_rng(7).permutation(len(read))]
    for row in rows:
        row.update({name: float(row[name]) for name in NUMERIC})
    names = [name for name in rows[0] if name != LABEL]
    categories = {name: sorted({row[name] for row in rows} - {None}) for name in names if name not in NUMERIC}
    columns = [
        {"name": name, "kind": "categorical", "categories": categories[name]}
        if name in categories
        else {"name": name, "kind": "numeric"}
        for name in names
    ]
    numbers = np.array([[row[name] for name in NUMERIC] for row in rows])
    centre, scale = numbers[:20_000].mean(0), numbers[:20_000].std(0)
    order = [NUMERIC.index(name) for name in names if name in NUMERIC]
    facts = {
        "sizes": [len(categories.get(name, ())) for name in names],
        "centre": centre[order].tolist(),
        "scale": scale[order].tolist(),
    }
    (folder / "facts.json").write_text(json.dumps(facts))
    (folder / "census.py").write_text(TABLE)
    codes = [
        [
            row[name] if name in NUMERIC else categories[name].index(row[name]) if row[name] is not None else np.nan
            for name in names
        ]
        for row in rows[:20_000]
    ]
    classes = ["<=50K", ">50K"]
    y = torch.tensor([classes.index(row[LABEL]) for row in rows[:20_000]])
    _train(folder, "census", torch.tensor(codes, dtype=torch.float32), y, epochs=4)
    for part, first, last in (("train", 0, 20_000), ("heldout", 20_000, 24_000)):
        with (folder / f"{part}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, [*names, LABEL])
            writer.writeheader()
            writer.writerows(rows[first:last])
    config = _config(folder, guard, "census", classes, {"kind": "tabular", "columns": columns}, "csv", LABEL)
    test = [{name: row[name] for name in names} for row in rows[24_000:]]
    return Attacked(
        config,
        classes,
        test,
        (numbers[24_000:] - centre) / scale,
        [row[LABEL] for row in rows[24_000:]],
        list(zip(NUMERIC, centre.tolist(), scale.tolist(), strict=True)),
    )


def _train(folder: Path, module: str, x: torch.Tensor, y: torch.Tensor, *, epochs: int) -> None:
    """Train what the module builds, and write its weights."""
    torch.manual_seed(3)
    net: nn.Module = runpy.run_path(str(folder / f"{module}.py"))["build"]()
    optimiser = torch.optim.AdamW(net.parameters(), lr=2e-3)
    for _ in range(epochs):
        for part in torch.randperm(len(x)).split(64):
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(net(x[part]), y[part]).backward()
            optimiser.step()
    save_file(net.state_dict(), folder / "model.safetensors")


def _config(
    folder: Path, guard: dict[str, Any], module: str, classes: list[str], shape: dict[str, Any], ending: str, label: str
) -> Path:
    config = {
        "name": module,
        "model": {"builder": f"{module}:build", "weights": "model.safetensors", "classes": classes},
        "input": shape,
        "reference": {"path": f"train.{ending}", "calibration": f"heldout.{ending}", "label": label},
        "guards": [],
        "memory_guards": [guard],
        "server": {"client_header": "X-Client"},
    }
    path = folder / "gateway.yaml"
    path.write_text(yaml.safe_dump(config))
    return path
