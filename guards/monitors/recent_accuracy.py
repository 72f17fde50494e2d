"""The accuracy of recent rows, and whether it has fallen since the held-out rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from guards.confidence_sequences import rate_interval
from guards.groups.differences import rate
from guards.monitor import Statistic
from guards.rate_comparisons import difference_interval
from guards.recent import ALPHA, ENOUGH_ROWS

__all__ = ["RecentAccuracy", "drop_statistic", "rate_statistic"]

Share = tuple[int, int]
"""Right answers and rows."""


@dataclass(frozen=True, slots=True)
class RecentAccuracy:
    """Windows of more and more recent rows, against the ``heldout`` rows; see :mod:`guards.recent`."""

    heldout: Share
    windows: Sequence[Share]
    tolerance: float

    def shown(self) -> tuple[Statistic, Statistic]:
        """Give the accuracy, and its loss, of the shortest window with labels enough, or else of the longest."""
        right, rows = self._shown()
        return rate_statistic("recent_accuracy", right, rows, {}), self._loss((right, rows))

    def outside(self) -> Statistic | None:
        """Give the loss of the shortest window whose interval lies beyond the tolerance, if any does."""
        for window in self.windows:
            if self._estimate(window) > self.tolerance:  # its interval holds the estimate
                loss = self._loss(window)
                if loss.interval is not None and loss.interval[0] > self.tolerance:
                    return loss
        return None

    def is_beyond(self) -> bool:
        """Tell whether the loss that is shown is beyond the tolerance."""
        return self._estimate(self._shown()) > self.tolerance

    def _shown(self) -> Share:
        enough = (window for window in self.windows if window[1] >= ENOUGH_ROWS)
        return next(enough, self.windows[-1] if self.windows else (0, 0))

    def _estimate(self, window: Share) -> float:
        return float(rate(*self.heldout) - rate(*window))

    def _loss(self, window: Share) -> Statistic:
        return drop_statistic("recent_accuracy_drop", self.heldout, window, ALPHA)


def rate_statistic(name: str, hits: int, n: int, labels: dict[str, str]) -> Statistic:
    """Give a share of ``n`` rows."""
    low, high = rate_interval(hits, n)
    value = float(rate(hits, n))
    return Statistic(name, value if n else None, (float(low), float(high)) if n else None, int(n), labels)


@lru_cache(maxsize=32)  # a state is asked for with every report, and of the rows of before no other ever comes
def drop_statistic(name: str, before: Share, after: Share, alpha: float = 0.05) -> Statistic:
    """Give one accuracy less another."""
    n = min(before[1], after[1])
    low, high = difference_interval(before, after, alpha)
    value = float(rate(*before) - rate(*after))
    return Statistic(name, value if n else None, (float(low), float(high)) if n else None, n, {})
