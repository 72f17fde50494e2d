"""Prediction sets and intervals cover as split conformal prediction promises, and the temperature is the minimiser."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from scipy.stats import betabinom, kstest

from guards import Classifier, ModelOutput, Regressor
from guards.calibration.prediction_sets import fit_temperature

SPLITS, ROWS, FRESH = 100, 150, 400
UNLIKELY = 1e-4


def check_counts(covered: list[int], coverage: float) -> None:
    """Test counts of covered rows against the beta-binomial law, each alone and all together."""
    place = math.ceil((ROWS + 1) * coverage - 1e-9)
    law = betabinom(FRESH, place, ROWS + 1 - place)
    count = np.array(covered)
    assert (law.ppf(UNLIKELY / 2 / SPLITS) <= count).all()
    assert (count <= law.ppf(1 - UNLIKELY / 2 / SPLITS)).all()
    smooth = np.random.default_rng(0).random(SPLITS)
    assert kstest(law.cdf(count - 1) + smooth * law.pmf(count), "uniform").pvalue > UNLIKELY


@pytest.mark.parametrize("coverage", [0.5, 0.9, 0.99])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_sets_cover(coverage: float, temperature: float) -> None:
    """Over 100 splits the sets hold the true label as often as they say, whatever the temperature and the model."""
    generator = torch.Generator().manual_seed(int(100 * coverage + temperature))
    covered = []
    for _ in range(SPLITS):
        logits = 2 * torch.randn((ROWS + FRESH, 4), generator=generator)
        y = torch.multinomial(torch.softmax(logits / 1.7, 1), 1, generator=generator)[:, 0]
        scores = Classifier.scores(logits[:ROWS], y[:ROWS], temperature)
        fresh = ModelOutput(logits[ROWS:], logits[ROWS:])
        members = Classifier(scores, coverage=coverage, temperature=temperature)(fresh).members
        assert members is not None
        covered.append(int(members.gather(1, y[ROWS:, None]).sum()))
    check_counts(covered, coverage)


@pytest.mark.parametrize("coverage", [0.5, 0.9, 0.99])
def test_intervals_cover(coverage: float) -> None:
    """Over 100 splits the intervals hold the true value as often as they say, whatever the noise."""
    generator = torch.Generator().manual_seed(int(100 * coverage))
    covered = []
    for _ in range(SPLITS):
        value = torch.randn((ROWS + FRESH, 1), generator=generator)
        y = 1 + value[:, 0] * (1 + torch.randn(len(value), generator=generator))
        scores = Regressor.scores(value[:ROWS], y[:ROWS])
        interval = Regressor(scores, coverage=coverage)(ModelOutput(value[ROWS:], value[ROWS:])).interval
        assert interval is not None
        covered.append(int(((interval[:, 0] <= y[ROWS:]) & (y[ROWS:] <= interval[:, 1])).sum()))
    check_counts(covered, coverage)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(0, 1, width=32), min_size=19, max_size=60), st.floats(0.05, 0.94), st.floats(0.0, 0.05))
def test_more_coverage_is_never_a_smaller_set(scores: list[float], coverage: float, more: float) -> None:
    """Asked for more coverage, a classifier drops no label from any set."""
    logits = torch.randn((20, 5), generator=torch.Generator().manual_seed(0))
    output = ModelOutput(logits, logits)
    small, large = (
        Classifier(torch.tensor(scores), coverage=each, temperature=1.0)(output).members
        for each in (coverage, min(coverage + more, 0.95))
    )
    assert small is not None
    assert large is not None
    assert not (small & ~large).any()


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 10_000),
    rows=st.integers(2, 200),
    classes=st.integers(2, 6),
    scale=st.floats(0.05, 20),
    truth=st.floats(0.2, 5),
)
def test_temperature_is_the_minimiser(seed: int, rows: int, classes: int, scale: float, truth: float) -> None:
    """The temperature's smoothed loss equals the loss of scipy's bounded minimiser, with the loss written anew here."""
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn((rows, classes), generator=generator)
    y = torch.multinomial(torch.softmax(logits / truth, 1), 1, generator=generator)[:, 0]
    doubt = 1 / (rows + 2)
    target = np.full((rows, classes), doubt / (classes - 1))
    target[np.arange(rows), y.numpy()] = 1 - doubt

    def loss(log_temperature: float) -> float:
        scaled = logits.double().numpy() / math.exp(log_temperature)
        return float(-(target * log_softmax(scaled, axis=1)).sum(1).mean())

    bounds = (math.log(0.05), math.log(20))
    best = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-9})
    found = fit_temperature(logits, y)
    # Beside a bound scipy stops short of it.
    assert best.fun * (1 - 1e-6) <= loss(math.log(found)) <= best.fun * (1 + 1e-9)
    assert math.log(found) == pytest.approx(best.x, abs=1e-3)
