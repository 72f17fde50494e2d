"""Writes folders of tiny models with made-up rows and configs for `guardhouse fit`; the weights are fixed by hand."""

import csv
import random
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

# Values of the column `trap` that make something fail; the reference holds none of them.
CRASH_MODEL, CRASH_HIDDEN, CRASH_WIRE = 0.25, 0.5, 0.75
NAP = 3.125
"""The value of `a` at which the regression model sleeps for `c` seconds."""
HELD = -1.0
"""The value of `c` at which such a sleep lasts as long as the file that `MADE_UP_NAP_GATE` names exists."""
BROKEN = 2.625
"""The value of `a` at which the regression model answers NaN."""
FATAL = 3.75
"""The value of `a` at which the process of the regression model ends."""

ALLOWED = {"age": 60, "income": 70, "region": "north", "job": "cook", "trap": 0.6}
FLAGGED = ALLOWED | {"age": 45, "income": 50, "region": "south"}  # the model cannot tell
ABSTAINED = ALLOWED | {"age": 75, "income": 10}  # nobody in the reference is so old and so poor
REJECTED = ALLOWED | {"age": 150}  # beyond a declared bound
HIDDEN = ALLOWED | {"trap": 0.99999}  # flagged by a guard that answers do not show
WIRED = ALLOWED | {"trap": 0.00001}  # flagged by a guard of a third party
TABLE_COLUMNS = ("age", "income", "region", "job", "trap")
TABLE_GUARDS = ("quality", "ood", "confidence", "wire", "hidden")
COLOURS = ("red", "green", "blue")

TABLE_MODEL = '''
"""A linear model of five columns, with a switch that breaks it."""

import torch
from torch import Tensor, nn


class Loans(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(5, 5), nn.Linear(5, 2)
        with torch.no_grad():
            self.body.weight.copy_(torch.eye(5)), self.body.bias.zero_()
            self.head.weight.copy_(torch.tensor([[0.0] * 5, [1.0, 2.0, 0.5, 0.0, 0.0]])), self.head.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        if (x[:, 4] == 0.25).any():
            raise ValueError(f"PAYLOAD {x[:, 1].tolist()}")
        age, income = (x[:, 0] - 45) / 15, (x[:, 1] - 50) / 20
        return self.head(self.body(torch.stack([age, income, x[:, 2] == 0, x[:, 2] == 1, x[:, 3] / 3], dim=1)))


def build() -> nn.Module:
    return Loans()
'''

IMAGE_MODEL = '''
"""Which colour is the image? One number a channel, and three that look at the middle."""

import torch
from torch import Tensor, nn


class Colours(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(6, 3)
        with torch.no_grad():
            self.head.weight.copy_(torch.cat([torch.eye(3), torch.zeros(3, 3)], dim=1) * 12), self.head.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.cat([x.mean((2, 3)), x[:, :, 2:5, 3:6].mean((2, 3))], dim=1))


def build() -> nn.Module:
    return Colours()
'''

VALUE_MODEL = '''
"""3 a - 2 b + c, or NaN, after a nap if a row asks for one. A file may hold up a nap, and another the building."""

import os
import time

import torch
from torch import Tensor, nn


def wait(gate):
    """Wait as long as the file exists that a variable of the environment names."""
    path = os.environ.get(gate)
    while path and os.path.exists(path):
        time.sleep(0.01)


class Value(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 1)
        with torch.no_grad():
            self.head.weight.copy_(torch.tensor([[3.0, -2.0, 1.0]])), self.head.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        if (x[:, 0] == 3.75).any():
            raise SystemExit(3)
        tired = x[:, 0] == 3.125
        if tired.any():
            seconds = float(x.detach()[tired, 2].max())
            time.sleep(seconds) if seconds >= 0 else wait("MADE_UP_NAP_GATE")
        return torch.where(x[:, :1] == 2.625, torch.nan, self.head(x))


def build() -> nn.Module:
    wait("MADE_UP_BUILD_GATE")
    return Value()
'''

WIDE_MODEL = '''
"""Which of many labels? Rows of four numbers; 9 in the first makes it sure, and 7 makes all labels equally likely."""

import torch
from torch import Tensor, nn


class Wide(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, LABELS)
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(1)
            self.head.weight.normal_(), self.head.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        sure = torch.where(x[:, :1] == 9, 20.0, torch.where(x[:, :1] == 7, 0.0, 1.0))
        return self.head(x) * sure


def build() -> nn.Module:
    return Wide()
'''

TRIPWIRE = '''
"""A detector of a third party: large (or small) values of one column are strange, and one value breaks it."""

from typing import ClassVar, Literal, Self

from torch import Tensor

from guards.detectors.base import Detector, Params
from guards.types import Batch, Reference


class TripwireParams(Params):
    kind: Literal["tripwire"] = "tripwire"
    column: int
    crash_at: float
    low: bool = False


class Tripwire(Detector):
    Params: ClassVar[type[Params]] = TripwireParams

    def __init__(self, params: TripwireParams) -> None:
        super().__init__()
        self.params = params

    def fit(self, reference: Reference) -> Self:
        return self

    def score(self, batch: Batch) -> Tensor:
        values = batch.x[:, self.params.column]
        if (values == self.params.crash_at).any():
            raise RuntimeError(f"PAYLOAD {batch.x[:, 1].tolist()}")
        return -values if self.params.low else values
'''

CONFUSION = '''
"""A monitor of a third party: (predicted or none) by (unknown or actual), as the library's own tests count it."""

from typing import ClassVar, Literal

import numpy as np

from guards.monitors.base import CountingMonitor, MonitorParams, Statistic
from guards.monitors.answered_rows import Records


class ConfusionParams(MonitorParams):
    kind: Literal["confusion"] = "confusion"


class Confusion(CountingMonitor):
    Params: ClassVar[type[MonitorParams]] = ConfusionParams

    def __init__(self, params: ConfusionParams, context) -> None:
        self.width = len(context.classes) + 1
        super().__init__(params, context, self.width**2)

    def tally(self, records: Records) -> np.ndarray:
        predicted = records.predicted % self.width
        actual = np.zeros_like(predicted) if records.actual is None else records.actual + 1
        return np.bincount(predicted * self.width + actual, minlength=self.width**2)

    def report(self) -> list[Statistic]:
        rows, columns = (*self.context.classes, "none"), ("unknown", *self.context.classes)
        return [
            Statistic("count", float(count), None, int(count), {"predicted": row, "actual": column})
            for row, counts in zip(rows, self.totals.reshape(self.width, -1).tolist(), strict=True)
            for column, count in zip(columns, counts, strict=True)
        ]
'''


TURNSTILE = '''
"""A monitor of a third party: it counts rows, alarms at every so many, and breaks for good on one value."""

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from guards.monitors.base import Monitor, MonitorParams, Series, Statistic


class TurnstileParams(MonitorParams):
    kind: Literal["turnstile"] = "turnstile"
    average_run_length: int = 100
    column: int = 0
    break_at: float | None = None
    name: str = Field(default="turnstile", pattern="^[a-z]+$")


class Turnstile(Monitor):
    Params: ClassVar[type[MonitorParams]] = TurnstileParams

    def __init__(self, params, context):
        super().__init__(params, context)
        self.params = params
        self.rows = np.zeros(1, dtype=np.int64)
        self.broken = False

    def observe(self, batch, outcome):
        self.broken |= bool((batch.x[:, self.params.column] == self.params.break_at).any())
        self.rows += len(batch)

    @property
    def rung(self):
        if self.broken:
            raise RuntimeError("PAYLOAD")
        return int(self.rows[0]) // self.params.average_run_length

    def alarms(self):
        return {"rows": self.rung}

    def report(self):
        rows = int(self.rows[0])
        evidence = rows - self.rung * self.params.average_run_length
        return [Statistic("evidence", float(evidence), None, rows, {"stream": "rows"})]

    def state(self):
        return "alarm" if self.rung else "ok"

    def series(self):
        labels = {"monitor": self.name, "stream": "rows"}
        return [
            Series("turnstile_rows_total", "counter", {"monitor": self.name}, float(self.rows[0])),
            Series("drift_alarms_total", "counter", labels, float(self.rung)),
        ]

    def snapshot(self):
        return {"rows": self.rows} if self.rung >= 0 else {}

    def restore(self, state):
        if state["rows"].shape != (1,):
            raise ValueError("not a turnstile's")
        self.rows = state["rows"]
'''


def write_table(folder: Path, **changes: Any) -> Path:
    """Write a classifier of a table with every feature of a row: bounds, categories, missing values, groups."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "made_up_table.py").write_text(TABLE_MODEL)
    for seed, name in enumerate(("train.csv", "heldout.csv")):
        write_loans(folder / name, rows=600, seed=seed)
    return _config(folder, TABLE_CONFIG | changes)


TABLE_CONFIG: dict[str, Any] = {
    "name": "loans",
    "version": "2024.1",
    "model": {"builder": "made_up_table:build", "classes": ["no", "yes"]},
    "input": {
        "kind": "tabular",
        "columns": [
            {"name": "age", "kind": "numeric", "minimum": 0, "maximum": 120, "nullable": False},
            {"name": "income", "kind": "numeric"},
            {"name": "region", "kind": "categorical", "categories": ["north", "south", "west"]},
            {"name": "job", "kind": "categorical"},
            {"name": "trap", "kind": "numeric", "minimum": 0, "maximum": 1},
        ],
    },
    "reference": {"path": "train.csv", "calibration": "heldout.csv", "label": "approved"},
    "false_alarm_budget": 0.1,
    "guards": [
        {"name": "quality", "detector": {"kind": "ranges", "combinations": False}, "action": "reject"},
        {"name": "ood", "detector": {"kind": "mahalanobis"}, "action": "abstain"},
        {"name": "confidence", "detector": {"kind": "confidence"}},
        {
            "name": "wire",
            "detector": {"kind": "tripwire", "column": 4, "crash_at": CRASH_WIRE, "low": True},
            "on_error": "reject",
        },
        {
            "name": "hidden",
            "detector": {"kind": "tripwire", "column": 4, "crash_at": CRASH_HIDDEN},
            "visible": False,
        },
    ],
    "monitors": [
        {"name": "streams", "kind": "bins"},
        {"name": "region", "kind": "groups", "attribute": "region", "source": {"column": "region"}, "positive": "yes"},
        {"name": "age", "kind": "groups", "attribute": "age", "source": {"column": "age", "edges": [25, 45, 65]}},
        {
            "name": "sex",
            "kind": "groups",
            "attribute": "sex",
            "source": {"request": "sex"},
            "levels": ["Female", "Male"],
            "positive": "yes",
        },
    ],
    "server": {"max_queue_rows": 8192},
    "explain": {"burst": 500},
}


def write_loans(path: Path, *, rows: int, seed: int) -> None:
    """Write labelled rows of a table, all drawn from one distribution."""
    rng = np.random.default_rng(seed)
    age = rng.normal(size=rows).clip(-2.5, 2.5)
    income = 0.97 * age + 0.24 * rng.normal(size=rows)
    region, job, trap = rng.integers(0, 3, rows), rng.integers(0, 3, rows), rng.uniform(0.001, 0.999, rows)
    yes = rng.random(rows) < 1 / (1 + np.exp(-(age + 2 * income + 0.5 * (region == 0))))
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*TABLE_COLUMNS, "approved"])
        for i in range(rows):
            writer.writerow(
                [
                    f"{45 + 15 * age[i]:.3f}",
                    "" if rng.random() < 0.05 else f"{50 + 20 * income[i]:.3f}",
                    ("north", "south", "west")[region[i]],
                    "" if rng.random() < 0.1 else ("clerk", "cook", "pilot")[job[i]],
                    f"{trap[i]:.7f}",
                    ("no", "yes")[int(yes[i])],
                ]
            )


def loans(rows: int, seed: int) -> list[dict[str, Any]]:
    """Make up rows of a table, clean rows and strange rows, on which nothing fails."""
    rng = random.Random(seed)  # noqa: S311
    kinds = (ALLOWED, FLAGGED, ABSTAINED, REJECTED, HIDDEN, WIRED)
    return [
        {
            **rng.choice(kinds),
            "job": rng.choice([None, "clerk", "cook", "pilot", "astronaut"]),
            "income": rng.choice([None, round(rng.uniform(0, 100), 2)]),
        }
        for _ in range(rows)
    ]


def write_images(folder: Path, **changes: Any) -> Path:
    """Write a classifier of small colour images."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "made_up_image.py").write_text(IMAGE_MODEL)
    for seed, name in enumerate(("train.npz", "heldout.npz")):
        rng = np.random.default_rng(seed)
        y = rng.integers(0, 3, 300)
        np.savez(folder / name, x=images(y, seed), y=y)
    return _config(folder, IMAGE_CONFIG | changes)


def images(y: Any, seed: int) -> Any:
    """Draw uint8 images (n, 3, 6, 8), brightest in the channel ``y`` (n,)."""
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 120, (len(y), 3, 6, 8))
    x[np.arange(len(y)), y] += 90
    return x.astype(np.uint8)


IMAGE_CONFIG: dict[str, Any] = {
    "name": "colours",
    "version": "3",
    "model": {"builder": "made_up_image:build", "classes": list(COLOURS)},
    "input": {"kind": "image", "shape": [3, 6, 8]},
    "reference": {"path": "train.npz", "calibration": "heldout.npz"},
    "false_alarm_budget": 0.1,
    "guards": [
        {"name": "quality", "detector": {"kind": "ranges"}},
        {"name": "ood", "detector": {"kind": "mahalanobis"}},
    ],
    "monitors": [{"name": "streams", "kind": "bins"}],
    "server": {"max_body_bytes": 65536, "max_rows_per_request": 16, "max_batch_rows": 16},
}


def write_wide(folder: Path, labels: int, **changes: Any) -> Path:
    """Write a classifier of many labels, which are numbers; the classifier abstains from the strangest rows."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "made_up_wide.py").write_text(WIDE_MODEL.replace("LABELS", str(labels)))
    model = runpy.run_path(str(folder / "made_up_wide.py"))["build"]()
    for seed, name in enumerate(("train.npz", "heldout.npz")):
        x = torch.randn(600, 4, generator=torch.Generator().manual_seed(seed))
        y = torch.multinomial(model(x).softmax(1), 1, generator=torch.Generator().manual_seed(seed))[:, 0]
        np.savez(folder / name, x=x.numpy(), y=y.numpy())
    named = {"builder": "made_up_wide:build", "classes": [f"label-{place}" for place in range(labels)]}
    return _config(folder, WIDE_CONFIG | {"model": named} | changes)


WIDE_CONFIG: dict[str, Any] = {
    "name": "wide",
    "input": {"kind": "tensor", "shape": [4]},
    "reference": {"path": "train.npz", "calibration": "heldout.npz"},
    "false_alarm_budget": 0.02,
    "guards": [{"name": "ood", "detector": {"kind": "mahalanobis"}, "action": "abstain"}],
    "monitors": [{"name": "streams", "kind": "bins"}],
    "server": {"max_body_bytes": 2**20},
}


def write_values(folder: Path, **changes: Any) -> Path:
    """Write a regression model that sleeps on command, behind a short queue."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "made_up_value.py").write_text(VALUE_MODEL)
    for seed, name in enumerate(("train.csv", "heldout.csv")):
        rng = np.random.default_rng(seed)
        x = rng.uniform(0, 3, (300, 3)).round(4)
        value = x @ [3.0, -2.0, 1.0] + 0.1 * rng.normal(size=300)
        with (folder / name).open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["a", "b", "c", "value"])
            writer.writerows([*row, f"{v:.4f}"] for row, v in zip(x.tolist(), value, strict=True))
    return _config(folder, VALUE_CONFIG | changes)


VALUE_CONFIG: dict[str, Any] = {
    "name": "value",
    "model": {"builder": "made_up_value:build", "task": "regression"},
    "input": {"kind": "tabular"},
    "reference": {"path": "train.csv", "calibration": "heldout.csv", "label": "value"},
    "false_alarm_budget": 0.05,
    "guards": [{"name": "ood", "detector": {"kind": "mahalanobis"}, "action": "abstain"}],
    "monitors": [
        {"name": "streams", "kind": "bins"},
        {"name": "sex", "kind": "groups", "attribute": "sex", "source": {"request": "sex"}, "levels": ["Female"]},
    ],
    "server": {"max_batch_rows": 4, "max_queue_rows": 8, "max_rows_per_request": 8, "timeout_seconds": 12},
    "explain": {"method": "integrated_gradients", "steps": 32, "burst": 500, "max_queue": 8},
}


def write_plugins(folder: Path) -> Path:
    """Write an installed package of plug-ins: their modules, and the metadata with their entry points."""
    metadata = folder / "tripwire-1.0.dist-info"
    metadata.mkdir(parents=True)
    (folder / "tripwire.py").write_text(TRIPWIRE)
    (folder / "confusion.py").write_text(CONFUSION)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: tripwire\nVersion: 1.0\n")
    (folder / "turnstile.py").write_text(TURNSTILE)
    monitors = "turnstile = turnstile:Turnstile\nconfusion = confusion:Confusion\n"
    (metadata / "entry_points.txt").write_text(
        f"[guardhouse.detectors]\ntripwire = tripwire:Tripwire\n[guardhouse.monitors]\n{monitors}"
    )
    return folder


def _config(folder: Path, document: dict[str, Any]) -> Path:
    path = folder / "gateway.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path
