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
from guards.calibration.draws import uniform_draws
from guards.calibration.label_scores import CumulativeScores
from guards.calibration.residual_scale import ResidualScale
from guards.calibration.strata import Strata
from guards.calibration.temperature import fit_temperature

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
@pytest.mark.parametrize("measure", [CumulativeScores(), CumulativeScores(0.05, 2.0)], ids=["aps", "raps"])
def test_randomised_sets_cover(coverage: float, measure: CumulativeScores) -> None:
    """Over 100 splits the randomised sets hold the true label as often as they say, no more and no less."""
    generator = torch.Generator().manual_seed(int(100 * coverage))
    covered = []
    for split in range(SPLITS):
        logits = 2 * torch.randn((ROWS + FRESH, 6), generator=generator)
        y = torch.multinomial(torch.softmax(logits / 1.7, 1), 1, generator=generator)[:, 0]
        draws = torch.from_numpy(uniform_draws(map(str, range(ROWS + FRESH)), str(split)))
        scores = Classifier.scores(logits[:ROWS], y[:ROWS], 1.0, measure, draws[:ROWS])
        classifier = Classifier(scores, coverage=coverage, temperature=1.0, measure=measure)
        members = classifier(ModelOutput(logits[ROWS:], logits[ROWS:]), draws[ROWS:]).members
        assert members is not None
        covered.append(int(members.gather(1, y[ROWS:, None]).sum()))
    check_counts(covered, coverage)


@pytest.mark.parametrize("measure", [None, CumulativeScores()], ids=["least", "aps"])
def test_sets_cover_each_label_that_is_calibrated_apart(measure: CumulativeScores | None) -> None:
    """By class, a rare and hard label is covered at the promised rate; pooled, the label is covered far less often."""
    generator = torch.Generator().manual_seed(3)
    shift, rare = torch.tensor([2.0, 2.0, 0.0]), 2
    apart, pooled = [], []
    for split in range(SPLITS):
        logits = 1.5 * torch.randn((12_000, 3), generator=generator)
        y = torch.multinomial(torch.softmax(logits + shift, 1), 1, generator=generator)[:, 0]
        logits = logits + 2 * shift  # the model believes that the label is even rarer
        # Exactly ROWS calibration rows and FRESH fresh rows of the rare label: the law below is the label's own.
        hard = (y == rare).nonzero()[:, 0][: ROWS + FRESH]
        others = (y != rare).nonzero()[:, 0][:1000]
        assert len(hard) == ROWS + FRESH
        calibration, fresh = torch.cat([others, hard[:ROWS]]), hard[ROWS:]
        draws = torch.from_numpy(uniform_draws(map(str, range(len(y))), str(split)))
        scores = Classifier.scores(logits[calibration], y[calibration], 1.0, measure, draws[calibration])
        for strata, counts in ((Strata(("a", "b", "c"), y[calibration], are_labels=True), apart), (None, pooled)):
            classifier = Classifier(scores, coverage=0.9, temperature=1.0, measure=measure, strata=strata)
            members = classifier(ModelOutput(logits[fresh], logits[fresh]), draws[fresh]).members
            assert members is not None
            counts.append(int(members[:, rare].sum()))
    check_counts(apart, 0.9)
    assert np.mean(pooled) < 0.85 * FRESH


def test_each_group_is_covered() -> None:
    """Intervals that are calibrated by group cover each group at the promised rate, although one is far noisier."""
    generator = torch.Generator().manual_seed(4)
    covered: dict[int, list[int]] = {0: [], 1: []}
    for _ in range(SPLITS):
        group = torch.arange(2 * (ROWS + FRESH)) % 2
        y = torch.randn(len(group), generator=generator) * (1 + 9 * group)
        value, first = torch.zeros(len(group), 1), slice(0, 2 * ROWS)
        strata = Strata(("calm", "noisy"), group[first], are_labels=False)
        regressor = Regressor(Regressor.scores(value[first], y[first]), coverage=0.9, strata=strata)
        rest = slice(2 * ROWS, None)
        interval = regressor(ModelOutput(value[rest], value[rest]), None, group[rest]).interval
        assert interval is not None
        held = (interval[:, 0] <= y[rest]) & (y[rest] <= interval[:, 1])
        for each, counts in covered.items():
            counts.append(int(held[group[rest] == each].sum()))
    for counts in covered.values():
        check_counts(counts, 0.9)


def test_normalised_intervals_cover_and_adapt() -> None:
    """Normalised intervals cover as often as they say, and loud rows more often than one width covers them."""
    generator = torch.Generator().manual_seed(5)
    covered, loud = [], {"normalised": 0, "absolute": 0}
    for _ in range(SPLITS):
        features = torch.randn((2 * ROWS + FRESH, 3), generator=generator)
        y = features[:, 0].exp() * torch.randn(len(features), generator=generator)
        value = torch.zeros(len(features), 1)
        aside, kept, rest = slice(0, ROWS), slice(ROWS, 2 * ROWS), slice(2 * ROWS, None)
        scale = ResidualScale().fit(features[aside], y[aside])
        scores = Regressor.scores(value[kept], y[kept], scale(features[kept]))
        output = ModelOutput(value[rest], features[rest])
        made = {
            "normalised": Regressor(scores, coverage=0.9, measure=scale)(output).interval,
            "absolute": Regressor(Regressor.scores(value[kept], y[kept]), coverage=0.9)(output).interval,
        }
        for name, interval in made.items():
            assert interval is not None
            held = (interval[:, 0] <= y[rest]) & (y[rest] <= interval[:, 1])
            loud[name] += int(held[features[rest, 0] > 1].sum())
            if name == "normalised":
                covered.append(int(held.sum()))
    check_counts(covered, 0.9)
    assert loud["normalised"] > 1.2 * loud["absolute"]


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
@given(
    scores=st.lists(st.floats(0, 1, width=32), min_size=19, max_size=60),
    coverage=st.floats(0.05, 0.94),
    more=st.floats(0.0, 0.05),
    measure=st.sampled_from([None, CumulativeScores(), CumulativeScores(0.1, 1.0)]),
    apart=st.booleans(),
)
def test_more_coverage_is_never_a_smaller_set(
    scores: list[float], coverage: float, more: float, measure: CumulativeScores | None, apart: bool
) -> None:
    """Asked for more coverage, a classifier drops no label from any set; by class, while each class has rows enough."""
    generator = torch.Generator().manual_seed(0)
    logits, draws = torch.randn((20, 5), generator=generator), torch.rand(20, generator=generator)
    codes = torch.zeros(len(scores), dtype=torch.int64)
    strata = Strata(("a", "b", "c", "d", "e"), codes, are_labels=True) if apart else None
    small, large = (
        Classifier(torch.tensor(scores), coverage=each, temperature=1.0, measure=measure, strata=strata)(
            ModelOutput(logits, logits), draws
        ).members
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
