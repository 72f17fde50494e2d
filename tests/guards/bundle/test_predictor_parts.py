"""What a fit makes of the section `prediction_sets`, and what a bundle keeps of it."""

from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
from forged_bundles import forge
from safetensors.torch import load_file

from guards import Batch, Bundle, Classifier, Mistake, Regressor
from guards.bundle.batches import batches_of
from guards.bundle.fit_rows import Fitted
from guards.calibration.draws import uniform_draws
from guards.calibration.label_scores import CumulativeScores
from guards.calibration.residual_scale import ResidualScale

REGRESSION = {"model": {"builder": "tiny_models:value_net", "task": "regression", "device": "cpu"}, "guards": []}


def fitted(kind: str, sets: dict[str, Any], **changes: Any) -> Fitted:
    if kind == "tabular":
        labeller = tiny_models.model("tabular", "tiny_models:value_net", task="regression")
        changes |= {
            **REGRESSION,
            "train": tiny_models.rows("tabular", 300, 0, labeller=labeller),
            "heldout": tiny_models.rows("tabular", 600, 50, labeller=labeller),
        }
    elif "heldout" not in changes:
        changes["heldout"] = tiny_models.rows(kind, 600, 50)
    return tiny_models.fitted(kind, prediction_sets=sets, **changes)


def covered(bundle: Bundle, kind: str) -> float:
    """Give the share of fresh rows whose set or interval holds the truth."""
    labeller = bundle.model
    rows = tiny_models.rows(kind, 4000, 7, labeller=labeller)
    assert rows.y is not None
    pipeline, held = bundle.pipeline(), []
    for batch in batches_of(bundle, rows):
        made = pipeline(batch, causes=False).prediction
        y = rows.y[sum(map(len, held)) :][: len(batch)]
        if made.members is not None:
            held.append(made.members.gather(1, y[:, None])[:, 0])
        else:
            assert made.interval is not None
            held.append((made.interval[:, 0] <= y) & (y <= made.interval[:, 1]))
    return torch.cat(held).double().mean().item()


@pytest.mark.parametrize(
    ("kind", "sets", "measure"),
    [
        ("tensor", {"method": "least"}, type(None)),
        ("tensor", {"method": "aps"}, CumulativeScores),
        ("tensor", {"method": "raps", "by": "class"}, CumulativeScores),
        ("tensor", {"by": "region"}, type(None)),
        ("tabular", {"method": "absolute"}, type(None)),
        ("tabular", {"method": "normalised"}, ResidualScale),
        ("tabular", {"method": "normalised", "by": "region"}, ResidualScale),
    ],
    ids=lambda value: "-".join(value.values()) if isinstance(value, dict) else None,
)
def test_a_bundle_on_disk_makes_the_same_sets(
    kind: str, sets: dict[str, Any], measure: type[object], tmp_path: Path
) -> None:
    """Read back, a bundle of every method makes the same sets to the bit, and they cover."""
    made = fitted(kind, sets).bundle
    made.save(tmp_path / "b")
    loaded = Bundle.load(tmp_path / "b")
    assert isinstance(made.calibrated.measure, measure)
    batch = Batch(
        tiny_models.inputs(kind, 50, 3),
        {"region": torch.arange(50) % 4},
        draws=torch.from_numpy(uniform_draws(map(str, range(50)), "x")),
    )
    one, two = (bundle.pipeline()(batch).prediction for bundle in (made, loaded))
    for name in ("members", "interval"):
        before, after = getattr(one, name), getattr(two, name)
        assert (before is None) == (after is None)
        assert before is None or torch.equal(before, after)
    assert covered(made, kind) == pytest.approx(0.9, abs=0.045)  # of 480 calibration rows: three standard deviations


def test_a_bundle_without_the_keys_of_sets_answers_alike(tmp_path: Path) -> None:
    """A bundle without strata, without a measure and without the keys that ask for them has the usual sets."""
    made = tiny_models.fitted("tensor").bundle
    made.save(tmp_path / "b")
    assert not {"strata", "measure.penalty"} & load_file(tmp_path / "b" / "state.safetensors").keys()

    def leave_out(manifest: dict[str, Any]) -> None:
        del manifest["config"]["prediction_sets"]
        for guard in manifest["config"]["guards"]:
            del guard["target_error"]

    forge(tmp_path / "b", leave_out)
    batch = Batch(tiny_models.inputs("tensor", 50, 3))
    before, after = made.pipeline()(batch).prediction, Bundle.load(tmp_path / "b").pipeline()(batch).prediction
    assert before.members is not None
    assert after.members is not None
    assert torch.equal(before.members, after.members)
    assert before.probabilities is not None
    radius = made.calibrated.nonconformity.sort().values[288]  # ceil(321 * 0.9) = 289
    assert torch.equal(before.members, 1 - before.probabilities <= radius)


def test_by_class_each_label_has_its_own_radius() -> None:
    """The radius of a label is the quantile of the scores of this label's calibration rows."""
    bundle = fitted("tensor", {"by": "class"}).bundle
    predictor, kept = bundle.pipeline().predictor, bundle.calibrated
    assert isinstance(predictor, Classifier)
    assert predictor.radius is not None
    for label in range(3):
        scores = kept.nonconformity[kept.strata == label].sort().values
        assert predictor.radius[label] == scores[-(-(len(scores) + 1) * 9 // 10) - 1]


def test_rows_of_no_declared_group_have_the_radius_of_all_rows() -> None:
    """North and south have radii of their own; another or a missing region has the pooled radius."""
    bundle = fitted("tabular", {"by": "region"}).bundle
    predictor = bundle.pipeline().predictor
    assert isinstance(predictor, Regressor)
    assert predictor.radius is not None
    x = tiny_models.inputs("tabular", 1, 3).repeat(5, 1)
    batch = Batch(x, {"region": torch.arange(4).repeat(2)[:5]})
    interval = bundle.pipeline()(batch).prediction.interval
    assert interval is not None
    half = (interval[:, 1] - interval[:, 0]) / 2
    assert torch.allclose(half, predictor.radius[[0, 1, 2, 2, 0]], rtol=1e-4)
    alone = bundle.pipeline()(Batch(x)).prediction.interval
    assert alone is not None
    assert torch.allclose((alone[:, 1] - alone[:, 0]) / 2, predictor.radius[2], rtol=1e-4)


def test_a_small_class_is_warned_of_by_name() -> None:
    """A class with too few rows for the coverage is named by the fit, with the rows that it needs."""
    heldout = tiny_models.rows("tensor", 600, 50)
    assert heldout.y is not None
    few = torch.cat([(heldout.y != 2).nonzero()[:, 0], (heldout.y == 2).nonzero()[:5, 0]])
    made = fitted("tensor", {"by": "class"}, heldout=heldout.take(few))
    (warning,) = [sentence for sentence in made.notices.warnings if "prediction_sets" in sentence]
    assert warning.startswith("prediction_sets.by: 'cat' has fewer than 9 labelled calibration rows")


@pytest.mark.parametrize(
    ("kind", "method", "rows", "few", "needed", "simpler"),
    [("tensor", "raps", 40, (9, 8), 45, "aps"), ("tabular", "normalised", 99, (20, 19), 100, "absolute")],
)
def test_too_few_rows_for_a_method_are_refused_with_their_number(
    kind: str, method: str, rows: int, few: tuple[int, int], needed: int, simpler: str
) -> None:
    """A method whose parameters cannot be fitted is refused with the rows that it needs, and these rows do."""
    changes = {"prediction_sets": {"method": method}, **(REGRESSION if kind == "tabular" else {"guards": []})}
    heldout = tiny_models.rows(kind, 200, 50)
    sentence = (
        f"prediction_sets.method: {method} is fitted on {few[0]} rows or more, and only {few[1]} are set aside: "
        f"give at least {needed} rows in reference.calibration, or use {simpler}"
    )
    with pytest.raises(Mistake, match=sentence):
        tiny_models.fitted(kind, heldout=heldout.take(torch.arange(rows)), **changes)
    tiny_models.fitted(kind, heldout=heldout.take(torch.arange(needed)), **changes)


def test_sets_need_labels_and_groups() -> None:
    """Calibration rows without labels, or without the group that the sets are made by, are refused."""
    rows = tiny_models.rows("tensor", 400, 50)
    with pytest.raises(Mistake, match="prediction_sets: the calibration rows have no labels"):
        fitted("tensor", {"method": "aps"}, heldout=type(rows)(rows.x, None, rows.groups))
    with pytest.raises(Mistake, match=r"prediction_sets\.by: the calibration rows have no group 'region'"):
        fitted("tensor", {"by": "region"}, heldout=type(rows)(rows.x, rows.y))
