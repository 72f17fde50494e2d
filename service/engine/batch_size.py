"""How many rows go into a batch: measured at start, because the best size depends on the model and the machine."""

from collections.abc import Callable

__all__ = ["measure", "preferred", "shapes"]

TRIALS = 5
NEARLY, GIVE_UP = 0.95, 0.8
"""Sizes with at least ``NEARLY`` of the fastest size's rows per second count as equally good. Below ``GIVE_UP`` of
the fastest size's rows per second, no larger size is tried."""
QUICK_SECONDS = 0.05
"""A single run shorter than this does not end the search: one busy moment of the machine may have slowed the run."""
LONG_SECONDS = 0.005
"""A batch at least this long makes the fixed cost of a batch small: about 0.3 ms for messages and bookkeeping."""


def shapes(most: int) -> list[int]:
    """List the batch sizes to measure: the powers of two below ``most``, then ``most``.

    >>> shapes(48)
    [1, 2, 4, 8, 16, 32, 48]
    """
    return [*(size for size in (1 << power for power in range(most.bit_length())) if size < most), most]


def measure(most: int, seconds: Callable[[int], float]) -> dict[int, float]:
    """Measure rows per second by batch size.

    Args:
        most: the largest size that may be used.
        seconds: runs a batch of the given number of rows and returns its duration in seconds. Processor time is the
            best measure, because other work on the machine does not change it.

    The sizes take turns, so that a busy moment of the machine slows all sizes alike. The fastest run of a size counts.
    """
    best: dict[int, float] = {}
    for size in shapes(most):
        seconds(size)  # the first run compiles or allocates, so it is not measured
        best[size] = seconds(size)
        rate, fastest = size / best[size], max(n / took for n, took in best.items())
        if rate < GIVE_UP * fastest and best[size] > QUICK_SECONDS:
            break
    for _ in range(TRIALS - 1):
        best = {size: min(took, seconds(size)) for size, took in best.items()}
    return {size: size / took for size, took in best.items()}


def preferred(rates: dict[int, float]) -> int:
    """Choose a batch size among the sizes that are nearly as fast as the fastest size.

    The choice is the smallest size whose batch takes at least ``LONG_SECONDS``. If no batch takes so long, the choice
    is the largest size. A small batch ends sooner, so other requests wait less, and its data stays in the processor's
    cache. But if a batch takes almost no time, its fixed cost matters most, and larger batches share that cost.
    """
    fast = [size for size, rate in rates.items() if rate >= NEARLY * max(rates.values())]
    long = [size for size in fast if size / rates[size] >= LONG_SECONDS]
    return min(long, default=max(fast))
