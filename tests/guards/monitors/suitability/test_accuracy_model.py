"""The accuracy under covariate shift: exact where the density ratio is known, and the confidence where nothing is."""

import numpy as np
import pytest
import torch

from guards.monitors.suitability.accuracy_model import AccuracyModel
from guards.monitors.suitability.reference_moments import ReferenceMoments

ROWS = 40_000


def learnt(right: tuple[float, float], confidence: float, rows: int = ROWS) -> tuple[ReferenceMoments, AccuracyModel]:
    """Learn from two categories of equal shares, on which the model is right with these frequencies."""
    half = rows // 2
    hits = torch.zeros(rows, dtype=torch.float64)
    for start, share in zip((0, half), right, strict=True):
        hits[start : start + round(share * half)] = 1.0
    sure = torch.full((rows,), confidence, dtype=torch.float64)
    excess = hits - sure
    moments = ReferenceMoments(2).fit(
        torch.ones(2, dtype=torch.bool), torch.diag(torch.tensor([half, half], dtype=torch.float64)), rows
    )
    sums = tuple(torch.stack([each[:half].sum(), each[half:].sum()]) for each in (sure, excess))
    return moments, AccuracyModel(1, 2).fit(moments, sure, excess, (sums[0], sums[1]))


def test_a_known_density_ratio_gives_the_weighted_accuracy() -> None:
    """Right on .9 and .6 of two categories: at shares .8 and .2 the accuracy is .8 x .9 + .2 x .6 = .84."""
    _, model = learnt((0.9, 0.6), 0.75)
    added = model.added(torch.tensor([[0, 1]])).numpy()
    assert 0.75 + added @ [0.8, 0.2] == pytest.approx(0.84, abs=1e-3)
    assert added @ [0.5, 0.5] == pytest.approx(0, abs=1e-12)


def test_the_variance_is_that_of_the_weighted_mean() -> None:
    """With n rows the estimate varies as the difference of two groups' rates times the shift does."""
    moments, model = learnt((0.9, 0.6), 0.75)
    of_a_rate = (0.9 * 0.1 + 0.6 * 0.4) / 2 / (ROWS / 2)
    accuracy, loss = model.variances_of(moments, np.array([0.3, -0.3]))
    unexplained, expected = 2 * of_a_rate / 4, 0.15**2 / ROWS
    assert accuracy == pytest.approx(0.3**2 * 2 * of_a_rate + unexplained, rel=0.02)
    assert loss == pytest.approx(0.3**2 * 2 * of_a_rate + expected, rel=0.02)


def test_without_a_sign_the_estimate_is_the_mean_confidence() -> None:
    """If the confidence is right in both categories, nothing is added to it."""
    _, model = learnt((0.75, 0.75), 0.75)
    assert model.weights.abs().max() < 1e-4


def test_chance_in_few_rows_is_not_taken_for_a_sign() -> None:
    """Differences of 40 categories that 100 rows each show by chance are drawn towards 0."""
    rows, categories = 4000, 40
    hits = (torch.rand(rows, generator=torch.Generator().manual_seed(0), dtype=torch.float64) < 0.75).double()
    excess, sure = hits - hits.mean(), torch.full((rows,), float(hits.mean()), dtype=torch.float64)
    shares = torch.full((categories,), rows / categories, dtype=torch.float64)
    moments = ReferenceMoments(categories).fit(torch.ones(categories, dtype=torch.bool), torch.diag(shares), rows)
    each = excess.reshape(categories, -1).sum(1)
    model = AccuracyModel(1, categories).fit(moments, sure, excess, (sure.reshape(categories, -1).sum(1), each))
    plain = each / shares
    assert model.weights.norm() < 0.6 * plain.norm()
