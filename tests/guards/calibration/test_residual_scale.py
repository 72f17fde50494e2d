"""The scale of residuals: it follows the noise, stays positive and bounded, and survives degenerate features."""

import pytest
import torch

from guards import ModelOutput, Regressor
from guards.calibration.residual_scale import ResidualScale


def test_the_scale_follows_the_noise() -> None:
    """Noise that grows with one feature gives a scale that grows with this feature and with no other."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn((4000, 5), generator=generator)
    noise = 2 + 0.5 * features[:, 0].clamp(-3, 3)
    scale = ResidualScale().fit(features, noise * torch.randn(4000, generator=generator))
    typical = (2 / torch.pi) ** 0.5  # the mean absolute value of a standard normal
    assert scale.weight[0] == pytest.approx(0.5 * typical, abs=0.1)
    assert scale.weight[1:].abs().max() < 0.1
    assert scale.bias.item() == pytest.approx(2 * typical, abs=0.1)


def test_the_scale_has_a_floor_and_a_ceiling() -> None:
    """No row has less than 0.3 times the mean residual, or more than the largest scale of the fitted rows."""
    features = torch.arange(-1.0, 2.01, 0.01)[:, None]
    residuals = features[:, 0].clamp(min=0)
    scale = ResidualScale().fit(features, residuals)
    low, high = scale(torch.tensor([[-100.0], [100.0]])).tolist()
    assert low == pytest.approx(0.3 * residuals.mean().item(), rel=1e-5)
    assert high == pytest.approx(scale(features).max().item(), rel=1e-5)


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
    scale.bounds = torch.tensor([0.5, 10.0])
    features = torch.tensor([[1.0], [3.0]])  # sigma is 1 and 3
    scores = Regressor.scores(torch.zeros(2, 1), torch.tensor([2.0, 3.0]), scale(features))
    assert scores.tolist() == pytest.approx([2.0, 1.0])
    regressor = Regressor(torch.tensor([1.0, 2.0, 4.0]), coverage=0.5, measure=scale)
    interval = regressor(ModelOutput(torch.tensor([[10.0], [10.0]]), features)).interval
    assert interval is not None
    assert interval.flatten().tolist() == pytest.approx([8, 12, 4, 16])
