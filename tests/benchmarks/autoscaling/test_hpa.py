"""The autoscaler of the capacity benchmark behaves as Kubernetes documents its own."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.autoscaling.hpa import Autoscaler, Policy, Rules, average_value, per_pod, value

FREE, EMPTY = Rules(0.0, (Policy("Percent", 100_000),)), Rules(0.0, (Policy("Percent", 100),))


def autoscaler(up: Rules = FREE, down: Rules = EMPTY) -> Autoscaler:
    return Autoscaler(1, 1000, up, down)


def test_the_ratio_of_metric_to_target_multiplies_the_replicas() -> None:
    """Kubernetes' own examples: twice the target doubles, half of it halves, and 90 beside 75 makes 60 of 50."""
    assert value(200, 100, 5, 5) == 10
    assert value(50, 100, 10, 10) == 5
    assert per_pod(0.9, 0.75, 50, 50, 0) == 60


@pytest.mark.parametrize("metric", [90.0, 100.0, 110.0])
def test_a_tenth_off_the_target_changes_nothing(metric: float) -> None:
    """The tolerance is 0.1, its ends included."""
    assert value(metric, 100, 7, 7) == 7
    assert per_pod(metric, 100, 7, 7, 0) == 7
    assert average_value(7 * metric, 100, 7) == 7


def test_a_total_asks_for_as_many_replicas_whatever_is_ready() -> None:
    """AverageValue divides the total by the target, and rounds up."""
    assert average_value(161, 16, 4) == 11
    assert average_value(161, 16, 20) == 11


def test_pods_that_are_not_ready_count_as_idle_on_the_way_up_and_not_at_all_on_the_way_down() -> None:
    """Ten pods at 1.4 times the target ask for 14; ten more that start already are enough, and are not taken back."""
    assert per_pod(1.4, 1.0, 10, 10, 0) == 14
    assert per_pod(1.4, 1.0, 20, 10, 10) == 20
    assert per_pod(4.0, 1.0, 20, 10, 10) == 40
    assert per_pod(0.5, 1.0, 20, 10, 10) == 5
    assert per_pod(0.5, 1.0, 20, 0, 20) is None


def test_the_documented_example_of_two_policies_downwards() -> None:
    """By 10 % or 4 pods a minute, whichever is more: from 80 go 8, then 8 of 72 (7.2 rounded up), below 40 it is 4."""
    scaler = autoscaler(down=Rules(0.0, (Policy("Pods", 4, 60.0), Policy("Percent", 10, 60.0))))
    sizes, size = [], 80
    for minute in range(12):
        size = scaler.decide(61.0 * minute, size, 10)
        sizes.append(size)
    assert sizes[:2] == [72, 64]
    below = [before - after for before, after in pairwise(sizes) if before < 40]
    assert below
    assert set(below[:-1]) == {4}


def test_a_policy_counts_what_was_added_within_its_period() -> None:
    """Doubling every 15 s: a second decision in the same period gets nothing more."""
    scaler = autoscaler(up=Rules(0.0, (Policy("Percent", 100, 15.0),)))
    assert scaler.decide(0.0, 10, 100) == 20
    assert scaler.decide(5.0, 20, 100) == 20
    assert scaler.decide(15.0, 20, 100) == 40


def test_the_way_down_goes_to_the_most_that_was_asked_for_in_the_window() -> None:
    """With 300 s of stabilisation the size falls only when the last high proposal is older than that."""
    scaler = autoscaler(down=Rules(300.0, (Policy("Percent", 100),)))
    assert scaler.decide(0.0, 10, 10) == 10
    assert scaler.decide(15.0, 10, 4) == 10
    assert scaler.decide(150.0, 10, 6) == 10
    assert scaler.decide(301.0, 10, 4) == 6
    assert scaler.decide(500.0, 6, 4) == 4


@given(st.lists(st.one_of(st.none(), st.integers(0, 2000)), min_size=1, max_size=40))
def test_a_missing_metric_holds_the_size_and_bounds_always_hold(proposals: list[int | None]) -> None:
    """Without a metric the size never changes, and the size always stays within its bounds."""
    scaler = Autoscaler(
        2, 500, Rules(0.0, (Policy("Percent", 100), Policy("Pods", 4))), Rules(300.0, (Policy("Percent", 10, 60.0),))
    )
    size = 20
    for turn, proposal in enumerate(proposals):
        after = scaler.decide(15.0 * turn, size, proposal)
        assert proposal is not None or after == size
        assert 2 <= after <= 500
        size = after
