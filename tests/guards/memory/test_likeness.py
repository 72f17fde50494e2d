"""How near a query is to its neighbours, and whether they drift."""

import numpy as np
import pytest

from guards.memory.likeness import likeness

K = 4
RNG = np.random.default_rng(0)


def codes(points: np.ndarray, sparseness: float = 1.0) -> np.ndarray:
    return np.column_stack([points, np.full(len(points), sparseness)]).astype(np.float32)


def test_the_distance_is_that_of_the_kth_nearest() -> None:
    """The distance is that of the k-th nearest of the last 2 k queries, as a multiple of the row's sparseness."""
    points = codes(np.array([[9.0], [1.0], [2.0], [3.0], [4.0], [7.0]]))
    code = codes(np.zeros((1, 1)), 2.0)[0]
    assert likeness(code, points, K).distance == pytest.approx(4.0 / 2)


def test_too_few_queries_are_infinitely_far() -> None:
    """With fewer than k earlier queries nothing is near."""
    assert likeness(codes(np.zeros((1, 2)))[0], codes(np.zeros((3, 2))), K).distance == np.inf


def test_a_straight_way_drifts_and_a_cloud_does_not() -> None:
    """The drift is 1 on a straight way, and far below in a cloud."""
    way = codes(np.linspace(0, 1, 9)[:, None] * np.ones((1, 5)))
    cloud = codes(RNG.normal(size=(9, 5)))
    assert likeness(way[-1], way[:-1], 8).drift == pytest.approx(1.0, abs=1e-4)
    assert likeness(cloud[-1], cloud[:-1], 8).drift < 0.2


def test_two_ways_in_turns_drift() -> None:
    """Two ways far apart that are asked in turns each drift: only near queries count."""
    here = np.linspace(0, 1, 20)[:, None] * np.ones((1, 5))
    both = codes(np.stack([here, here + 50], 1).reshape(-1, 5))
    assert likeness(both[-1], both[:-1], K).drift > 0.9


def test_beyond_enough_the_drift_is_not_asked() -> None:
    """At a distance above ``enough`` the drift is 1, which is no evidence."""
    cloud = codes(RNG.normal(size=(9, 5)))
    assert likeness(cloud[-1], cloud[:-1], K, enough=0.01).drift == 1.0
