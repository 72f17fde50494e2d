"""The Gaussian of normal scores against scipy, and normal scores by hand."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from guards.detectors.input_quality.gaussian_copula import GaussianCopula
from guards.detectors.input_quality.normal_scores import NormalScores
from guards.detectors.input_quality.value_cells import ValueCells


def related(n: int = 4000) -> Tensor:
    """Two numbers that are close to each other, a third that is their noisy sum, and a category that shifts them."""
    generator = torch.Generator().manual_seed(0)
    category = torch.randint(2, (n,), generator=generator)
    first = torch.randn(n, generator=generator) + 2 * category
    second = first + 0.3 * torch.randn(n, generator=generator)
    third = first + second + torch.randn(n, generator=generator)
    return torch.stack([first, second, third, category.float()], dim=1)


CATEGORICAL = torch.tensor([False, False, False, True])


def fitted(x: Tensor) -> tuple[ValueCells, GaussianCopula]:
    cells = ValueCells().fit(x, CATEGORICAL)
    return cells, GaussianCopula().fit(x, cells(x.T.contiguous()).T, cells.absent, CATEGORICAL)


def lifts(cells: ValueCells, copula: GaussianCopula, x: Tensor) -> Tensor:
    """The lifts (n, 3) of the numbers of rows (n, 4)."""
    columns = x.T.contiguous()
    lift: Tensor = copula(columns, cells(columns).T)
    return lift


def test_normal_scores_by_hand() -> None:
    """A score is the normal quantile of the middle rank, is interpolated between values, and ends with the values."""
    from scipy.stats import norm

    scores = NormalScores().fit(torch.tensor([[1.0], [1.0], [3.0], [5.0]]))
    one, three, five = norm.ppf([1 / 4, 5 / 8, 7 / 8])
    rows = torch.tensor([[1.0], [3.0], [5.0], [2.0], [-9.0], [99.0], [math.inf], [-math.inf], [math.nan]])
    expected = [one, three, five, (one + three) / 2, one, five, five, one, math.nan]
    assert scores(rows.T.contiguous())[0].tolist() == pytest.approx(expected, abs=1e-5, nan_ok=True)


def test_the_lift_is_that_of_the_gaussian() -> None:
    """The lift equals log p(z_j) - log p(z_j | others) of the shrunk Gaussian, by numpy's inverse."""
    x = related()
    cells, copula = fitted(x)
    z = copula.scores(x[:, :3].T.contiguous()).T.double().numpy()
    share = x[:, 3].mean().item()
    hot = np.stack([x[:, 3].numpy() == 0, x[:, 3].numpy() == 1], axis=1)
    rows = np.concatenate([z, (hot - [1 - share, share]) / math.sqrt(share * (1 - share))], axis=1)
    covariance = rows.T @ rows / len(rows)
    covariance = 0.99 * covariance + 0.01 * np.trace(covariance) / 5 * np.eye(5)
    precision = np.linalg.inv(covariance)
    push = rows @ precision
    own, variance = np.diag(precision)[:3], np.diag(covariance)[:3]
    expected = 0.5 * (push[:, :3] ** 2 / own - z**2 / variance - np.log(own * variance))
    assert lifts(cells, copula, x).numpy() == pytest.approx(expected, abs=2e-3)


def test_close_dependence_is_known() -> None:
    """Two ordinary numbers that are far from each other have a large lift; the same numbers together have none."""
    cells, copula = fitted(related())
    rows = torch.tensor([[0.5, 0.5, 1.0, 0.0], [0.5, -1.5, 1.0, 0.0]])
    lift = lifts(cells, copula, rows)
    assert lift[0].max() < 0
    assert lift[1, :2].min() > 8


def test_a_missing_number_is_filled_with_its_mean_given_the_others() -> None:
    """With one number missing, the lift of the others is that of the Gaussian without the number, up to a variance."""
    x = related()
    cells, copula = fitted(x)
    rows = torch.tensor([[0.5, -1.5, math.nan, 0.0], [math.nan, 0.4, 1.0, 0.0]])
    lift = lifts(cells, copula, rows)
    assert lift[0, 2] == 0
    assert lift[1, 0] == 0
    assert lift[0, 0] > 8
    assert lift[1, 1:].max() < 1


def test_infinite_and_huge_numbers_have_finite_lifts() -> None:
    """Beyond the reference the score ends, so that every lift is finite."""
    cells, copula = fitted(related())
    rows = torch.tensor([[math.inf, -math.inf, 1e30, -1.0], [-1e30, 0.0, 0.0, 1.0]])
    assert lifts(cells, copula, rows).isfinite().all()
