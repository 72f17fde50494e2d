"""Other ways to watch one stream of numbers, each told the reference and asked for the first row it alarms at."""

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

__all__ = ["RIVALS", "Rival"]

Floats = npt.NDArray[np.float64]
Rival = Callable[[Floats, Floats], int | None]
"""(reference rows, stream) -> rows seen at the first alarm, or None."""
WARM_UP = 2000


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
        from river import drift  # noqa: PLC0415 - only where it is asked for

        detector = drift.KSWIN(seed=0) if name == "KSWIN" else getattr(drift, name)()
        for value in reference[-WARM_UP:].tolist():
            detector.update(value)
        for row, value in enumerate(stream.tolist(), 1):
            detector.update(value)
            if detector.drift_detected:
                return row
        return None

    return first


def of_alibi(name: str, run_length: float = 1000.0) -> Rival:
    """Give an online detector of alibi-detect on a sample of the reference; it cannot be asked for longer runs.

    Thresholds are simulated for every reference, which takes a quarter of a minute.
    """

    def first(reference: Floats, stream: Floats) -> int | None:
        from alibi_detect import cd  # noqa: PLC0415 - takes long, and only where it is asked for

        sample = reference[:500, None].astype(np.float32)
        detector = getattr(cd, name)(
            sample, ert=run_length, window_size=20, n_bootstraps=int(10 * run_length), backend="pytorch", verbose=False
        )
        for row, value in enumerate(stream.astype(np.float32).tolist(), 1):
            if detector.predict(np.array([value], dtype=np.float32))["data"]["is_drift"]:
                return row
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
    "alibi-detect MMDDriftOnline, run length 1000": of_alibi("MMDDriftOnline"),
    "alibi-detect LSDDDriftOnline, run length 1000": of_alibi("LSDDDriftOnline"),
}
