"""Laws of the suitability monitor."""

from dataclasses import asdict

import torch
from easy_and_hard import CONTEXT, outcome, rows
from hypothesis import given, settings
from hypothesis import strategies as st

from guards import Batch, Reference
from guards.monitors.suitability.monitor import Suitability
from guards.monitors.suitability.params import SuitabilityParams


def report(factor: float, offset: float, order: torch.Tensor | None = None) -> list[dict[str, object]]:
    """Fit and judge one window; the size of every row is rescaled, and rows come in another order."""
    whole, classes = rows(4000, 1)
    # Whole numbers, so that rescaling rounds nothing and no two values become equal.
    whole[:, 1] = (whole[:, 1] * 100).round() * factor + offset
    answers = outcome(whole, classes, 1)
    watching = Suitability(SuitabilityParams(name="s", window=1000), CONTEXT)
    watching.fit(Reference(Batch(whole[:3000]), classes[:3000], CONTEXT.schema), answers[:3000])
    index = torch.arange(1000) if order is None else order
    late, y = whole[3000:][index], classes[3000:][index]
    watching.observe(Batch(late), outcome(late, y, right=(1.0, 1.0)))
    return [asdict(each) for each in watching.report()]


@settings(max_examples=10, deadline=None)
@given(factor=st.integers(1, 1000), offset=st.integers(-1000, 1000))
def test_an_affine_rescaling_of_a_column_changes_nothing(factor: int, offset: int) -> None:
    """The estimate does not depend on the unit of a column."""
    assert report(float(factor), float(offset)) == report(1.0, 0.0)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_the_order_of_a_windows_rows_changes_nothing(seed: int) -> None:
    """A window's verdict and estimate do not depend on the order of its rows."""
    order = torch.randperm(1000, generator=torch.Generator().manual_seed(seed))
    assert report(1.0, 0.0, order) == report(1.0, 0.0)
