"""The accuracy of recent rows, and whether it is lower than the accuracy on the held-out rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from guards.monitors.base import Statistic
from guards.monitors.groups.differences import rate
from guards.statistics.confidence_sequences import rate_interval
from guards.statistics.rate_comparisons import difference_interval
from guards.statistics.recent_blocks import ALPHA, ENOUGH_ROWS

__all__ = ["RecentAccuracy", "drop_statistic", "rate_statistic"]

Share = tuple[int, int]
"""Right answers and rows."""


@dataclass(frozen=True, slots=True)
class RecentAccuracy:
    """Compares windows of recent rows with the ``heldout`` rows: see :mod:`guards.statistics.recent_blocks`."""

    heldout: Share
    windows: Sequence[Share]
    tolerance: float

    def shown(self) -> tuple[Statistic, Statistic]:
        """Give accuracy and loss of the shortest window with enough labels; if no window has enough, of the longest."""
        right, rows = self._shown()
        return rate_statistic("recent_accuracy", right, rows, {}), self._loss((right, rows))

    def outside(self) -> Statistic | None:
        """Give the loss of the shortest window whose interval lies above the tolerance; None if no interval does."""
        for window in self.windows:
            if self._estimate(window) > self.tolerance:  # the interval contains the estimate
                loss = self._loss(window)
                if loss.interval is not None and loss.interval[0] > self.tolerance:
                    return loss
        return None

    def is_beyond(self) -> bool:
        """Return whether the loss of the window that :meth:`shown` chooses is above the tolerance."""
        return self._estimate(self._shown()) > self.tolerance

    def _shown(self) -> Share:
        enough = (window for window in self.windows if window[1] >= ENOUGH_ROWS)
        return next(enough, self.windows[-1] if self.windows else (0, 0))

    def _estimate(self, window: Share) -> float:
        return float(rate(*self.heldout) - rate(*window))

    def _loss(self, window: Share) -> Statistic:
        return drop_statistic("recent_accuracy_drop", self.heldout, window, ALPHA)


def rate_statistic(name: str, hits: int, n: int, labels: dict[str, str]) -> Statistic:
    """Give the rate of ``hits`` among ``n`` rows, with its confidence sequence."""
    low, high = rate_interval(hits, n)
    value = float(rate(hits, n))
    return Statistic(name, value if n else None, (float(low), float(high)) if n else None, int(n), labels)


@lru_cache(maxsize=32)  # each report asks for the same few pairs again
def drop_statistic(name: str, before: Share, after: Share, alpha: float = 0.05) -> Statistic:
    """Give the accuracy ``before`` less the accuracy ``after``, with its confidence sequence."""
    n = min(before[1], after[1])
    low, high = difference_interval(before, after, alpha)
    value = float(rate(*before) - rate(*after))
    return Statistic(name, value if n else None, (float(low), float(high)) if n else None, n, {})
