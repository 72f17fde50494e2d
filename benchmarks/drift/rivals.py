"""Other detectors of drift in one stream of numbers: each gets the reference, and returns the first row of an alarm."""

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from rich.console import Console

from guards.monitors.alibi.interpreter import alibi_python
from guards.monitors.slow_work.client import shared
from guards.monitors.slow_work.work import Arrays

__all__ = ["RIVALS", "RUN_LENGTH", "Rival", "installed_rivals"]

Floats = npt.NDArray[np.float64]
Rival = Callable[[Floats, Floats], int | None]
"""(reference rows, stream) -> rows seen at the first alarm, or None."""
WARM_UP = 2000
CHUNK = 1000
"""Rows that alibi-detect's detectors are shown at once."""


def kolmogorov_smirnov(window: int, run_length: float) -> Rival:
    """Two-sample KS test of every tumbling window, at the level that makes the nominal run length."""
    level = window / run_length

    def first(reference: Floats, stream: Floats) -> int | None:
        # The asymptotic critical value with Stephens' correction (1970) for the effective sample size.
        size = math.sqrt(len(reference) * window / (len(reference) + window))
        critical = math.sqrt(-math.log(level / 2) / 2) / (size + 0.12 + 0.11 / size)
        windows = np.sort(stream[: len(stream) // window * window].reshape(-1, window), axis=1)
        expected = np.searchsorted(np.sort(reference), windows) / len(reference)
        steps = np.arange(window) / window
        distance = np.maximum(expected - steps, steps + 1 / window - expected).max(axis=1)
        return _first(distance > critical, window)

    return first


def stability_index(window: int, limit: float = 0.1, bins: int = 10) -> Rival:
    """PSI of every tumbling window over ten reference deciles, above the customary limit."""

    def first(reference: Floats, stream: Floats) -> int | None:
        edges = np.quantile(reference, np.linspace(0, 1, bins + 1)[1:-1])
        places = np.searchsorted(edges, stream[: len(stream) // window * window], side="right").reshape(-1, window)
        share = np.stack([(places == k).mean(axis=1) for k in range(bins)], axis=1).clip(1e-4)
        index = ((share - 1 / bins) * np.log(share * bins)).sum(axis=1)
        return _first(index > limit, window)

    return first


def of_river(name: str) -> Rival:
    """Give a detector of river with its default parameters, warmed up on the reference's last rows."""

    def first(reference: Floats, stream: Floats) -> int | None:
        from river import drift  # noqa: PLC0415 - needed for this rival alone

        detector = drift.KSWIN(seed=0) if name == "KSWIN" else getattr(drift, name)()
        for value in reference[-WARM_UP:].tolist():
            detector.update(value)
        for row, value in enumerate(stream.tolist(), 1):
            detector.update(value)
            if detector.drift_detected:
                return row
        return None

    return first


def of_alibi(kind: str, run_length: int = 1000) -> Rival:
    """Give an online detector of alibi-detect on a sample of the reference; it cannot be asked for longer runs.

    Thresholds are simulated for every reference, which takes a quarter of a minute, in alibi-detect's own environment.
    """

    def first(reference: Floats, stream: Floats) -> int | None:
        process = shared(alibi_python())
        task = {
            "kind": kind, "layout": "dense", "columns": [0], "gaps": False, "context": [], "context_gaps": False,
            "window": 20, "seed": 0, "expected_run_time": run_length, "bootstraps": 10 * run_length,
        }  # fmt: skip
        sample: Arrays = {"reference": reference[:500, None].astype(np.float32)}
        configured = process.run("guards.monitors.alibi.drift_tests:configure", task, sample)
        known: Arrays = {**sample, **{f"online.{name}": value for name, value in configured.items()}}
        for start in range(0, len(stream), CHUNK):
            rows = stream[start : start + CHUNK, None].astype(np.float32)
            found = process.run("guards.monitors.alibi.drift_tests:watch", task, {**known, "window": rows})
            if len(found["alarms"]):
                return start + int(found["alarms"][0]) + 1
            known = {**known, **{name: value for name, value in found.items() if name.startswith("state.")}}
        return None

    return first


def _first(alarms: npt.NDArray[np.bool_], window: int) -> int | None:
    return (int(alarms.argmax()) + 1) * window if alarms.any() else None


RUN_LENGTH = 1e6
RIVALS: dict[str, Rival] = {
    "KS, windows of 100": kolmogorov_smirnov(100, RUN_LENGTH),
    "KS, windows of 400": kolmogorov_smirnov(400, RUN_LENGTH),
    "PSI > 0.1, windows of 100": stability_index(100),
    "PSI > 0.1, windows of 1000": stability_index(1000),
    "river ADWIN": of_river("ADWIN"),
    "river KSWIN": of_river("KSWIN"),
    "river PageHinkley": of_river("PageHinkley"),
    "alibi-detect MMDDriftOnline, run length 1000": of_alibi("alibi_mmd_online"),
    "alibi-detect LSDDDriftOnline, run length 1000": of_alibi("alibi_lsdd_online"),
}


def installed_rivals(console: Console, *, quick: bool) -> list[str]:
    """Return the names of the rivals that can run here; say which are left out, and why.

    alibi-detect's detectors simulate their thresholds for every reference: minutes, which are too many for a quick run.
    """
    alibi = [name for name in RIVALS if name.startswith("alibi")]
    reason = "a quick run" if quick else None
    if reason is None:
        try:
            alibi_python()
        except ValueError as missing:
            reason = str(missing)
    if reason is None:
        return list(RIVALS)
    console.print(f"{', '.join(alibi)}: left out: {reason}", style="yellow", highlight=False, markup=False)
    return [name for name in RIVALS if name not in alibi]
