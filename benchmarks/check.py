"""How long `guardhouse check` and `fit` take: on the digits, and on a made-up table of 100,000 rows with 15 columns.

With `--before COMMIT`, the `fit` of that commit and the `fit` of this checkout run in turn.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml

from benchmarks.harness.checkout import unpack
from benchmarks.harness.ratios import Spread, ratios
from benchmarks.harness.report import print_document, print_table
from benchmarks.harness.servers import ROOT
from guards.model.builder import call_builder

ROWS, QUICK_ROWS = 100_000, 2_000
ROUNDS, QUICK_ROUNDS = 5, 1
NUMBERS, CATEGORIES = 10, 5
ENDINGS = ("parquet", "csv")
LEVELS = ("ash", "beech", "cedar", "elm", "fir", "oak")
MODEL = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding({levels}, 3)
        self.body = nn.Sequential(nn.Linear({inputs}, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU())
        self.head = nn.Linear(32, 3)

    def forward(self, x):
        names = self.embedding(x[:, {numbers}:].long()).flatten(1)
        return self.head(self.body(torch.cat([x[:, :{numbers}], names], 1)))


def build():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = Net()
    with torch.no_grad():
        net.head.weight.mul_(40)
        net.head.bias.copy_(-net(torch.zeros(1, {columns}))[0])
    return net
"""


def main(*, quick: bool, before: str | None = None, rounds: int | None = None) -> None:
    """Measure the commands in turns; print a table and the JSON document."""
    rounds = rounds or (QUICK_ROUNDS if quick else ROUNDS)
    rows = QUICK_ROWS if quick else ROWS
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        older = None if before is None else unpack(before, folder)
        subprocess.run([sys.executable, ROOT / "examples/digits/train.py"], check=True, capture_output=True)
        configs = {"digits": ROOT / "examples/digits/gateway.yaml"}
        for ending in ENDINGS[:1] if quick else ENDINGS:
            configs[f"table.{ending}"] = _table(folder / ending, ending, rows)
        found = {what: _measured(config, folder, rounds, older) for what, config in configs.items()}
    for figure in ("seconds", "processor_seconds"):
        print_table(f"{figure.replace('_', ' ')}: medians", {what: each[figure] for what, each in found.items()})
    print_table(
        f"ratios of processor time, round by round: median [least, greatest] of {rounds}",
        {what: {name: str(each) for name, each in row["ratios"].items()} for what, row in found.items()},
    )
    print_document("check", quick=quick, rows=rows, rounds=rounds, before=before, commands=found)


def _table(folder: Path, ending: str, rows: int) -> Path:
    """Write a table with a few missing values, most of whose labels the model knows, and its config."""
    folder.mkdir()
    code = MODEL.format(
        levels=len(LEVELS), inputs=NUMBERS + 3 * CATEGORIES, numbers=NUMBERS, columns=NUMBERS + CATEGORIES
    )
    (folder / f"{ending}_net.py").write_text(code, encoding="utf-8")
    config = {
        "name": "table",
        "model": {"builder": f"{ending}_net:build", "device": "cpu"},
        "input": {"kind": "tabular"},
        "reference": {"path": f"train.{ending}", "calibration": f"heldout.{ending}", "label": "label"},
        "guards": [
            {"name": "quality", "detector": {"kind": "ranges"}},
            {"name": "ood", "detector": {"kind": "mahalanobis"}},
            {"name": "confidence", "detector": {"kind": "confidence"}},
        ],
        "monitors": [{"name": "streams", "kind": "bins"}],
    }
    path = folder / "gateway.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    net = call_builder(f"{ending}_net:build", folder).eval()
    for seed, (part, count) in enumerate({"train": rows, "heldout": rows // 5}.items()):
        frame, x = _made_up(count, seed)
        with torch.no_grad():
            chances = torch.cat([net(chunk) for chunk in torch.split(x, 4096)]).softmax(1)
        labels = torch.multinomial(chances, 1, generator=torch.Generator().manual_seed(seed))[:, 0]
        frame["label"] = [f"class {index}" for index in labels.tolist()]
        if ending == "csv":
            frame.to_csv(folder / f"{part}.csv", index=False)
        else:
            frame.to_parquet(folder / f"{part}.parquet", index=False)
    return path


def _made_up(rows: int, seed: int) -> tuple[pd.DataFrame, torch.Tensor]:
    """Make up a table, and its rows as the model gets them."""
    generator = np.random.default_rng(seed)
    numbers = generator.normal(size=(rows, NUMBERS)).round(5).astype(np.float32)
    codes = generator.integers(len(LEVELS), size=(rows, CATEGORIES))
    frame = pd.DataFrame(numbers, columns=[f"number_{index}" for index in range(NUMBERS)])
    for index in range(CATEGORIES):
        frame[f"tree_{index}"] = np.array(LEVELS)[codes[:, index]]
    return frame, torch.tensor(np.column_stack([numbers, codes]), dtype=torch.float32)


def _measured(config: Path, folder: Path, rounds: int, older: Path | None) -> dict[str, Any]:
    """Time the commands in turns: medians of seconds, and of the ratios of processor time to this checkout's `fit`.

    A machine that others use, too, shows in the seconds; in the processor's time it hardly does. Leave if a command
    fails.
    """
    fit = ["fit", str(config), "--out", str(folder / "bundle")]
    commands = {"fit": (fit, ROOT), "check": (["check", str(config)], ROOT)}
    if older is not None:
        commands["fit before"] = (fit, older)
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    busy: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, (arguments, root) in commands.items():
            taken, used = _timed(arguments, root)
            seconds[name].append(taken)
            busy[name].append(used)
    beside: dict[str, Spread] = {f"fit / {name}": ratios(busy["fit"], busy[name]) for name in commands if name != "fit"}
    return {
        "seconds": {name: statistics.median(each) for name, each in seconds.items()},
        "processor_seconds": {name: statistics.median(each) for name, each in busy.items()},
        "ratios": beside,
    }


def _timed(arguments: list[str], root: Path) -> tuple[float, float]:
    """Run a command of a checkout; return its seconds, and its seconds of processor time."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "service", *arguments]
    with subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root)},
    ) as process:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(command)} ended with {process.returncode}")
    return time.perf_counter() - start, used.ru_utime + used.ru_stime
