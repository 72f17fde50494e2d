"""The batch size that is chosen from measured times."""

import pytest

from service.engine.batch_size import measure, preferred, shapes


def test_shapes_are_powers_of_two_and_the_most() -> None:
    """Every batch is filled up to one of few shapes."""
    assert shapes(1) == [1]
    assert shapes(16) == [1, 2, 4, 8, 16]
    assert shapes(20) == [1, 2, 4, 8, 16, 20]


@pytest.mark.parametrize(
    ("rates", "best"),
    [
        ({1: 1000.0, 2: 1900.0, 4: 3600.0, 8: 7000.0, 16: 13000.0}, 16),  # a GPU: larger is faster
        ({1: 9.9, 2: 10.0, 4: 10.0}, 1),  # a large network on a CPU: nothing is gained by waiting
        ({1: 3600.0, 4: 3900.0, 8: 4050.0, 32: 4250.0, 64: 4200.0}, 32),  # a small one: long enough, and in the cache
        ({1: 9000.0, 8: 60000.0, 64: 61000.0}, 64),  # quick however many rows: the largest
        ({1: 3600.0, 4: 3900.0, 8: 2600.0}, 4),  # a large batch leaves the cache
    ],
)
def test_preferred_size(rates: dict[int, float], best: int) -> None:
    """Among sizes nearly as fast as the fastest it is the smallest that takes long, or else the largest."""
    assert preferred(rates) == best


def test_measuring_takes_the_best_and_stops_if_there_is_no_hope() -> None:
    """Slow trials do not count, and after a size that is much slower, no larger size is tried."""
    asked: list[int] = []

    def seconds(size: int) -> float:
        asked.append(size)
        if size <= 4:
            return 0.01 * size * (9 if asked.count(size) in (3, 5) else 1)
        return 0.02 * size

    assert measure(64, seconds) == pytest.approx({1: 100, 2: 100, 4: 100, 8: 50})
    assert asked == [1, 1, 2, 2, 4, 4, 8, 8] + [1, 2, 4, 8] * 4


def test_sizes_take_turns() -> None:
    """A machine that is busy for a while slows every size alike: the choice stays."""
    calls = 0

    def seconds(size: int) -> float:
        nonlocal calls
        calls += 1
        return (0.001 + 0.0001 * size) * (5 if 12 <= calls < 24 else 1)

    assert preferred(measure(32, seconds)) == 32


def test_quick_batches_are_not_given_up() -> None:
    """If a batch takes only a moment, a slow one is chance: all shapes are tried."""
    assert set(measure(8, lambda size: 0.001 if size != 2 else 0.004)) == {1, 2, 4, 8}
