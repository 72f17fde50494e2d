"""Trained models to attack, and bundles of each: the examples, and the network of fashion on MNIST."""

import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from safetensors.torch import save_file

from benchmarks.detection.case import trained
from benchmarks.detection.fashion import ROOT, data_folder, read
from guards.attacks.chosen_rows import ChosenRows, choose
from guards.attacks.pgd import Pgd
from guards.attacks.pipeline_target import PipelineTarget
from guards.attacks.space import Rows, Space
from guards.attacks.target import Bools
from guards.bundle.bundle import Bundle
from guards.bundle.fit import fit
from guards.config.config import parse
from guards.data.rows import load_rows
from guards.notices import Notices
from guards.statistics.proportions import Proportion, proportion
from guards.types import Batch
from guards.types import Rows as FileRows

__all__ = ["SQUEEZE", "TRAININGS", "Defended", "share_of", "shown", "trained_example", "trained_on_mnist"]

TRAININGS: Mapping[str, tuple[str, ...]] = {"plain": (), "adversarial": ("--adversarial",)}
EPOCHS = {("fashion", "adversarial"): ("--epochs", "4")}
"""What the README of an example says beside `--adversarial`."""
MNIST = {"train": 6000, "heldout": 2000, "test": 2000}
MNIST_EPOCHS, MNIST_RATE, MNIST_BATCH = 5, 3e-3, 64
CHUNK = 64
SQUEEZE: Mapping[str, Any] = {"name": "squeezed", "detector": {"kind": "squeeze"}, "action": "flag"}


def trained_example(name: str, training: str, folder: Path, *, quick: bool) -> Path:
    """Train an example as its README says, in a new folder of ``folder``, and give the new folder.

    Raises:
        SystemExit: the data are not there; the example's sentence says where to put them.
    """
    to = folder / f"{name}-{training}"
    to.mkdir()
    for path in (ROOT / "examples" / name).glob("*.*"):
        shutil.copy(path, to)
    epochs = ("--epochs", "1") if quick else EPOCHS.get((name, training), ())
    command = [sys.executable, str(to / "train.py"), *TRAININGS[training], *epochs]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    sys.stderr.write(f"{name}, {training} training: {done.stdout}")
    return to


def trained_on_mnist(folder: Path) -> Path:
    """Train the network of the example fashion on MNIST's test images, and give a new folder like that of an example.

    The data folder has no training images of MNIST.
    """
    to = folder / "mnist-plain"
    (to / "build").mkdir(parents=True)
    for name in ("model.py", "gateway.yaml"):
        shutil.copy(ROOT / "examples" / "fashion" / name, to)
    config = to / "gateway.yaml"
    document = yaml.safe_load(config.read_text(encoding="utf-8"))
    document["name"], document["model"]["classes"] = "mnist", [str(digit) for digit in range(10)]
    config.write_text(yaml.safe_dump(document), encoding="utf-8")
    x, y = (read(data_folder() / "mnist" / f"t10k-{part}-ubyte.gz") for part in ("images-idx3", "labels-idx1"))
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    parts = dict(zip(MNIST, torch.split(order, list(MNIST.values())), strict=True))
    for name, part in parts.items():
        np.savez(to / "build" / f"{name}.npz", x=x[part][:, None].numpy().astype(np.float32) / 255, y=y[part].numpy())
    spec = importlib.util.spec_from_file_location("mnist_model", to / "model.py")
    assert spec is not None  # noqa: S101 - a file of Python
    assert spec.loader is not None  # noqa: S101
    spec.loader.exec_module(model := importlib.util.module_from_spec(spec))
    first = parts["train"]
    net = trained(
        model.build(), x[first][:, None].float() / 255, y[first].long(),
        epochs=MNIST_EPOCHS, rate=MNIST_RATE, batch=MNIST_BATCH, seed=0,
    )  # fmt: skip
    save_file(net.state_dict(), to / "build" / "model.safetensors")
    return to


@dataclass(frozen=True, slots=True, eq=False)
class Defended:
    """A bundle as the gateway would serve it, and labelled ``rows`` that neither trained nor calibrated anything."""

    bundle: Bundle
    target: PipelineTarget
    rows: FileRows

    @classmethod
    def fitted(cls, folder: Path, guards: list[Mapping[str, Any]], *, add: bool = False) -> "Defended":
        """Fit the example of a folder with ``guards`` alone, or with its own guards and ``guards``."""
        document = yaml.safe_load((folder / "gateway.yaml").read_text(encoding="utf-8"))
        document["guards"] = [*(document["guards"] if add else []), *guards]
        bundle = fit(parse(document), folder=folder).bundle
        rows = load_rows(folder / "build" / "test.npz", bundle.config, bundle.schema, bundle.classes, Notices())
        return cls(bundle, PipelineTarget(bundle), rows)

    def space(self) -> Space:
        """Give the space of attacks on the rows."""
        return Space.of(self.bundle.schema, self.rows.x.numpy())

    def chosen(self, count: int) -> ChosenRows:
        """Draw rows to attack that the model classifies rightly: the same rows for all guards that only flag."""
        return choose(self.rows, self.bundle.schema, self.target, count=count, seed=0)

    def pgd(self, *, steps: int, restarts: int) -> Pgd:
        """Give the white box."""
        return Pgd(self.target, self.space(), steps=steps, restarts=restarts)

    @torch.inference_mode()
    def p_values(self, x: Rows) -> dict[str, NDArray[np.float64]]:
        """Give the p-values (n,) of rows (n, ...) by guard."""
        parts = torch.split(torch.from_numpy(x), CHUNK)
        found = [self.target.pipeline(Batch(part), causes=False).verdict.p_value for part in parts]
        return dict(zip(self.target.pipeline.names, torch.cat(found, 1).double().numpy(), strict=True))


def share_of(marked: Bools) -> Proportion | None:
    """Give the share of marked rows (n,) with its interval; None of no rows."""
    return proportion(int(marked.sum()), len(marked)) if len(marked) else None


def shown(table: Mapping[str, Mapping[str, Proportion | None]]) -> dict[str, dict[str, str]]:
    """Lay out a table of shares for people: each with its 95 % interval."""
    return {
        name: {
            column: "" if share is None else f"{share.value:.3f} [{share.low:.3f}, {share.high:.3f}]"
            for column, share in row.items()
        }
        for name, row in table.items()
    }
