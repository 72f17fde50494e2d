"""Rates of a classifier by group, and their differences. Names and values are as in fairlearn's MetricFrame."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from guards.monitors.base import Statistic
from guards.monitors.groups.differences import differences, least, most, rate, ratios
from guards.monitors.groups.figures import ALPHA, Measured, by_cell, by_label, column
from guards.monitors.groups.group_counts import MICRO
from guards.statistics.confidence_sequences import asymptotic_mean_interval, mean_interval, rate_interval

__all__ = ["by_group", "compare", "largest", "of_classes"]

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Rate = tuple[Integers, Integers]
"""Hits and rows (g, k)."""
DIFFERENCES = {
    "demographic_parity_difference": ("selection_rate",),
    "equal_opportunity_difference": ("true_positive_rate",),
    "equalized_odds_difference": ("true_positive_rate", "false_positive_rate"),
    "accuracy_difference": ("accuracy",),
}


def of_classes(measured: Measured) -> tuple[list[Statistic], list[Statistic]]:
    """Give the groups' rates, and their differences and ratio."""
    index, rates = _index(measured), _rates(measured)
    found: list[Statistic] = []
    for name, (hits, n) in rates.items():
        low, high = rate_interval(hits, n, ALPHA)
        found += by_cell(measured, name, rate(hits, n), (low, high), n)
    found += _weighted(measured, index)
    found += _bounds(measured, index)
    found += _calibration(measured)
    if measured.declared <= 1:
        return found, []
    compared = compare(measured, DIFFERENCES, ALPHA)
    hits, n = (counts[: measured.declared] for counts in rates["selection_rate"])
    value, low, high = ratios(hits, n, ALPHA)
    return found, [*compared, *by_label(measured, "demographic_parity_ratio", value, (low, high), n.sum(0))]


def largest(measured: Measured, names: Iterable[str]) -> float:
    """Give the largest of the named differences, without the interval that :func:`compare` computes.

    The difference is NaN if no two groups have rows for the same rate.
    """
    rates = _rates(measured)
    spans = []
    for part in [part for name in names for part in DIFFERENCES[name]]:
        hits, n = (counts[: measured.declared] for counts in rates[part])
        shares = rate(hits, n)
        spans.append(np.where((n > 0).sum(0) > 1, most(shares) - least(shares), np.nan))
    return float(most(np.concatenate(spans)))


def compare(measured: Measured, names: Iterable[str], alpha: float) -> list[Statistic]:
    """Give the named differences between declared groups, of which there must be two or more.

    The differences that may raise the alarm share ``alpha``; each other difference has an interval at ``alpha``.
    """
    ours = {name: (h[: measured.declared], n[: measured.declared]) for name, (h, n) in _rates(measured).items()}
    parts = [(name, part) for name in names for part in DIFFERENCES[name]]
    widths = [ours[part][0].shape[1] for _, part in parts]
    shares = [
        len(measured.alarm) * width if name in measured.alarm else 1
        for (name, _), width in zip(parts, widths, strict=True)
    ]
    alphas = [alpha / share / len(DIFFERENCES[name]) for (name, _), share in zip(parts, shares, strict=True)]
    # All differences in one call: the time depends on the number of calls, and not on the number of rates.
    value, low, high = differences(
        np.concatenate([ours[part][0] for _, part in parts], axis=1),
        np.concatenate([ours[part][1] for _, part in parts], axis=1),
        np.repeat(alphas, widths),
    )
    columns = dict(zip(parts, np.split(np.arange(sum(widths)), np.cumsum(widths)[:-1]), strict=True))
    compared: list[Statistic] = []
    for name in names:
        each = DIFFERENCES[name]
        at = [columns[name, part] for part in each]
        worst, interval = _worst([value[i] for i in at], [low[i] for i in at], [high[i] for i in at])
        rows = np.array([ours[part][1].sum(0) for part in each])
        fewest = np.where(rows > 0, rows, rows.max(0)).min(0)  # among the rates that are known
        compared += by_label(measured, name, worst, interval, fewest)
    return compared


def _index(measured: Measured) -> list[int]:
    return [measured.labels.index(label) for label in measured.positives]


def _rates(measured: Measured) -> dict[str, Rate]:
    """Give the hits and rows of every rate, by the rate's name."""
    counts, index = measured.counts, _index(measured)
    answered = counts.predictions[:, :-1]
    rates = {"selection_rate": by_group(answered[:, index], answered.sum(1)[:, None])}
    return rates | _confusion(counts.outcomes, index)


def _worst(values: list[Floats], lows: list[Floats], highs: list[Floats]) -> tuple[Floats, tuple[Floats, Floats]]:
    """Give the largest of several differences (k,) of one statistic, and its bounds.

    If one difference is unknown, because no two groups have rows for its rate, the largest is unknown too. The other
    differences bound it from below, and 1 bounds it from above. If they prove no difference, there is no interval.
    """
    value = np.maximum.reduce(values)
    low = np.fmax.reduce(lows)
    high = np.where(np.isnan(value), np.where(low > 0, 1.0, np.nan), np.fmax.reduce(highs))
    return value, (low, high)


def _confusion(table: Integers, index: list[int]) -> dict[str, Rate]:
    """Sum a table (g, k + 1, k) of answered rows to each rate's hits and rows (g, len(index)); accuracy has (g, 1)."""
    answered = table[:, :-1]
    right = answered[:, index, index]
    predicted, actual = answered[:, index].sum(2), answered[:, :, index].sum(1)
    everything = answered.sum((1, 2))[:, None]
    return {
        "true_positive_rate": (right, actual),
        "false_positive_rate": (predicted - right, everything - actual),
        "positive_predictive_value": (right, predicted),
        "accuracy": (np.trace(answered, axis1=1, axis2=2)[:, None], everything),
    }


def _weighted(measured: Measured, index: list[int]) -> list[Statistic]:
    """Weigh each outcome by the inverse of the probability that it becomes known; the intervals are asymptotic.

    Hájek 1971. The variance is the variance of the linearised ratio; the number of rows is the effective number
    (sum w)^2 / sum w^2.
    """
    counts, found = measured.counts, []
    if not counts.weights.any():
        return []
    squared = _confusion(counts.squared_weights, index)
    for name, (hits, total) in _confusion(counts.weights, index).items():
        share = rate(hits, total)
        hit, every = squared[name]
        with np.errstate(divide="ignore", invalid="ignore"):
            n = (total / MICRO) ** 2 / (every / MICRO)
            spread = ((hit * (1 - share) ** 2 + (every - hit) * share**2) / MICRO) / (total / MICRO) ** 2
        low, high = asymptotic_mean_interval(share, spread * n, np.nan_to_num(n), ALPHA)
        interval = (np.clip(low, 0, 1), np.clip(high, 0, 1))
        found += by_cell(measured, f"{name}_weighted", share, interval, np.nan_to_num(n).astype(np.int64))
    return found


def _bounds(measured: Measured, index: list[int]) -> list[Statistic]:
    """Bound each rate among all answered rows by the worst and the best values of the missing labels.

    The value is the rate among the rows whose label is known, which always lies between the bounds.
    """
    counts = measured.counts
    known = _confusion(counts.outcomes, index)
    answered, labelled = counts.predictions[:, :-1], counts.outcomes[:, :-1].sum(2)
    missing = np.maximum(answered - labelled, 0)
    here, away = missing[:, index], missing.sum(1)[:, None] - missing[:, index]
    found: list[Statistic] = []
    for name, (hits, n) in known.items():
        if name in ("true_positive_rate", "false_positive_rate"):
            low, high = (hits, n + away), (hits + here, n + here)
        else:
            unknown = here if name == "positive_predictive_value" else missing.sum(1)[:, None]
            low, high = (hits, n + unknown), (hits + unknown, n + unknown)
        rows = np.broadcast_to(answered.sum(1)[:, None], hits.shape)
        interval = (np.nan_to_num(rate(*low), nan=0.0), np.nan_to_num(rate(*high), nan=1.0))
        known_rate = rate(hits, n)
        shown = np.where(np.isnan(known_rate), np.nan, 0.0)
        found += by_cell(measured, f"{name}_bounds", known_rate, (interval[0] + shown, interval[1] + shown), rows)
    return found


def _calibration(measured: Measured) -> list[Statistic]:
    n, total, squares = measured.counts.residuals.T
    gap = rate(total, n * MICRO)
    interval = mean_interval(total / MICRO, squares / MICRO, n, (-1.0, 1.0), ALPHA)
    return by_cell(measured, "calibration_gap", gap[:, None], column(interval), n[:, None])


def by_group(hits: Integers, n: Integers) -> Rate:
    """Give hits and rows the same shape."""
    first, second = np.broadcast_arrays(hits, n)
    return first, second
