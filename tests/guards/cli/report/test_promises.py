"""Promises that were calibrated on few rows."""

import numpy as np

from guards.cli.report.measures.promises import contradicts_coverage, contradicts_rank


def test_coverage_and_budget_are_rarely_contradicted_by_chance() -> None:
    """If the promise holds, at most 2.5 % of draws of calibration rows and new rows seem to contradict it."""
    rng = np.random.default_rng(0)
    wrong = np.zeros(2)
    for _ in range(2000):
        radius = np.sort(rng.random(99))[89]
        held = int((rng.random(500) <= radius).sum())
        wrong[0] += contradicts_coverage(held, 500, coverage=0.9, calibration_rows=99)
        bar = np.sort(rng.random(99))[-5]
        flagged = int((rng.random(500) >= bar).sum())
        wrong[1] += contradicts_rank(flagged, 500, rank=5, calibration_rows=99)
    assert (wrong / 2000 < 0.035).all()
    assert (wrong > 0).all()


def test_what_chance_does_not_explain() -> None:
    """With many calibration rows a coverage of 85 % contradicts 90 %; with few rows it does not."""
    assert contradicts_coverage(850, 1000, coverage=0.9, calibration_rows=5000)
    assert not contradicts_coverage(850, 1000, coverage=0.9, calibration_rows=50)
    assert contradicts_rank(30, 1000, rank=50, calibration_rows=5000)
    assert not contradicts_rank(30, 1000, rank=1, calibration_rows=120)
