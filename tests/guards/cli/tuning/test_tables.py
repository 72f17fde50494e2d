"""What `tune` prints: the verdict in one sentence, and tables that fit a narrow terminal."""

from typing import Any

import pytest
from rich.console import Console

from guards.cli.detection import nothing
from guards.cli.tuning.tables import show, verdict

TRIAL = {
    "number": 0,
    "state": "complete",
    "detector": {"kind": "knn", "rows": 1000},
    "features": None,
    "share": 1.0,
    "found": 0.5,
    "near": 0.6,
    "auroc": 0.9,
    "latency_us": 70.0,
    "why": "",
}


def contender(**detection: Any) -> dict[str, Any]:
    figures = {**nothing(), "tpr": 0.5, "tpr_interval": (0.4, 0.6), **detection}
    return {**TRIAL, "features": "body", "searched": 0.5, "detection": figures}


def result(**changes: Any) -> Any:
    difference = {"tpr": 0.2, "tpr_interval": (0.1, 0.3)}
    rows = {"suspect_searched": 20, "suspect_reported": 20, "clean_reported": 30}
    return {
        "guard": "ood",
        "budget": 0.01,
        "rows": rows,
        "latency_limit_us": 60.0,
        "left_out": {"gen": "why"},
        "trials": [TRIAL, {**TRIAL, "number": 1}],
        "baseline": contender(),
        "winner": contender(),
        "difference": difference,
        "improved": True,
        "config": "c.yaml",
        "picture": "c.png",
        **changes,
    }


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "the winner is better: the share of suspect rows that is found changes by +20.0 percentage points"),
        ({"improved": False, "difference": {"tpr": 0.1, "tpr_interval": (-0.1, 0.3)}}, "nobody can tell whether"),
        (
            {"improved": False, "winner": contender(false_alarm_interval=(0.02, 0.05))},
            "the winner exceeds the budget of 0.01: all guards flag 2.00% to 5.00% of the clean rows",
        ),
        ({"improved": False, "winner": None, "difference": None}, "no trial within 60 µs a row finds more"),
    ],
)
def test_every_outcome_has_its_sentence(changes: dict[str, Any], said: str) -> None:
    """The first sentence says whether the winner is better, and the last one where the picture is."""
    sentences = verdict(result(**changes))
    assert sentences[0].startswith(said)
    assert sentences[-1] == "picture: c.png"
    assert ("config: c.yaml" in sentences) == (not changes)


def test_the_best_trial_of_each_detector_is_shown() -> None:
    """Of two trials with one detector and the same features the better one is shown, and a slow one is marked."""
    console = Console(record=True, width=90)
    show(result(), console)
    text = console.export_text()
    assert "2 trials on 20 suspect rows" in text
    assert text.count("knn: rows 1000 ") == 1
    assert "(too slow)" in " ".join(text.split())
    assert "left out: gen: why" in text
