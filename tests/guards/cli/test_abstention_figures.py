"""What `fit` and `evaluate` say of guards with a `target_error`."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tiny_models

from guards import Bundle

Guardhouse = Callable[..., tuple[int, str, str]]
GUARDS = [
    {"name": "ood", "detector": {"kind": "mahalanobis"}},
    {"name": "unsure", "detector": {"kind": "confidence"}, "action": "abstain", "target_error": 0.2},
]


def written(folder: Path) -> Path:
    """Write a config with enough calibration rows to prove the target, and a clean file."""
    config = tiny_models.write(folder, "tensor", guards=GUARDS)
    for name, seed in (("heldout.npz", 50), ("test.npz", 90)):
        made = tiny_models.rows("tensor", 2000, seed)
        assert made.y is not None
        np.savez(folder / name, x=made.x.numpy(), y=made.y.numpy())
    return config


def test_fit_and_evaluate_show_the_proven_threshold(tmp_path: Path, guardhouse: Guardhouse) -> None:
    """`fit` says the limit, the answered share and the bound; `evaluate` measures both on other rows, outside `any`."""
    status, out, _ = guardhouse("fit", written(tmp_path), "--out", tmp_path / "b", "--json")
    assert status == 0
    said = json.loads(out)["guards"]
    (proven,) = Bundle.load(tmp_path / "b").abstentions.values()
    assert said["unsure"]["share"] == 0
    assert said["unsure"]["false_alarm_rate"] is None
    assert said["unsure"]["abstention"] == {
        "target_error": 0.2, "largest_score": proven.limit, "answered": proven.share, "error_bound": proven.bound,
    }  # fmt: skip
    assert said["ood"]["share"] == 1
    assert said["any"]["false_alarm_rate"] == said["ood"]["false_alarm_rate"]

    status, out, _ = guardhouse("evaluate", tmp_path / "b", "--clean", tmp_path / "test.npz", "--json")
    assert status == 0
    measured = json.loads(out)
    assert measured["any"]["false_alarm_rate"] == measured["guards"]["ood"]["false_alarm_rate"]
    found = measured["abstention"]["unsure"]
    assert found["answered"] == pytest.approx(1 - measured["guards"]["unsure"]["false_alarm_rate"])
    assert found["answered"] == pytest.approx(proven.share, abs=0.05)
    low, high = found["error_interval"]
    assert low < found["error"] < high
    assert low < 0.2


def test_people_read_the_threshold_in_a_sentence(tmp_path: Path, guardhouse: Guardhouse) -> None:
    """The closing table marks the guard as outside the budget, and a sentence has its figures."""
    status, out, _ = guardhouse("fit", written(tmp_path), "--out", tmp_path / "b")
    (proven,) = Bundle.load(tmp_path / "b").abstentions.values()
    assert status == 0
    assert "on purpose" in out
    assert "…" not in out  # a column that is wider than the terminal is folded, and no figure is cut
    sentence = (
        f"unsure answers {proven.share:.1%} of rows (score at most {proven.limit:.4g}): {proven.wrong} of "
        f"{proven.answered} answered calibration rows are wrong, which is an error rate of at most {proven.bound:.2%} "
        "with 95 % confidence (target_error 0.2)"
    )
    assert sentence in out
    status, out, _ = guardhouse("evaluate", tmp_path / "b", "--clean", tmp_path / "test.npz")
    assert status == 0
    assert "of the clean rows; " in out
    assert "(target_error 0.2)" in out
