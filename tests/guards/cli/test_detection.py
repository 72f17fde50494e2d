"""Figures of detection: the intervals of the shares, and what is missing without suspect rows."""

import numpy as np
import pytest

from guards.cli.detection import _false_positives, detection, nothing


def test_interval_of_false_positives_holds() -> None:
    """In repeated samples the interval of FPR at 95 % TPR holds the true figure in at least 95 % of them."""
    within = []
    for seed in range(300):
        generator = np.random.default_rng(seed)
        clean, suspect = generator.normal(size=150), generator.normal(size=120) + 2
        low, high = _false_positives(clean, np.sort(suspect))
        within.append(low <= 0.36124 <= high)
    assert np.mean(within) >= 0.95


def test_few_suspects_leave_the_threshold_open() -> None:
    """Ten suspect rows do not show where 95 % of all suspects lie, so the interval reaches to 1."""
    clean, suspect = np.arange(100.0), np.arange(200.0, 210.0)
    found = detection(clean, suspect, clean > 98, suspect > 98)
    assert found["fpr_at_95_tpr"] == 0
    assert found["fpr_at_95_tpr_interval"] == (0.0, 1.0)
    assert found["tpr_interval"] == pytest.approx((0.6915, 1.0), abs=1e-4)


def test_without_suspects_only_false_alarms_are_measured() -> None:
    """Without suspect rows every figure but the false alarms is None."""
    clean = np.arange(100.0)
    found = detection(clean, None, clean > 98, None)
    assert found["false_alarm_rate"] == 0.01
    assert {name for name, value in found.items() if value is not None} == {"false_alarm_rate", "false_alarm_interval"}
    assert set(nothing().values()) == {None}
    assert nothing().keys() == found.keys()
