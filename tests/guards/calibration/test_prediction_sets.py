"""Probabilities, prediction sets, intervals and the temperature, on examples small enough to count by hand."""

import math

import pytest
import torch

from guards import Classifier, ModelOutput, Regressor
from guards.calibration.temperature import fit_temperature


def output(logits: list[list[float]]) -> ModelOutput:
    return ModelOutput(torch.tensor(logits), torch.zeros(len(logits), 1))


def test_probabilities_are_temperature_scaled() -> None:
    """Probabilities are the softmax of the logits over the temperature, the label their largest."""
    prediction = Classifier(torch.empty(0), coverage=0.9, temperature=2.0)(output([[2.0, 0.0], [0.0, 4.0]]))
    assert prediction.probabilities is not None
    assert prediction.probabilities[:, 1].tolist() == pytest.approx([1 / (1 + math.e), 1 / (1 + math.exp(-2))])
    assert prediction.label is not None
    assert prediction.label.tolist() == [0, 1]


def test_without_labelled_rows_there_is_no_set() -> None:
    """Without nonconformity scores neither sets nor intervals are answered."""
    assert Classifier(torch.empty(0), coverage=0.9, temperature=1.0)(output([[0.0, 1.0]])).members is None
    assert Regressor(torch.empty(0), coverage=0.9)(output([[1.0]])).interval is None


def test_set_by_hand() -> None:
    """A label is in the set when one minus its probability is within the ceil((n + 1) coverage)-th score."""
    scores = torch.tensor([0.9, 0.1, 0.2, 0.5])
    classifier = Classifier(scores, coverage=0.6, temperature=1.0)
    assert classifier.radius is not None
    assert classifier.radius.item() == 0.5
    logits = torch.tensor([[0.7, 0.25, 0.05], [0.3, 0.4, 0.3]]).log()
    members = classifier(ModelOutput(logits, logits)).members
    assert members is not None
    assert members.tolist() == [[True, False, False], [False, False, False]]
    wider = Classifier(scores, coverage=0.8, temperature=1.0)(ModelOutput(logits, logits)).members
    assert wider is not None
    assert wider.tolist() == [[True, True, False], [True, True, True]]


def test_interval_by_hand() -> None:
    """An interval is the value plus and minus the ceil((n + 1) coverage)-th residual."""
    scores = Regressor.scores(torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([1.5, 4.0, 2.0]))
    assert scores.tolist() == [0.5, 2.0, 1.0]
    prediction = Regressor(scores, coverage=0.5)(output([[10.0], [-1.0]]))
    assert prediction.value is not None
    assert prediction.value.tolist() == [10, -1]
    assert prediction.interval is not None
    assert prediction.interval.tolist() == [[9, 11], [-2, 0]]


def test_nonconformity_of_labels() -> None:
    """A labelled row's score is one minus the probability of its label."""
    scores = Classifier.scores(torch.tensor([[0.7, 0.3], [0.2, 0.8]]).log(), torch.tensor([1, 1]), 1.0)
    assert scores.tolist() == pytest.approx([0.7, 0.2])


@pytest.mark.parametrize(("coverage", "rows"), [(0.9, 9), (0.99, 99), (0.95, 19)])
def test_coverage_needs_rows(coverage: float, rows: int) -> None:
    """Too few labelled rows are refused with how many would do, and those do."""
    with pytest.raises(ValueError, match=f"give at least {rows} rows, or a smaller coverage"):
        Classifier(torch.rand(rows - 1), coverage=coverage, temperature=1.0)
    Classifier(torch.rand(rows), coverage=coverage, temperature=1.0)


def test_temperature_of_known_logits() -> None:
    """Labels drawn at temperature 3 give about 3 back; logits that are always right end at a finite temperature."""
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn((4000, 3), generator=generator)
    y = torch.multinomial(torch.softmax(logits / 3, 1), 1, generator=generator)[:, 0]
    assert fit_temperature(logits, y) == pytest.approx(3, rel=0.1)
    perfect = torch.eye(3).repeat(10, 1) * 50
    temperature = fit_temperature(perfect, torch.arange(3).repeat(10))
    assert 1 < temperature < 20


def test_temperature_keeps_its_bounds() -> None:
    """Labels that contradict the logits end at the upper bound, tiny honest logits at the lower."""
    logits = torch.eye(2).repeat(50, 1)
    assert fit_temperature(logits, torch.tensor([1, 0]).repeat(50)) == pytest.approx(20, rel=1e-3)
    assert fit_temperature(logits * 1e-3, torch.tensor([0, 1]).repeat(50)) == pytest.approx(0.05, rel=1e-3)
