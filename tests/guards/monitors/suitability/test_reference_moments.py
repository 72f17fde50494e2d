"""The reference's moments: shifts in standard deviations, and the divergence of a window."""

import numpy as np
import pytest
import torch

from guards.monitors.suitability.reference_moments import ReferenceMoments


def two_categories(rows: int, first: float) -> ReferenceMoments:
    """Describe a column of two categories, the first with the share ``first``."""
    products = torch.diag(torch.tensor([first, 1 - first], dtype=torch.float64)) * rows
    return ReferenceMoments(2).fit(torch.ones(2, dtype=torch.bool), products, rows)


def test_the_divergence_is_that_of_the_density_ratio() -> None:
    """Shares .8 and .2 in place of .5 and .5: weights 1.6 and .4 have the variance .36."""
    rows = 10**6
    moments = two_categories(rows, 0.5)
    assert moments.rank == 1  # the second share follows from the first
    standardised = moments.standardised(moments.shift(np.array([800_000, 200_000]), rows))
    assert moments.divergence(standardised, rows) == pytest.approx(0.36, abs=1e-4)


def test_sampling_adds_nothing_on_average() -> None:
    """The divergence of clean windows is what sampling adds, less what it adds on average: about 0."""
    generator = np.random.default_rng(0)
    shares = np.full(10, 0.1)
    found = []
    for _ in range(200):
        reference = generator.multinomial(400, shares)
        moments = ReferenceMoments(10).fit(
            torch.ones(10, dtype=torch.bool), torch.diag(torch.from_numpy(reference).double()), 400
        )
        standardised = moments.standardised(moments.shift(generator.multinomial(300, shares), 300))
        found.append(float(standardised @ standardised) - moments.rank * moments.noise(300))
    error = np.std(found) / len(found) ** 0.5
    assert abs(np.mean(found)) < 4 * error


def test_left_out_indicators_do_not_count() -> None:
    """Only kept indicators have a shift."""
    kept = torch.tensor([True, False, True])
    moments = ReferenceMoments(3).fit(kept, torch.diag(torch.tensor([50.0, 50.0], dtype=torch.float64)), 100)
    assert moments.shift(np.array([30, 70, 0]), 100) == pytest.approx([-0.2, -0.5])
