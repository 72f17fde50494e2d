"""Other class shares as the explanation of a window."""

import numpy as np
import pytest
import torch

from guards.monitors.suitability.label_shift import LabelShift
from guards.monitors.suitability.reference_moments import ReferenceMoments

N = 10_000


def learnt() -> tuple[ReferenceMoments, LabelShift]:
    """Two classes of equal shares, predicted with the recalls .9 and .6; a second column is independent of the class.

    The indicators are the predicted class (two) and the column (two).
    """
    shares = torch.tensor([0.65, 0.35, 0.5, 0.5], dtype=torch.float64)
    products = N * torch.outer(shares, shares)
    products[0, 1] = products[1, 0] = products[2, 3] = products[3, 2] = 0
    products.diagonal().copy_(N * shares)
    moments = ReferenceMoments(4).fit(torch.ones(4, dtype=torch.bool), products, N)
    rows, right = torch.tensor([N / 2, N / 2]), torch.tensor([0.9 * N / 2, 0.6 * N / 2])
    half = N / 2
    sums = torch.tensor([[0.9 * half, 0.4 * half], [0.1 * half, 0.6 * half], [half / 2] * 2, [half / 2] * 2])
    return moments, LabelShift().fit(moments, rows, right, sums.double())


def explained(counts: list[int]) -> tuple[float, bool, bool]:
    moments, labels = learnt()
    rows = counts[0] + counts[1]
    found = labels.explain(moments, moments.standardised(moments.shift(np.array(counts), rows)), rows)
    return found.change, found.plausible, found.evident


def test_shares_are_found_by_the_predicted_classes() -> None:
    """Shares .2 and .8 predict class 0 for .2 x .9 + .8 x .4 = .5 of the rows: accuracy .66 in place of .75."""
    change, plausible, evident = explained([5000, 5000, 5000, 5000])
    assert change == pytest.approx(0.66 - 0.75, abs=1e-6)
    assert plausible
    assert evident


def test_a_shift_that_classes_do_not_explain_is_no_label_shift() -> None:
    """If the other column has changed, too, other class shares are not what happened."""
    _, plausible, evident = explained([5000, 5000, 7000, 3000])
    assert not plausible
    assert not evident


def test_without_a_shift_the_shares_are_the_references() -> None:
    """A clean window is explained by the reference's shares, and shows no change of them."""
    change, plausible, evident = explained([6500, 3500, 5000, 5000])
    assert change == pytest.approx(0, abs=1e-9)
    assert plausible
    assert not evident
