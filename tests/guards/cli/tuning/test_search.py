"""The search: which detectors it tries, what it tries first, when it stops a trial, and how it measures."""

import numpy as np
import pytest
import tiny_models
import torch

from guards.bundle.preparation import prepare
from guards.cli.tuning import workbench
from guards.cli.tuning.candidates import candidates
from guards.cli.tuning.feature_layers import DEFAULT, FeatureLayers
from guards.cli.tuning.latency import interleaved
from guards.cli.tuning.search import Search
from guards.cli.tuning.workbench import Choice, Part, Workbench
from guards.config.load import load_config
from guards.notices import Notices
from guards.types import Batch, Rows

GUARDS = [
    {"name": "quality", "detector": {"kind": "ranges"}},
    {"name": "ood", "detector": {"kind": "mahalanobis", "shrinkage": 0.25}},
]
OWN = Choice({"kind": "mahalanobis", "normalise": "both", "shrinkage": 0.25}, DEFAULT, 1.0)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workbench, FeatureLayers, Part]:
    """Run the toy of tensors once on reference, calibration and suspect rows."""
    folder = tmp_path_factory.mktemp("search")
    config = load_config(tiny_models.write(folder, "tensor", guards=GUARDS, monitors=[], false_alarm_budget=0.05))
    prepared = prepare(config, folder, Notices())
    layers = FeatureLayers(prepared.model, prepared.train.x)
    suspect = Rows(2.5 * tiny_models.inputs("tensor", 200, 7))
    train, clean, strange = (Part(rows, layers.outputs(rows.x)) for rows in (prepared.train, prepared.heldout, suspect))
    bench = Workbench(config, prepared, guard=1, temperature=1.5, train=train, clean=clean, suspect=strange)
    return bench, layers, clean


def test_measures_are_those_of_a_fit(made: tuple[Workbench, FeatureLayers, Part]) -> None:
    """What all guards find at the budget is what a bundle with the same rows flags."""
    bench, _, clean = made
    bundle = tiny_models.fitted(
        "tensor", guards=GUARDS, monitors=[], false_alarm_budget=0.05, heldout=clean.rows
    ).bundle
    scores = [bench.fit(choice, *bench.rows) for choice in (Choice({"kind": "ranges"}, DEFAULT, 1.0), OWN)]
    # The bundle sets rows aside for its temperature; the search gets the other rows alone.
    assert bundle.scores.shape[1] < len(clean.rows)
    for detector, scored in zip(bundle.detectors, scores, strict=True):
        again = detector.score(clean.batch(DEFAULT, len(clean.rows), torch.device("cpu")))
        assert torch.allclose(scored.clean, again, atol=1e-4)
    found = bench.measure(OWN, *bench.rows)
    assert 0 < found.share <= found.near <= 1
    assert 0.5 < found.auroc <= 1


def test_candidates_suit_the_rows(made: tuple[Workbench, FeatureLayers, Part]) -> None:
    """Detectors of other guards are left out with the reason; it is found out which detectors read features."""
    bench, _, clean = made
    found, left_out = candidates(bench, clean, torch.device("cpu"), ["ranges"])
    assert left_out["ranges"] == "another guard has this detector"
    assert "mahalanobis" not in left_out
    reads = {candidate.kind: candidate.reads_features for candidate in found}
    assert reads["mahalanobis"] is True
    assert reads["confidence"] is False


def test_the_first_trials_are_what_there_is(made: tuple[Workbench, FeatureLayers, Part]) -> None:
    """The search begins with the config's own choice, then each detector's defaults, then each layer's features."""
    bench, layers, clean = made
    found, _ = candidates(bench, clean, torch.device("cpu"), ["ranges"])
    search = Search(bench, found, layers.names, OWN, shares=(0.5, 2.0), seed=0)
    calls: list[None] = []
    tried = search.run(len(found) + len(layers.names) + 2, lambda: calls.append(None))
    assert len(calls) == len(tried)
    assert tried[0].choice == OWN
    assert tried[0].found == search.baseline_found
    assert {each.choice.kind for each in tried[1 : 1 + len(found)]} == {candidate.kind for candidate in found}
    own = [each.choice.layer for each in tried if each.choice.kind == "mahalanobis"]
    assert set(layers.names) <= set(own)
    assert all(0.5 <= each.choice.share <= 2.0 for each in tried)
    assert all(each.latency_us is not None for each in tried if each.state == "complete")


def test_a_detector_that_does_not_fit_ends_its_trial_alone(
    made: tuple[Workbench, FeatureLayers, Part], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trial whose detector refuses the rows is listed with the reason, and the search goes on."""
    bench, layers, clean = made
    found, _ = candidates(bench, clean, torch.device("cpu"), ["ranges"])
    measure = Workbench.measure

    def refusing(self: Workbench, choice: Choice, train: int, suspect: int) -> workbench.Found:
        if choice.kind == "confidence":
            raise ValueError("not today")
        return measure(self, choice, train, suspect)

    monkeypatch.setattr(Workbench, "measure", refusing)
    tried = Search(bench, found, layers.names, OWN, shares=(1.0, 1.0), seed=0).run(8, lambda: None)
    assert {(each.state, each.why) for each in tried if each.choice.kind == "confidence"} == {("unsuited", "not today")}
    assert any(each.state == "complete" for each in tried)


def test_latency_grows_with_work(made: tuple[Workbench, FeatureLayers, Part]) -> None:
    """Detectors that score twenty times as often take longer for a row."""
    bench, _, _ = made
    detectors, batch = bench.timed(OWN)
    few, many = interleaved((detectors, batch), (list(detectors) * 20, Batch(batch.x, output=batch.output)))
    assert many > 3 * few > 0


def test_choices_that_score_alike_have_one_key() -> None:
    """The order of parameters and the share of the budget do not change what a detector scores."""
    one = Choice({"kind": "knn", "rows": 5}, DEFAULT, 1.0)
    assert one.key == Choice({"rows": 5, "kind": "knn"}, DEFAULT, 3.0).key
    assert one.key != Choice({"kind": "knn", "rows": 5}, "body", 1.0).key
    assert np.isclose(one.share, 1.0)
