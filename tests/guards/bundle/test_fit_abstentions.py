"""Guards with a `target_error`: what a fit chooses, what a bundle keeps, and what the budget leaves out."""

from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch

from guards import Action, Batch, Bundle, Mistake
from guards.bundle.fit_rows import Fitted

UNSURE = {"name": "unsure", "detector": {"kind": "confidence"}, "action": "abstain", "target_error": 0.15}
OTHERS = [
    {"name": "ood", "detector": {"kind": "mahalanobis"}},
    {"name": "strange", "detector": {"kind": "ranges"}},
]


def fitted(**changes: Any) -> Fitted:
    heldout = tiny_models.rows("tensor", 3000, 50)
    return tiny_models.fitted("tensor", **{"guards": [OTHERS[0], UNSURE, OTHERS[1]], "heldout": heldout, **changes})


def test_the_guard_abstains_above_its_limit_and_keeps_its_target() -> None:
    """Rows above the limit get no answer, the others do, and few of the answered rows are wrong."""
    bundle = fitted(guards=[UNSURE]).bundle
    (proven,) = bundle.abstentions.values()
    assert proven.bound <= 0.15
    rows = tiny_models.rows("tensor", 5000, 9)
    result = bundle.pipeline()(Batch(rows.x))
    abstained = result.verdict.action == Action.ABSTAIN
    assert torch.equal(abstained, result.verdict.score[0] > proven.limit)
    assert 0.02 < abstained.double().mean() < 0.98
    assert (1 - abstained.double().mean()).item() == pytest.approx(proven.share, abs=0.05)
    assert result.prediction.label is not None
    wrong = result.prediction.label != rows.y
    assert wrong[~abstained].double().mean() < 0.17
    assert wrong.double().mean() > 0.17


def test_the_budget_of_the_others_is_as_without_the_guard() -> None:
    """Ranks, closing table and the count of any guard are those of a config without the guard."""
    with_guard, without = fitted(), fitted(guards=OTHERS)
    one, two = with_guard.bundle.pipeline(), without.bundle.pipeline()
    assert [one.max_ranks[0], one.max_ranks[2]] == list(two.max_ranks)
    assert one.max_ranks[1] == 0
    assert with_guard.any_guard == without.any_guard
    reports = with_guard.guards
    assert [reports[0], reports[2]] == list(without.guards)
    assert reports[1].share == 0
    assert reports[1].false_alarms is None
    assert reports[1].abstention == with_guard.bundle.abstentions["unsure"]
    assert reports[1].threshold == pytest.approx(1 - with_guard.bundle.abstentions["unsure"].share, abs=0.01)


def test_flags_on_purpose_are_no_alarms() -> None:
    """The accuracy monitor's validity counts the flags of the budget, and not the rows abstained from on purpose."""
    verdict = fitted().bundle.pipeline()(Batch(tiny_models.inputs("tensor", 500, 9))).verdict
    assert torch.equal(verdict.alarmed, verdict.flagged[[0, 2]].any(0))
    assert verdict.flagged[1].sum() > 3 * verdict.alarmed.sum()


def test_a_bundle_keeps_the_threshold(tmp_path: Path) -> None:
    """Read back, a bundle has the same threshold and counts, and the same verdicts."""
    bundle = fitted().bundle
    bundle.save(tmp_path / "b")
    loaded = Bundle.load(tmp_path / "b")
    assert loaded.abstentions == bundle.abstentions
    batch = Batch(tiny_models.inputs("tensor", 300, 9))
    assert torch.equal(loaded.pipeline()(batch).verdict.action, bundle.pipeline()(batch).verdict.action)


@pytest.mark.parametrize(
    ("target", "rows", "sentence"),
    [
        (0.15, 60, r"guards.0.target_error: .*: give about \d+ rows in reference.calibration, or take a larger"),
        (0.001, 3000, r"guards.0.target_error: .*: (give about|take a larger)"),
    ],
)
def test_a_target_that_cannot_be_had_is_refused(target: float, rows: int, sentence: str) -> None:
    """A target that these rows cannot prove is refused with what would help."""
    with pytest.raises(Mistake, match=sentence):
        fitted(guards=[{**UNSURE, "target_error": target}], heldout=tiny_models.rows("tensor", rows, 50))


def test_without_labels_there_is_no_target() -> None:
    """Without labels no row is known to be wrong."""
    rows = tiny_models.rows("tensor", 400, 50)
    with pytest.raises(Mistake, match="too few labelled rows are held out"):
        fitted(guards=[UNSURE], heldout=type(rows)(rows.x, None, rows.groups))


def test_a_guard_that_never_abstains_is_warned_of() -> None:
    """If the model keeps the target on all rows, the fit says that the guard does nothing."""
    warnings = fitted(guards=[{**UNSURE, "target_error": 0.9}]).notices.warnings
    assert any("guards.0: unsure abstains on no row: the model keeps target_error 0.9" in line for line in warnings)
