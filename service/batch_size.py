"""How many rows go into a batch: measured at start, since what is best depends on the model and the machine."""

from collections.abc import Callable

__all__ = ["measure", "preferred", "shapes"]

TRIALS = 3
NEARLY, GIVE_UP = 0.9, 0.8
"""Sizes nearly as fast as the fastest are as good; none larger is tried once one is so much slower."""
QUICK_SECONDS = 0.05
"""A batch that takes less says little alone: one busy moment of the machine must not settle for batches of one."""
LONG_SECONDS = 0.003
"""From here on what a batch costs beside its rows is small: the turns at the interpreter, the bookkeeping."""


def shapes(most: int) -> list[int]:
    """List the batch shapes: powers of two, and the most.

    >>> shapes(48)
    [1, 2, 4, 8, 16, 32, 48]
    """
    return [*(size for size in (1 << power for power in range(most.bit_length())) if size < most), most]


def measure(most: int, seconds: Callable[[int], float]) -> dict[int, float]:
    """Give rows per second by batch size; ``seconds`` runs a batch of so many rows and says how long it took."""
    rates: dict[int, float] = {}
    for size in shapes(most):
        seconds(size)  # the first time compiles, or allocates
        rates[size] = size / min(seconds(size) for _ in range(TRIALS))
        if rates[size] < GIVE_UP * max(rates.values()) and size / rates[size] > QUICK_SECONDS:
            break
    return rates


def preferred(rates: dict[int, float]) -> int:
    """Choose among the sizes that are nearly as fast as the fastest: the smallest long one, or else the largest.

    A smaller batch leaves less waiting, stays in the cache also when others use it, and gives a long request's
    neighbours their turn sooner; but where a batch takes next to no time, larger ones save what each costs by itself.
    """
    fast = [size for size, rate in rates.items() if rate >= NEARLY * max(rates.values())]
    long = [size for size in fast if size / rates[size] >= LONG_SECONDS]
    return min(long, default=max(fast))
