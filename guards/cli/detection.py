"""Figures of detection: how well scores and flags tell suspect rows from clean rows, each figure with its interval."""

from typing import TypedDict

import numpy as np
import numpy.typing as npt
from scipy.stats import binom
from sklearn.metrics import roc_curve

from guards.statistics.auroc import area
from guards.statistics.average_precision import average_precision
from guards.statistics.proportions import proportion

__all__ = ["Detection", "Interval", "detection", "nothing"]

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Interval = tuple[float, float]
FOUND = 0.95
"""The share of the suspect rows at which the false positives are counted."""
HALF = 0.0125
"""Each of the four ends of two intervals misses with this probability, so that both intervals hold with 95 %."""


class Detection(TypedDict):
    """How well one guard, or any of them, tells suspect rows from clean rows; None if a figure cannot be measured.

    ``tpr`` is the share of suspect rows that are flagged, ``false_alarm_rate`` the share of clean rows that are
    flagged. Every interval is a 95 % interval.
    """

    auroc: float | None
    auroc_interval: Interval | None
    aupr: float | None
    aupr_interval: Interval | None
    fpr_at_95_tpr: float | None
    fpr_at_95_tpr_interval: Interval | None
    tpr: float | None
    tpr_interval: Interval | None
    false_alarm_rate: float | None
    false_alarm_interval: Interval | None


def nothing() -> Detection:
    """Give the figures of no guard: none can be measured."""
    return {
        "auroc": None, "auroc_interval": None,
        "aupr": None, "aupr_interval": None,
        "fpr_at_95_tpr": None, "fpr_at_95_tpr_interval": None,
        "tpr": None, "tpr_interval": None,
        "false_alarm_rate": None, "false_alarm_interval": None,
    }  # fmt: skip


def detection(clean: Floats, suspect: Floats | None, clean_flags: Bools, suspect_flags: Bools | None) -> Detection:
    """Measure how well scores, larger is stranger, and flags tell m suspect rows from n clean rows.

    Without suspect rows (None) only the false alarms are measured. Scores (n,) and (m,) must not be NaN.

    - AUROC: see :func:`guards.statistics.auroc.area`.
    - AUPR: see :func:`guards.statistics.average_precision.average_precision`.
    - FPR at 95 % TPR: the interval of the suspects' 5 % quantile by order statistics, then the interval of the share
      of clean rows above each end; together they hold with at least 95 %, whatever the scores' distribution is.
    - TPR and false alarms: Clopper-Pearson.
    """
    found = nothing()
    alarms = proportion(int(clean_flags.sum()), len(clean_flags))
    found["false_alarm_rate"], found["false_alarm_interval"] = alarms.value, alarms.interval
    if suspect is None or suspect_flags is None:
        return found
    caught = proportion(int(suspect_flags.sum()), len(suspect_flags))
    found["tpr"], found["tpr_interval"] = caught.value, caught.interval
    auroc = area(clean, suspect)
    found["auroc"], found["auroc_interval"] = auroc.value, auroc.interval
    truth = np.repeat([0, 1], [len(clean), len(suspect)])
    values = np.concatenate([clean, suspect])
    precision = average_precision(clean, suspect)
    found["aupr"], found["aupr_interval"] = precision.value, precision.interval
    fpr, tpr, _ = roc_curve(truth, values, drop_intermediate=False)
    found["fpr_at_95_tpr"] = float(fpr[np.searchsorted(tpr, FOUND)])
    found["fpr_at_95_tpr_interval"] = _false_positives(clean, np.sort(suspect))
    return found


def _false_positives(clean: Floats, suspect: Floats) -> Interval:
    """Give the interval of the share of clean rows at or above the threshold that finds 95 % of the suspect rows.

    ``suspect`` (m,) is sorted.
    """
    m, n = len(suspect), len(clean)
    # The number of suspects below the true quantile is binomial, so the quantile lies between two order statistics.
    first, last = int(binom.ppf(HALF, m, 1 - FOUND)), int(binom.ppf(1 - HALF, m, 1 - FOUND))
    highest = suspect[last] if last < m else np.inf
    lowest = suspect[first - 1] if first else -np.inf
    fewest, most = int((clean >= highest).sum()), int((clean >= lowest).sum())
    level = 1 - 2 * HALF
    return proportion(fewest, n, level=level).low, proportion(most, n, level=level).high
