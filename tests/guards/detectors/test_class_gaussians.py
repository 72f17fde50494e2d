"""The Gaussians of the classes agree with scikit-learn, and with the two covariances of relative Mahalanobis."""

import numpy as np
import pytest
import torch
from torch import Tensor

from guards.detectors.class_gaussians import Gaussians, fit_gaussians, shrunk


def rows(n: int = 300, d: int = 5, classes: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(classes, (n,), generator=generator)
    mixing, means = (
        torch.eye(d) + 0.2 * torch.randn((d, d), generator=generator),
        2 * torch.randn((classes, d), generator=generator),
    )
    return (torch.randn((n, d), generator=generator) @ mixing + means[y]).double(), y


def projected(gaussians: Gaussians, features: Tensor) -> Tensor:
    return (features - gaussians.centre) @ gaussians.projection + gaussians.offset


def test_distance_to_each_class() -> None:
    """The squared distance to each class is scikit-learn's, with the empirical covariance of the residuals."""
    from sklearn.covariance import EmpiricalCovariance

    x, y = rows()
    means = torch.stack([x[y == c].mean(0) for c in range(3)])
    reference = EmpiricalCovariance(assume_centered=True).fit((x - means[y]).numpy())
    found = projected(fit_gaussians(x, y, 0.0), x)
    squared = found[:, :5].square().sum(1, keepdim=True) + found[:, 5:]
    for c in range(3):
        assert squared[:, c].numpy() == pytest.approx(reference.mahalanobis((x - means[c]).numpy()), rel=1e-4)


def test_distance_in_the_covariance_of_all_rows() -> None:
    """The last columns give the distance in the covariance of all rows, without inverting that covariance."""
    from sklearn.covariance import EmpiricalCovariance

    x, y = rows()
    found = projected(fit_gaussians(x, y, 0.0, relative=True), x)
    squared = found[:, :5].square().sum(1) - found[:, 8:].square().sum(1)
    assert squared.numpy() == pytest.approx(EmpiricalCovariance().fit(x.numpy()).mahalanobis(x.numpy()), rel=1e-4)


def test_one_class_has_no_spread() -> None:
    """If there is one class, the covariance of all rows is the shared covariance."""
    x, _ = rows()
    found = projected(fit_gaussians(x, torch.zeros(len(x), dtype=torch.int64), relative=True), x)
    assert found[:, 6:].abs().max() < 1e-6


def test_shrinkage() -> None:
    """With shrinkage s the covariance is (1 - s) of its own and s of its level; auto is worked out by hand."""
    covariance = torch.diag(torch.tensor([1.0, 4.0, 10.0], dtype=torch.float64))
    eye = torch.eye(3, dtype=torch.float64)
    assert torch.allclose(shrunk(covariance, 60, 0.3), 0.7 * covariance + 0.3 * 5 * eye, rtol=1e-5)
    assert torch.allclose(shrunk(covariance, 10**6), covariance, rtol=1e-3)
    amount = ((1 - 2 / 3) * 117 + 15**2) / ((60 + 1 - 2 / 3) * (117 - 15**2 / 3))
    assert torch.allclose(shrunk(covariance, 60), (1 - amount) * covariance + amount * 5 * eye, rtol=1e-5)
    assert torch.allclose(shrunk(covariance, 2), 5 * eye, rtol=1e-5)


def test_oracle_shrinkage() -> None:
    """The automatic shrinkage is near scikit-learn's, which leaves out two small terms of Chen et al."""
    from sklearn.covariance import oas

    x = np.random.default_rng(0).normal(size=(40, 6)) @ np.diag([1, 1, 2, 2, 3, 3])
    x -= x.mean(0)
    expected, _ = oas(x, assume_centered=True)
    found = shrunk(torch.from_numpy(x.T @ x / len(x)), len(x))
    assert found.numpy() == pytest.approx(expected, rel=0.05, abs=0.05)
