"""The history of the evidence of drift, from the engine's families."""

import asyncio
from typing import Any

from service.front.console import evidence
from service.front.console.evidence import Evidence
from service.messages.refused import Refused

REPORT = {"monitors": {"streams": {"statistics": [{"name": "threshold", "value": 7.5}]}}}


class Engine:
    """Gives families in which the evidence grows by one with each question; refuses while ``down``."""

    def __init__(self) -> None:
        self.asked, self.down = 0, False

    async def metrics(self) -> list[dict[str, Any]]:
        if self.down:
            raise Refused("loading", "the engine is being started")
        self.asked += 1
        return [
            family("drift_evidence", (["streams", "label"], float(self.asked))),
            family("stream_bin", (["label", "0"], 3.0), (["label", "1"], 1.0)),
            family("reference_bin_ratio", (["label", "0"], 0.5), (["label", "1"], 0.5)),
            family("guard_threshold_ratio", (["ood"], 0.01)),
            family("false_alarm_budget_ratio", ([], 0.02)),
        ]


def family(name: str, *samples: tuple[list[str], float]) -> dict[str, Any]:
    return {"name": name, "help": "", "kind": "gauge", "labels": [], "samples": list(samples)}


def read(times: int) -> tuple[Engine, Evidence]:
    engine = Engine()
    kept = Evidence(engine.metrics)
    for _ in range(times):
        asyncio.run(kept.read())
    return engine, kept


def test_evidence_is_kept_with_the_monitors_threshold() -> None:
    """Each stream has a value for each reading, and the threshold that its monitor reports."""
    (found,) = read(3)[1].evidence(REPORT)
    assert (found["monitor"], found["stream"], found["values"]) == ("streams", "label", [1.0, 2.0, 3.0])
    assert (len(found["times"]), found["threshold"]) == (3, 7.5)


def test_histories_are_bounded() -> None:
    """The history holds half an hour."""
    (found,) = read(evidence.READINGS + 5)[1].evidence(REPORT)
    assert len(found["values"]) == len(found["times"]) == evidence.READINGS


def test_bins_lie_beside_the_references() -> None:
    """The bins of a stream have the reference's shares and the live counts, in one order."""
    assert read(1)[1].histograms() == [
        {"stream": "label", "bins": ["0", "1"], "reference": [0.5, 0.5], "live": [3.0, 1.0]}
    ]


def test_an_engine_that_is_away_adds_nothing() -> None:
    """The history goes on when the engine is back; the promises stay known."""
    engine, kept = read(2)
    engine.down = True
    asyncio.run(kept.read())
    assert kept.promises() == {"thresholds": {"ood": 0.01}, "budget": 0.02}
    assert len(kept.evidence(REPORT)[0]["values"]) == 2
