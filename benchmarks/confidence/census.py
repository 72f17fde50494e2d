"""Four labels of the census table of UCI Adult, two networks for each, and a bundle fitted to each network."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from guards import Batch, InputSchema, Reference, Rows, TorchModel
from guards.bundle.construction import context_of
from guards.bundle.fit_rows import fit_rows
from guards.config.config import parse
from guards.input.column import Column
from guards.input.imputation import Imputation
from guards.monitors.suitability.monitor import Suitability
from guards.monitors.suitability.params import SuitabilityParams
from guards.pipeline import Pipeline

__all__ = ["Case", "cases", "data_folder"]

ROOT = Path(__file__).resolve().parents[2]
TRAIN, CALIBRATED, POOL, BATCH = 14_000, 16_000, 22_000, 256
"""Where the rows end that train the network, that calibrate the guards, and that the monitor learns from."""
NUMBERS = ("age", "education-num", "capital-gain", "capital-loss", "hours-per-week")
TASKS: dict[str, tuple[str, tuple[str, ...]]] = {
    "income": ("income", ()),
    "married": ("marital-status", ("relationship",)),
    "sex": ("sex", ("relationship",)),
    "hours": ("hours-per-week", ()),
}
"""The column that the label is made of, and columns that would give the label away."""
NEVER = ("fnlwgt", "education")
"""Left out: a weight of the survey, and the same as ``education-num``."""
NETWORKS = {"small": (32, 6), "overfitted": (128, 25)}
"""Hidden units and epochs."""
Floats = npt.NDArray[np.float32]


class Network(nn.Module):
    """Numbers enter standardised, categories as ones and zeros; two hidden layers follow."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, x: Tensor, categories: tuple[int, ...], hidden: int) -> None:
        super().__init__()
        self.categories = categories
        self.numeric = [i for i, count in enumerate(categories) if not count]
        self.register_buffer("mean", x[:, self.numeric].mean(0))
        self.register_buffer("deviation", x[:, self.numeric].std(0) + 1e-9)
        width = len(self.numeric) + sum(categories)
        self.body = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, 32), nn.ReLU())
        self.head = nn.Linear(32, 2)

    def forward(self, x: Tensor) -> Tensor:
        parts = [(x[:, self.numeric] - self.mean) / self.deviation]
        for i, count in enumerate(self.categories):
            if count:
                parts.append((x[:, i, None] == torch.arange(count)).float())
        logits: Tensor = self.head(self.body(torch.cat(parts, dim=1)))
        return logits


@dataclass(frozen=True, eq=False)
class Case:
    """A fitted network: rows ``x`` and classes ``y`` of the pool, from which windows are drawn, and of the reference.

    ``categories`` holds each column's number of categories, 0 for a number.
    """

    name: str
    columns: tuple[str, ...]
    categories: tuple[int, ...]
    pipeline: Pipeline
    monitor: Suitability
    x: Floats
    y: npt.NDArray[np.int64]
    heldout: Rows


def data_folder() -> Path:
    """Give the folder that ``GUARDHOUSE_DATA`` names, or the default."""
    return Path(os.environ.get("GUARDHOUSE_DATA", ROOT.parent / "shared" / "data")) / "adult"


def cases(*, quick: bool) -> Iterator[Case]:
    """Train and fit each network on a split of its own."""
    table = _table()
    for number, (task, (source, telling)) in enumerate(TASKS.items()):
        for kind, (hidden, epochs) in list(NETWORKS.items())[: 1 if quick else None]:
            seed = 4000 + 10 * number + len(kind)
            yield _case(f"{task}, {kind}", table, source, telling, hidden, 2 if quick else epochs, seed)
        if quick:
            return


def _table() -> pd.DataFrame:
    parts = [
        pd.read_csv(data_folder() / f"adult_{part}.csv.gz", dtype=str, keep_default_na=False)
        for part in ("train", "test")
    ]
    table = pd.concat(parts, ignore_index=True)
    return table.rename(columns=lambda name: name.replace("_", "-"))


def _label(column: pd.Series) -> npt.NDArray[np.int64]:
    positive = {
        "income": lambda: column.str.contains(">"),
        "marital-status": lambda: column.str.startswith("Married-civ"),
        "sex": lambda: column == "Male",
        "hours-per-week": lambda: column.astype(float) > 40,  # noqa: PLR2004 - a full week
    }
    return positive[str(column.name)]().to_numpy().astype(np.int64)


def _case(
    name: str, table: pd.DataFrame, source: str, telling: tuple[str, ...], hidden: int, epochs: int, seed: int
) -> Case:
    generator = np.random.default_rng(seed)
    table = table.iloc[generator.permutation(len(table))]
    y = _label(table[source])
    kept = [str(column) for column in table if column not in (source, *telling, *NEVER)]
    x = np.zeros((len(table), len(kept)), np.float32)
    columns = []
    for i, column in enumerate(kept):
        if column in NUMBERS:
            x[:, i] = table[column].astype(float)
            columns.append(Column(name=column, kind="numeric", fill=float(np.median(x[:TRAIN, i]))))
        else:
            known = sorted(set(table[column]))
            x[:, i] = table[column].map(known.index)
            columns.append(Column(name=column, kind="categorical", categories=tuple(known)))
    rows, labels = torch.from_numpy(x), torch.from_numpy(y)
    categories = tuple(len(column.categories or ()) for column in columns)
    net = _train(rows[:TRAIN], labels[:TRAIN], categories, hidden, epochs, seed)
    schema = InputSchema(kind="tabular", shape=(len(kept),), columns=tuple(columns))
    config = parse(
        {
            "name": "census",
            "model": {"builder": "benchmarks.confidence.census:Network", "classes": ["no", "yes"], "device": "cpu"},
            "input": {"kind": "tabular", "columns": [{"name": c.name, "kind": c.kind} for c in columns]},
            "reference": {"path": "train.csv", "calibration": "heldout.csv"},
            "guards": [
                {"name": "quality", "detector": {"kind": "ranges"}},
                {"name": "ood", "detector": {"kind": "mahalanobis"}},
                {"name": "unsure", "detector": {"kind": "confidence"}},
            ],
        }
    )
    fill = torch.tensor([column.fill for column in columns])
    imputation = Imputation(fill, schema.categorical, torch.zeros(len(fill), dtype=torch.bool))
    model = TorchModel(net, example=rows[:8], outputs=2, imputation=imputation)
    calibration, heldout = (
        Rows(rows[start:stop], labels[start:stop]) for start, stop in ((TRAIN, CALIBRATED), (CALIBRATED, POOL))
    )
    bundle = fit_rows(
        config,
        schema=schema,
        classes=("no", "yes"),
        model=model,
        train=Rows(rows[:TRAIN], labels[:TRAIN]),
        heldout=calibration,
    ).bundle
    pipeline = bundle.pipeline()
    context = context_of(config, schema, ("no", "yes"))
    reference = Reference(Batch(heldout.x), heldout.y, schema)
    # The monitor and its rivals learn from the same rows, which calibrated nothing else.
    monitor = Suitability(SuitabilityParams(name="suitable"), context).fit(reference, pipeline(reference.batch))
    return Case(name, tuple(kept), categories, pipeline, monitor, x[POOL:], y[POOL:], heldout)


def _train(x: Tensor, y: Tensor, categories: tuple[int, ...], hidden: int, epochs: int, seed: int) -> Network:
    torch.manual_seed(seed)
    net = Network(x, categories, hidden).train()
    optimiser = torch.optim.AdamW(net.parameters(), lr=2e-3)
    for _ in range(epochs):
        for rows in torch.split(torch.randperm(len(x)), BATCH):
            optimiser.zero_grad()
            cross_entropy(net(x[rows]), y[rows]).backward()  # type: ignore[no-untyped-call]  # torch's is untyped
            optimiser.step()
    return net.eval()
