"""Reads a monitor's figures, and checks the properties that reports, scrapes and replays rely on."""

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from typing import get_args

import numpy as np
import numpy.typing as npt

from guards.monitors.base import Monitor, Series, State, Statistic
from guards.monitors.optional_methods import HasSnapshots, series_of
from guards.testing.example import require

__all__ = [
    "check_alarms",
    "check_report",
    "counters_of",
    "figures_of",
    "require_same",
    "restore",
    "series_keys",
    "snapshot_of",
]

Key = tuple[str, str, tuple[tuple[str, str], ...]]


def figures_of(monitor: Monitor) -> tuple[list[Series], list[Statistic], State, Mapping[str, int] | None]:
    """Give all figures of a monitor: its series, report, state and alarms."""
    return series_of(monitor), monitor.report(), monitor.state(), monitor.alarms()


def snapshot_of(monitor: Monitor) -> dict[str, npt.NDArray[np.generic]]:
    """Copy a monitor's snapshot; empty if the monitor has none."""
    given = monitor.snapshot() if isinstance(monitor, HasSnapshots) else {}
    return {key: np.array(array) for key, array in given.items()}


def restore(monitor: Monitor, state: Mapping[str, npt.NDArray[np.generic]]) -> None:
    """Let a monitor continue from a snapshot of :func:`snapshot_of`."""
    assert isinstance(monitor, HasSnapshots)  # noqa: S101 - the monitor made the snapshot
    monitor.restore(state)


def check_alarms(alarms: Mapping[str, int] | None) -> None:
    """Require that alarms, if a monitor counts them, are plain integers by stream."""
    if alarms is None:
        return
    plain = all(type(stream) is str and type(count) is int for stream, count in alarms.items())
    require(plain, "alarms must be plain integers by the name of a stream")


def series_keys(monitor: Monitor) -> list[Key]:
    """List metric, kind and labels of each of a monitor's series."""
    return [(series.metric, series.kind, tuple(sorted(series.labels.items()))) for series in series_of(monitor)]


def counters_of(monitor: Monitor) -> list[float]:
    """Give the values of a monitor's counters."""
    return [series.value for series in series_of(monitor) if series.kind == "counter"]


def check_report(monitor: Monitor) -> None:
    """Require a known state, and a report whose figures are plain, finite, unique and within their intervals."""
    report = monitor.report()
    require(all(isinstance(statistic, Statistic) for statistic in report), "report must return a list of statistics")
    json.dumps([asdict(statistic) for statistic in report], allow_nan=False)
    numbers = [number for s in report for number in (s.value, *(s.interval or ()), s.n) if number is not None]
    bounded = [
        (s.interval[0], s.value, s.interval[1]) for s in report if s.interval is not None and s.value is not None
    ]
    require(all(low <= value <= high for low, value, high in bounded), "a value lies outside its own interval")
    require(all(type(number) in (int, float) for number in numbers), "a statistic's numbers must be plain, not numpy's")
    keys = Counter((statistic.name, tuple(sorted(statistic.labels.items()))) for statistic in report)
    require(all(count == 1 for count in keys.values()), "a report has the same statistic twice")
    require(monitor.state() in get_args(State), f"{monitor.state()!r} is no state")


def require_same(a: Monitor, b: Monitor, sentence: str) -> None:
    """Require two monitors to have counted the same, and to report the same up to rounding."""
    require(counters_of(a) == counters_of(b), sentence)
    pairs = zip(_reported(a), _reported(b), strict=True)
    require(all(_is_close(one, two) for one, two in pairs), sentence)


def _reported(monitor: Monitor) -> list[float | None]:
    gauges: list[Series] = [series for series in series_of(monitor) if series.kind == "gauge"]
    statistics = [value for s in monitor.report() for value in (s.value, *(s.interval or ()), float(s.n))]
    return [*(series.value for series in gauges), *statistics]


def _is_close(a: float | None, b: float | None) -> bool:
    return a is b if a is None or b is None else math.isclose(a, b, rel_tol=1e-5, abs_tol=1e-9)
