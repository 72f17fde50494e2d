"""The scale of residuals: it follows the noise, stays positive and bounded, and survives degenerate features."""

import pytest
import torch

from guards import ModelOutput, Regressor
from guards.calibration.residual_scale import ResidualScale


def test_the_scale_follows_the_noise() -> None:
    """Noise that grows as exp of a feature gives a scale whose logarithm grows as that feature does."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn((2000, 5), generator=generator)
    noise = (0.8 * features[:, 0]).exp() * torch.randn(2000, generator=generator)
    scale = ResidualScale().fit(features, noise)
    assert scale.weight[0] == pytest.approx(0.8, abs=0.1)
    assert scale.weight[1:].abs().max() < 0.1
    inside = features[:, 0].abs() < 1
    ratio = (scale(features) / (0.8 * features[:, 0]).exp())[inside]
    assert ratio.std() / ratio.mean() < 0.15


def test_without_structure_the_scale_is_nearly_constant() -> None:
    """If the residuals do not depend on the features, the chosen penalty shrinks the scale to one value."""
    generator = torch.Generator().manual_seed(1)
    features = torch.randn((300, 100), generator=generator)
    scale = ResidualScale().fit(features, torch.randn(300, generator=generator))(features)
    assert scale.max() / scale.min() < 1.3


@pytest.mark.parametrize(
    ("features", "residuals"),
    [
        (torch.ones(30, 3), torch.arange(30.0)),
        (torch.randn(30, 3, generator=torch.Generator().manual_seed(2)), torch.zeros(30)),
        (torch.randn(20, 50, generator=torch.Generator().manual_seed(3)), torch.arange(20.0)),
    ],
    ids=["constant features", "no residual", "more features than rows"],
)
def test_a_degenerate_fit_stays_finite_and_positive(features: torch.Tensor, residuals: torch.Tensor) -> None:
    """Any row, also a row far from all others, gets a positive finite scale."""
    scale = ResidualScale().fit(features, residuals)(torch.cat([features, 1e6 * torch.ones_like(features[:2])]))
    assert (scale > 0).all()
    assert scale.isfinite().all()


def test_a_normalised_interval_by_hand() -> None:
    """The nonconformity is the residual over the scale, and the interval is the radius times the row's own scale."""
    scale = ResidualScale()
    scale.centre, scale.weight, scale.bias = torch.zeros(1), torch.ones(1), torch.zeros(1)
    scale.bounds = torch.tensor([-10.0, 10.0])
    features = torch.tensor([[0.0], [2.0]]).log1p()  # sigma is 1 and 3
    scores = Regressor.scores(torch.zeros(2, 1), torch.tensor([2.0, 3.0]), scale(features))
    assert scores.tolist() == pytest.approx([2.0, 1.0])
    regressor = Regressor(torch.tensor([1.0, 2.0, 4.0]), coverage=0.5, measure=scale)
    interval = regressor(ModelOutput(torch.tensor([[10.0], [10.0]]), features)).interval
    assert interval is not None
    assert interval.flatten().tolist() == pytest.approx([8, 12, 4, 16])
