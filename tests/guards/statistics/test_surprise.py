"""Surprises are minus the log of p-values inside the reference, keep the order beyond it, and suit every view."""

import math

import pytest
import torch

from guards.statistics.surprise import Surprise


def test_reference_rows() -> None:
    """At a knot the surprise is minus the log of the conservative p-value."""
    scores = torch.arange(1.0, 101.0)[:, None]
    surprise = Surprise().fit(scores)
    found = surprise(surprise.knots.T)[:, 0]
    expected = [-math.log((1 + 101 - float(knot)) / 101) for knot in surprise.knots[0]]
    assert found.tolist() == pytest.approx(expected, abs=1e-5)


def test_share_of_surprised_rows() -> None:
    """A fresh row is surprised by more than t nats with probability exp(-t), inside the reference and in its tail."""
    generator = torch.Generator().manual_seed(0)
    fitted, fresh = (torch.randn(200_000, 1, generator=generator).square() for _ in range(2))
    found = Surprise().fit(fitted)(fresh)[:, 0]
    for nats in (0.5, 2.0, 5.0, 8.0):
        expected = math.exp(-nats)
        assert float((found > nats).float().mean()) == pytest.approx(expected, abs=5 * (expected / 200_000) ** 0.5)


def test_order_beyond_the_reference() -> None:
    """A score that is larger than every reference score is the more surprising, the larger it is; infinity is most."""
    surprise = Surprise().fit(torch.randn(500, 2, generator=torch.Generator().manual_seed(1)))
    found = surprise(torch.tensor([4.0, 5.0, 50.0, math.inf])[:, None].expand(4, 2))
    assert (found.diff(dim=0) > 0).all()
    assert found[3].isinf().all()


def test_views_of_different_scale() -> None:
    """A view and the same view in another unit are equally surprising."""
    scores = torch.randn(1000, 1, generator=torch.Generator().manual_seed(2))
    surprise = Surprise().fit(torch.cat([scores, 1000 * scores], dim=1))
    at = torch.linspace(-3, 6, 50)[:, None]
    found = surprise(torch.cat([at, 1000 * at], dim=1))
    assert found[:, 0].tolist() == pytest.approx(found[:, 1].tolist(), rel=1e-3, abs=1e-3)


def test_ties_are_conservative() -> None:
    """The value that most reference rows have is not surprising at all; a larger value is."""
    scores = torch.cat([torch.zeros(95), torch.ones(5)])[:, None]
    found = Surprise().fit(scores)(torch.tensor([[0.0], [1.0], [1.5]]))[:, 0]
    assert found[:2].tolist() == pytest.approx([0, -math.log(6 / 101)], abs=1e-5)
    assert found[2] > found[1]


def test_what_cannot_be_judged() -> None:
    """NaN stays NaN, below every reference score nothing is surprising, and reference scores have to be finite."""
    surprise = Surprise().fit(torch.arange(10.0)[:, None])
    assert surprise(torch.tensor([[math.nan]])).isnan().all()
    assert surprise(torch.tensor([[-math.inf], [-5.0]])).tolist() == [[0.0], [0.0]]
    with pytest.raises(ValueError, match="finite"):
        Surprise().fit(torch.tensor([[math.inf]]))
