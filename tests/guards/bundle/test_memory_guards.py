"""A bundle with a guard with memory: fitted, saved, loaded, configured, and what the fit says of it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import document, fitted

from guards.bundle.bundle import Bundle
from guards.config.config import differences, parse
from guards.errors import Mistake
from guards.types import Batch

GUARD: dict[str, Any] = {"name": "queries", "kind": "query_similarity", "on_evidence": "blur", "window": 16}


@pytest.mark.parametrize("kind", ["image", "tabular", "tensor"])
def test_a_loaded_bundle_judges_as_the_fitted_one(kind: str, tmp_path: Path) -> None:
    """The guard's state is in the bundle, bit for bit; its judgement of a sequence stays the same."""
    bundle = fitted(kind, memory_guards=[GUARD]).bundle
    bundle.save(tmp_path / "bundle")
    loaded = Bundle.load(tmp_path / "bundle")
    assert bundle.self_test is not None
    x = (
        bundle.self_test.x[:1]
        + torch.rand((40, 1), generator=torch.Generator().manual_seed(0)).reshape(
            40, *[1] * (bundle.self_test.x.ndim - 1)
        )
        * 1e-3
    )
    batch = Batch(x, output=bundle.model(x))
    first, second = (each.watch().judge(batch, ["a"] * 40).guards[0] for each in (bundle, loaded))
    assert first.evidence.max() > 1
    assert first.evidence.tolist() == second.evidence.tolist()
    assert first.codes.tobytes() == second.codes.tobytes()


def test_a_fit_says_what_blur_costs() -> None:
    """If a guard blurs, a note gives the Brier score of coarse and of exact probabilities; otherwise there is none."""
    said = [
        [note for note in fitted("tensor", memory_guards=[GUARD | change]).notices.notes if "coarse" in note]
        for change in ({}, {"on_evidence": "nothing"})
    ]
    assert len(said[0]) == 1
    assert "Brier score" in said[0][0]
    assert said[1] == []


def test_what_may_change_without_a_refit() -> None:
    """Action, visibility, blur and run length may change at deploy time; what the calibration depends on may not."""
    before = parse(document("tensor", memory_guards=[GUARD]))
    allowed = {"action": "reject", "visible": True, "on_evidence": "nothing", "average_run_length": 1000}
    assert differences(before, parse(document("tensor", memory_guards=[GUARD | allowed]))) == []
    for key, value in {"window": 32, "name": "others"}.items():
        after = parse(document("tensor", memory_guards=[GUARD | {key: value}]))
        assert differences(before, after) == [f"memory_guards.0.{key}"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"memory_guards": [GUARD, GUARD]}, "memory_guards: the name 'queries' is used twice"),
        ({"memory_guards": [GUARD | {"name": "ood"}]}, "a guard has the name 'ood': choose another"),
        ({"memory_guards": [GUARD | {"kind": "nothing"}]}, "'nothing' is not known; there are 'query_similarity'"),
        ({"guards": [{"name": "queries", "detector": {"kind": "query_similarity"}}]}, "write it under `memory_guards`"),
        ({"memory_guards": [GUARD | {"average_run_length": 1}]}, "memory_guards.0"),
        (
            {"memory_guards": [GUARD], "model": {**document("tensor")["model"], "classes": None, "task": "regression"}},
            "a regression has no probabilities to blur",
        ),
    ],
)
def test_mistakes_are_told_in_a_sentence(changes: dict[str, Any], said: str) -> None:
    """A wrong guard with memory is refused with a sentence that says the way out."""
    with pytest.raises(Mistake) as mistake:
        parse(document("tensor", **changes))
    assert said in str(mistake.value)


def test_too_few_rows_are_told() -> None:
    """A guard that cannot be calibrated says how many rows it needs."""
    with pytest.raises(Mistake, match=r"memory_guards\.0: .*calibration rows"):
        fitted("tensor", memory_guards=[GUARD | {"window": 1024}])
