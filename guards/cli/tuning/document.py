"""The JSON document of ``tune --json``."""

from typing import Any, TypedDict

from guards.cli.detection import Detection
from guards.cli.tuning.feature_layers import DEFAULT
from guards.cli.tuning.judged_rows import Differences
from guards.cli.tuning.search import Tried
from guards.cli.tuning.workbench import Choice, Found

__all__ = ["Contender", "Tuned", "as_trial", "contender"]


class Contender(TypedDict):
    """The config's own choice or the winner, and what all guards find with it.

    ``searched`` is the share of suspect rows found on the rows of the search; ``detection`` has the figures on the
    other rows, under thresholds from the calibration rows of the search.
    """

    detector: dict[str, Any]
    features: str | None
    share: float
    searched: float
    latency_us: float
    detection: Detection


class Tuned(TypedDict):
    """The JSON document of ``tune --json``; ``winner`` is None if no trial does better on the rows of the search."""

    guard: str
    budget: float
    rows: dict[str, int]
    latency_limit_us: float
    left_out: dict[str, str]
    trials: list[dict[str, Any]]
    baseline: Contender
    winner: Contender | None
    difference: Differences | None
    improved: bool
    config: str | None
    picture: str


def contender(choice: Choice, found: Found, latency_us: float, figures: Detection) -> Contender:
    """Describe a choice, with what it finds on the rows of the search and on the other rows."""
    return {
        "detector": dict(choice.parameters),
        "features": None if choice.layer == DEFAULT else choice.layer,
        "share": choice.share,
        "searched": found.share,
        "latency_us": latency_us,
        "detection": figures,
    }


def as_trial(tried: Tried) -> dict[str, Any]:
    """Describe a trial."""
    return {
        "number": tried.number,
        "state": tried.state,
        "detector": dict(tried.choice.parameters),
        "features": None if tried.choice.layer == DEFAULT else tried.choice.layer,
        "share": tried.choice.share,
        "found": None if tried.found is None else tried.found.share,
        "near": None if tried.found is None else tried.found.near,
        "auroc": None if tried.found is None else tried.found.auroc,
        "latency_us": tried.latency_us,
        "why": tried.why,
    }
