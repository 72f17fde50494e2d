"""How rarely recent figures raise a false alarm, and how soon a late change raises one.

Streams of labels are looked at every 50 labels, in the windows of :mod:`guards.statistics.recent_blocks`.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.harness.report import print_document, print_table
from guards.statistics.rate_comparisons import least_log_evidence, log_evidence
from guards.statistics.recent_blocks import ALPHA, BLOCK_ROWS, RUN_LENGTH, WINDOWS

Floats = npt.NDArray[np.float64]
LOOK, CLEAN, LATE = 50, 20_000, 2000
ACCURACY = 0.95
HELDOUT = (300, 1000, 10_000)
FALLS = (0.60, 0.80, 0.90)
TOLERANCES = (0.0, 0.05)
GAPS = (0.1, 0.2)
RATE, HALF = 0.4, 0.5
SEED = 2026
DELAYS = 4
"""One of so many runs goes on after its clean labels."""


def main(*, quick: bool) -> None:
    """Measure, print tables and the JSON document."""
    runs = 20 if quick else 1000
    accuracy = [_accuracy(rows, tolerance, runs) for rows in HELDOUT for tolerance in TOLERANCES]
    groups = [_groups(tolerance, runs) for tolerance in (0.0, 0.05)]
    print_table(
        f"false alarms of {runs} runs, and labels from a change to the alarm: the median, and the 90th percentile",
        {
            row["what"]: {
                "false alarms": row["false_alarms"],
                **{change: f"{found['median']}, {found['p90']}" for change, found in row["delays"].items()},
            }
            for row in [*accuracy, *groups]
        },
    )
    print_document(
        "recent", quick=quick, runs=runs, clean_labels=CLEAN, run_length=RUN_LENGTH, accuracy=accuracy, groups=groups
    )


def _accuracy(heldout: int, tolerance: float, runs: int) -> dict[str, Any]:
    """Let each stream have held-out rows of its own; after the clean labels the accuracy falls."""
    generator = np.random.default_rng(SEED)
    false = 0
    delays: dict[str, list[float]] = {f"to {fall:g}": [] for fall in FALLS}
    for run in range(runs):
        right = generator.binomial(heldout, ACCURACY)
        clean = generator.random(CLEAN) < ACCURACY
        false += np.isfinite(_first(right, heldout, clean, 0, tolerance))
        for fall in FALLS if run < runs // DELAYS else ():
            labels = np.concatenate([clean, generator.random(LATE) < fall])
            delays[f"to {fall:g}"].append(_first(right, heldout, labels, CLEAN, tolerance))
    return _row(f"accuracy, {heldout} held-out rows, tolerance {tolerance:g}", false, delays, runs)


def _first(right: int, heldout: int, labels: npt.NDArray[np.bool_], start: int, tolerance: float) -> float:
    """Find after how many labels from ``start`` on the stream is in alarm; infinity if it never is."""
    sums = np.concatenate([[0], np.cumsum(labels)])
    first, end = _spans(start, len(labels))
    n = (end - first).astype(np.float64)
    hits = (sums[end] - sums[first]).astype(np.float64)
    fallen = _exceeds((np.full(len(n), float(right)), np.full(len(n), float(heldout)), hits, n), tolerance, ALPHA)
    return float(end[fallen].min() - start) if fallen.any() else np.inf


def _groups(tolerance: float, runs: int) -> dict[str, Any]:
    """Let two groups of changing sizes have one rate, and then rates apart; two statistics share the alarm."""
    generator = np.random.default_rng(SEED + 1)
    changes = {f"{RATE:g} and {RATE + gap:g}": gap for gap in GAPS}
    false = 0
    delays: dict[str, list[float]] = {name: [] for name in changes}
    for run in range(runs):
        group = generator.random(CLEAN + LATE) < HALF
        draw = generator.random(CLEAN + LATE)
        rate = np.full(CLEAN + LATE, RATE)
        false += np.isfinite(_apart(group[:CLEAN], draw[:CLEAN] < RATE, 0, tolerance))
        for name, gap in changes.items() if run < runs // DELAYS else ():
            late = rate.copy()
            late[CLEAN:] += gap * group[CLEAN:]
            delays[name].append(_apart(group, draw < late, CLEAN, tolerance))
    return _row(f"two groups, tolerance {tolerance:g}", false, delays, runs)


def _apart(group: npt.NDArray[np.bool_], hits: npt.NDArray[np.bool_], start: int, tolerance: float) -> float:
    first, end = _spans(start, len(group))
    counts = []
    for member in (group, ~group):
        for each in (hits & member, member):
            sums = np.concatenate([[0], np.cumsum(each)])
            counts.append((sums[end] - sums[first]).astype(np.float64))
    h1, n1, h2, n2 = counts
    apart = _exceeds((h1, n1, h2, n2), tolerance, ALPHA / 2) | _exceeds((h2, n2, h1, n1), tolerance, ALPHA / 2)
    return float(end[apart].min() - start) if apart.any() else np.inf


def _spans(start: int, labels: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Give the first label of every window and the label after its last, at every look after ``start`` labels."""
    looks = np.arange(start + LOOK, labels + 1, LOOK)
    block = (looks - 1) // BLOCK_ROWS
    first = np.concatenate([np.maximum(block - length + 1, 0) * BLOCK_ROWS for length in WINDOWS])
    return first, np.tile(looks, len(WINDOWS))


def _exceeds(counts: tuple[Floats, Floats, Floats, Floats], bar: float, alpha: float) -> npt.NDArray[np.bool_]:
    """Find pairs whose first rate less the second has an interval above the bar, as ``difference_interval`` does."""
    h1, n1, h2, n2 = counts
    with np.errstate(divide="ignore", invalid="ignore"):
        found = (n1 > 0) & (n2 > 0) & (h1 / n1 - h2 / n2 > bar)
    at = np.flatnonzero(found)
    # The evidence at one point of the null line is no smaller than the least: cheap, and seldom large enough.
    second = np.clip((h1 + h2 - n1 * bar) / np.maximum(n1 + n2, 1), 1e-7, 1 - 1e-7 - bar)
    at = at[
        log_evidence(h1[at], n1[at], h2[at], n2[at], (second + bar)[at, None], second[at, None])[:, 0] >= -np.log(alpha)
    ]
    found[:] = False
    if len(at):
        some = (h1[at], n1[at], h2[at], n2[at])
        found[at] = least_log_evidence(_line, some, np.full(len(at), bar), np.full(len(at), alpha)) >= -np.log(alpha)
    return found


def _line(d: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    one = np.ones_like(d)
    return d, one, np.zeros_like(d), one


def _row(what: str, false: int, delays: dict[str, list[float]], runs: int) -> dict[str, Any]:
    return {
        "what": what,
        "false_alarms": float(false) / runs,
        "delays": {name: _delay(np.array(each)) for name, each in delays.items()},
    }


def _delay(found: Floats) -> dict[str, float | None]:
    """Give the labels to the alarm; None if the late labels were too few for an alarm."""
    median, most = (float(np.quantile(found, q, method="higher")) for q in (0.5, 0.9))
    return {"median": median if np.isfinite(median) else None, "p90": most if np.isfinite(most) else None}
