"""This project's attacks beside the attacks of foolbox, on the same model, rows, starts and numbers of queries."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from gateways import ROOT, fit_all

from guards import Bundle
from guards.attacks.chosen_rows import choose
from guards.attacks.pgd import Pgd
from guards.attacks.pipeline_target import PipelineTarget
from guards.attacks.runner import run
from guards.attacks.space import Space
from guards.data.rows import load_rows

EPS = (0.05, 0.1, 0.15, 0.2, 0.3)
ROWS = 40
TOLERANCE = 0.15
"""Two shares of 40 rows that are the same rows: random starts and directions alone move them by about this much."""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def python() -> str:
    """Give the Python that has foolbox."""
    path = os.environ.get("GUARDHOUSE_ATTACKERS")
    if path is None:
        pytest.skip("GUARDHOUSE_ATTACKERS names no Python that has foolbox: make test-attackers")
    return path


@pytest.fixture(scope="module")
def digits(trained_digits: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Fit the demo."""
    folder = tmp_path_factory.mktemp("attacked")
    shutil.copytree(trained_digits[0], folder / "build")
    for name in ("model.py", "gateway.yaml"):
        shutil.copy(ROOT / "examples" / "digits" / name, folder / name)
    fit_all({folder / "gateway.yaml": folder / "bundle"})
    return Bundle.load(folder / "bundle", folder=folder)


def test_success_is_that_of_foolbox(
    python: str, digits: Bundle, trained_digits: tuple[Path, str], tmp_path: Path
) -> None:
    """PGD and HopSkipJump succeed as often as foolbox's, and Boundary, which begins with halving, at least as often."""
    target = PipelineTarget(digits)
    rows = load_rows(trained_digits[0] / "test.npz", digits.config, digits.schema, digits.classes)
    space = Space.of(digits.schema, rows.x.numpy())
    chosen = choose(rows, digits.schema, target, count=ROWS, seed=0)
    starts = [each[:1] for each in chosen.starts]
    shutil.copy(ROOT / "examples" / "digits" / "model.py", tmp_path / "model.py")
    torch.save(digits.model.net.state_dict(), tmp_path / "weights.pt")
    np.savez(tmp_path / "rows.npz", x=chosen.x, y=chosen.y, starts=np.concatenate(starts), eps=np.array(EPS))
    command = [python, ROOT / "tests" / "support" / "foolbox_attacks.py", tmp_path, tmp_path / "rows.npz"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    theirs = json.loads(done.stdout)
    pgd = Pgd(target, space, restarts=1)
    ours = {"pgd": [pgd("oblivious", "linf", chosen.x, chosen.y, eps=eps, seed=0).success.mean() for eps in EPS]}
    for name in ("hop_skip_jump", "boundary"):
        budget = round(theirs[name]["queries"])
        labels = chosen.y.tolist()
        traces = run(name, "plain", target, space, chosen.x, labels, starts, epses=EPS, budget=budget, seed=0)
        ours[name] = [np.mean([eps in trace.successes for trace in traces]) for eps in EPS]
    for name, shares in ours.items():
        difference = np.array(shares) - np.array(theirs[name]["success"])
        assert difference.min() > -TOLERANCE, (name, shares, theirs[name])
        assert name == "boundary" or difference.max() < TOLERANCE, (name, shares, theirs[name])
