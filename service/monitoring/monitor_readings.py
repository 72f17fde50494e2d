"""Reads one monitor as plain data: its entry in a report, its series, its snapshot."""

from typing import Any

import numpy as np
import numpy.typing as npt

from guards.monitors.base import Monitor, Series, State, Statistic
from guards.monitors.optional_methods import HasCause, HasSnapshots, series_of

__all__ = [
    "Arrays",
    "cause_of",
    "copied_snapshot",
    "entry_of",
    "restore_snapshot",
    "series_to_scrape",
    "statistics_of",
    "without_small",
]

Arrays = dict[str, npt.NDArray[np.generic]]
SAVED = frozenset(
    {"bool", "float16", "float32", "float64", *(f"{s}int{n}" for s in ("", "u") for n in (8, 16, 32, 64))}
)
"""The numpy types that a snapshot's file can hold."""


def entry_of(monitor: Monitor, found: tuple[State, list[dict[str, Any]]] | None, since: str | None) -> dict[str, Any]:
    """Write a monitor's entry in a report from its state and statistics; ``found`` is None if the monitor crashed."""
    state, statistics = ("insufficient_data", []) if found is None else found
    entry = {"kind": monitor.kind, "state": state, "since": since, "statistics": statistics}
    return entry if found is not None else entry | {"error": "the monitor crashed; the log says how"}


def statistics_of(monitor: Monitor) -> list[dict[str, Any]]:
    """Give a monitor's report as ``/monitors`` writes it: plain numbers and strings."""
    return [
        {
            "name": statistic.name,
            "value": None if statistic.value is None else float(statistic.value),
            "interval": None if statistic.interval is None else tuple(map(float, statistic.interval)),
            "n": int(statistic.n),
            "labels": {str(name): str(value) for name, value in statistic.labels.items()},
        }
        for statistic in monitor.report()
    ]


def without_small(statistics: list[dict[str, Any]], least: int) -> list[dict[str, Any]]:
    """Hide the value, the interval and the number of rows of each statistic of fewer than ``least`` rows."""
    hidden = {"value": None, "interval": None, "n": None}
    return [one | hidden if 0 < one["n"] < least else one for one in statistics]


def cause_of(monitor: Monitor) -> Statistic | None:
    """Give the statistic that decided a monitor's state; None if the monitor does not name a statistic."""
    return monitor.cause() if isinstance(monitor, HasCause) else None


def series_to_scrape(monitor: Monitor) -> list[Series]:
    """Give a monitor's series with plain strings and numbers, so that every sample can be written."""
    return [
        Series(s.metric, s.kind, {name: str(value) for name, value in s.labels.items()}, float(s.value))
        for s in series_of(monitor)
    ]


def copied_snapshot(monitor: Monitor) -> Arrays:
    """Copy the arrays of a monitor's snapshot, because the monitor may go on counting in the same arrays.

    Raises:
        TypeError: an array is not a plain array of numbers.
    """
    given = monitor.snapshot() if isinstance(monitor, HasSnapshots) else {}
    copies = {str(name): np.array(array, order="C") for name, array in given.items()}
    if odd := [name for name, array in copies.items() if array.dtype.name not in SAVED]:
        raise TypeError(f"{odd[0]} holds {copies[odd[0]].dtype}, but a snapshot holds numbers alone")
    return copies


def restore_snapshot(monitor: Monitor, arrays: Arrays) -> None:
    """Restore a monitor from a snapshot; if the snapshot has no arrays, nothing is restored.

    Raises:
        ValueError: the monitor gives no snapshots.
    """
    if not arrays:
        return
    if not isinstance(monitor, HasSnapshots):
        raise ValueError("the monitor gives no snapshots")  # noqa: TRY004 - an earlier version of the monitor gave the snapshot
    monitor.restore(arrays)
