"""The area under the precision-recall curve, as average precision, with its confidence interval."""

import numpy as np
import numpy.typing as npt

from guards.statistics.auroc import Area
from guards.statistics.proportions import score_interval

__all__ = ["average_precision"]

Floats = npt.NDArray[np.float64]
RESAMPLES = 200
ENDS = (0.025, 0.975)
SEED = 0


def average_precision(clean: Floats, suspect: Floats) -> Area:
    """Estimate the average precision of finding m suspect rows among n clean rows; larger scores are stranger.

    The figure depends on the mix of clean and suspect rows: more clean rows make it smaller. Neither part may be empty.
    The interval takes the wider end of two intervals: a stratified percentile bootstrap, which has no width if the rows
    are fully separated, and Wilson's interval with m rows (the score version of the binomial interval of Boyd, Eng &
    Page 2013), which leaves out how the clean rows vary.
    """
    m, n = len(suspect), len(clean)
    values = np.concatenate([suspect, clean])
    order = np.argsort(-values, kind="stable")
    ranked = values[order]
    ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))  # rows of one score are found together
    place = np.empty(m + n, dtype=np.int64)
    place[order] = np.arange(m + n)
    found = _precision(place[:m], place[m:], ends)
    generator = np.random.default_rng(SEED)
    drawn = [
        _precision(place[generator.integers(0, m, m)], place[generator.integers(m, m + n, n)], ends)
        for _ in range(RESAMPLES)
    ]
    (low, high), (least, most) = np.quantile(drawn, ENDS).tolist(), score_interval(found, m)
    return Area(found, min(low, least), max(high, most))


def _precision(suspect: npt.NDArray[np.int64], clean: npt.NDArray[np.int64], ends: npt.NDArray[np.int64]) -> float:
    """Give the average precision of places in the ranking, which may be drawn more than once."""
    counts = [np.bincount(places, minlength=int(ends[-1]) + 1).cumsum()[ends] for places in (suspect, clean)]
    true, every = counts[0], counts[0] + counts[1]
    return float((np.diff(true, prepend=0) * true / np.maximum(every, 1)).sum()) / len(suspect)
