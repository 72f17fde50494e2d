"""Every benchmark can be imported and run: a short run ends well, and prints tables and one JSON document."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.harness.discovery import find

ROOT = Path(__file__).parents[2]
BENCHMARKS = find()
QUICK_SECONDS = 300
TABLE = "┏━"
"""How a table of rich begins."""
FAST = {"recent", "intervals"}
"""Their short runs start no server, train nothing, and take seconds."""
NAMES = [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in BENCHMARKS]


@pytest.mark.parametrize("name", BENCHMARKS)
def test_it_can_be_imported(name: str) -> None:
    """Every benchmark's module imports, and its main takes `quick`."""
    assert callable(importlib.import_module(BENCHMARKS[name].module).main)


def test_those_that_the_documents_name_are_there() -> None:
    """The benchmarks that the documentation and RESULTS.md tell a reader to run exist."""
    named = {
        "serving", "fronts", "memory", "store", "flood", "capacity", "gpu", "drift", "explanation", "fairness",
        "recent", "row_cost", "check", "intervals", "input_quality", "detection", "confidence", "suitability",
        "soak", "adversarial", "white_box", "squeezing", "console",
    }  # fmt: skip
    assert named <= BENCHMARKS.keys()


@pytest.mark.parametrize("name", NAMES)
def test_a_short_run_ends_well(name: str) -> None:
    """`python -m benchmarks NAME --quick` exits with 0, and prints a table and one JSON document of its name."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", name, "--quick"],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=QUICK_SECONDS,
    )  # fmt: skip
    if done.returncode and any(
        lacking in done.stderr for lacking in ("needs wrk", "no data at", "set GUARDHOUSE_DATA")
    ):
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout, parse_constant=pytest.fail)  # NaN and Infinity are no JSON
    assert document["benchmark"] == name
    assert document["quick"] is True
    assert document["machine"]["cores"] >= 1
    assert TABLE in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing"], "there is no benchmark 'nothing'; there are"),
        (["recent", "--before", "HEAD"], "the benchmark 'recent' takes no --before"),
        (["recent", "gpu", "--out", "plots"], "the benchmark 'recent' takes no --out"),
    ],
)
def test_what_cannot_be_done_is_refused(arguments: list[str], said: str) -> None:
    """A name that is no benchmark, and an option that a benchmark does not take, are refused before anything runs."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert said in done.stderr
    assert done.stdout == ""
