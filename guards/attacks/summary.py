"""What attacks achieved, as figures with their intervals."""

from collections.abc import Sequence
from typing import TypedDict

import numpy as np

from guards.attacks.pgd import Crafted
from guards.attacks.runner import Trace
from guards.statistics.proportions import proportion

__all__ = ["SOON", "Figures", "nothing", "of_crafted", "of_traces"]

SOON = 20
"""The number of queries within which an attack should be flagged."""
Interval = tuple[float, float]


class Figures(TypedDict):
    """What one attack achieved at one eps: shares of the attacked rows, each with its 95 % interval.

    ``passed`` is the share of rows for which the attack succeeded with a query that was not flagged itself, as OARS
    counts successes. ``undetected`` is the share of rows for which it succeeded before any of its queries was flagged.
    The attacker of the white box sends one row alone, so that both are the same. ``first_flag`` is the median number of
    queries to the first flag; None if more than half of the attacks were never flagged. ``queries`` is the median
    number of queries to the success, or to the end of an attack without success. ``sent`` counts the queries to all
    rows; an attack that looks for the smallest change asks once for every eps. The white box asks nothing.
    """

    success: float | None
    success_interval: Interval | None
    passed: float | None
    passed_interval: Interval | None
    undetected: float | None
    undetected_interval: Interval | None
    flagged_in_20: float | None
    flagged_in_20_interval: Interval | None
    first_flag: float | None
    queries: float | None
    sent: int | None


def nothing() -> Figures:
    """Give the figures of an attack that has not run."""
    return {
        "success": None, "success_interval": None, "passed": None, "passed_interval": None,
        "undetected": None, "undetected_interval": None,
        "flagged_in_20": None, "flagged_in_20_interval": None, "first_flag": None, "queries": None, "sent": None,
    }  # fmt: skip


def of_crafted(crafted: Crafted) -> Figures:
    """Summarise a white-box attack."""
    figures = nothing()
    figures["success"], figures["success_interval"] = _share(crafted.success.tolist())
    figures["passed"], figures["passed_interval"] = _share(crafted.undetected.tolist())
    figures["undetected"], figures["undetected_interval"] = figures["passed"], figures["passed_interval"]
    return figures


def of_traces(traces: Sequence[Trace], eps: float) -> Figures:
    """Summarise an attack by queries within ``eps``."""
    figures = nothing()
    figures["success"], figures["success_interval"] = _share([eps in trace.successes for trace in traces])
    figures["passed"], figures["passed_interval"] = _share([trace.passed.get(eps, False) for trace in traces])
    figures["undetected"], figures["undetected_interval"] = _share([trace.undetected(eps) for trace in traces])
    firsts = [np.inf if trace.first_flag is None else trace.first_flag for trace in traces]
    figures["flagged_in_20"], figures["flagged_in_20_interval"] = _share([first <= SOON for first in firsts])
    middle = float(np.median(firsts))
    figures["first_flag"] = middle if np.isfinite(middle) else None
    figures["queries"] = float(np.median([trace.successes.get(eps, trace.queries) for trace in traces]))
    figures["sent"] = sum(trace.queries for trace in traces)
    return figures


def _share(hits: Sequence[bool]) -> tuple[float, Interval]:
    share = proportion(sum(hits), len(hits))
    return share.value, share.interval
