"""Reliability diagrams and the expected calibration error."""

import numpy as np
import pytest

from guards.cli.report.measures.reliability import reliability


def test_error_worked_out_by_hand() -> None:
    """Half of the rows are right at 50 %, all others are right at 90 %: the error is half of 0 and half of 0.1."""
    confidence = np.repeat([0.5, 0.9], 60)
    right = np.r_[np.tile([True, False], 30), np.ones(60, dtype=bool)]
    found = reliability(confidence, right, seed=0)
    assert [each.n for each in found.accuracy] == [30, 30, 30, 30]
    assert [each.value for each in found.accuracy] == [0.5, 0.5, 1.0, 1.0]
    assert found.confidence.tolist() == pytest.approx([0.5, 0.5, 0.9, 0.9])
    assert found.error == pytest.approx(0.05)
    assert found.excess == pytest.approx(-0.05)


@pytest.mark.parametrize("n", [3, 40, 2000])
def test_calibrated_models_have_the_error_of_chance(n: int) -> None:
    """Labels that are drawn from the confidence give an error that chance explains, for few rows as for many."""
    rng = np.random.default_rng(1)
    confidence = rng.uniform(0.5, 1, n)
    found = reliability(confidence, rng.random(n) < confidence, seed=0)
    assert found.by_chance[0] <= found.error <= found.by_chance[1]


def test_a_sure_model_is_found() -> None:
    """A model that is ten points too sure has an error beyond chance, inside its own interval."""
    rng = np.random.default_rng(2)
    confidence = rng.uniform(0.6, 1, 3000)
    found = reliability(confidence, rng.random(3000) < confidence - 0.1, seed=0)
    assert found.error > 2 * found.by_chance[1]
    assert found.interval[0] <= found.error <= found.interval[1]
    assert found.excess == pytest.approx(0.1, abs=0.03)
