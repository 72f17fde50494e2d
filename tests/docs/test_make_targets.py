"""Make's targets for tests: which tests each of them runs."""

import subprocess
import sys
from pathlib import Path

from gateways import ROOT

INSTALLED = ("-o", "alibi", "-o", ".venv/.installed")
"""Options by which make installs nothing."""


def make(*arguments: str) -> str:
    """Run make with the programs of this environment, and give what it says."""
    command = ["make", "--no-print-directory", *INSTALLED, f"BIN={Path(sys.executable).parent}", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_slow_tests_are_started() -> None:
    """`make test-slow` runs the tests that are marked as slow and no others, of one file if a file is named."""
    said = make("test-slow", "SLOW=tests/e2e/test_alerts.py", "PYTEST_ARGS=--collect-only -q -p no:cacheprovider")
    assert [line.partition("::")[2] for line in said.splitlines() if "::" in line] == [
        "test_errors_after_a_clean_hour_reach_it_within_three_minutes"
    ]


def test_each_folder_of_tests_is_in_one_part() -> None:
    """`make test` has three parts: two name their folders, and the third leaves out these folders and no others."""
    lines = [line.split() for line in make("-n", "test").splitlines() if " -m pytest " in line]
    assert len(lines) == 3
    named = [word for words in lines for word in words if word.startswith("tests/")]
    assert sorted(named) == sorted(word.removeprefix("--ignore=") for word in lines[-1] if word.startswith("--ignore="))
    assert "tests" in lines[-1]
    assert len(set(named)) == len(named)
    assert all((ROOT / folder).is_dir() for folder in named)


def test_the_long_suites_are_run_whole() -> None:
    """`make hold-up` runs short and long tests of two folders, and then the soak for as long as it is told."""
    tests, soak = (line for line in make("-n", "hold-up", "SOAK=5").splitlines() if " -m " in line)
    assert '-m "slow or not slow"' in tests
    assert tests.endswith("tests/security tests/chaos")
    assert soak.endswith("-m benchmarks soak --seconds 5")


def test_the_demos_traffic_needs_a_server() -> None:
    """`make play` sends traffic to the port that it is told, and says what to start if nothing listens there."""
    command = ["make", *INSTALLED, f"BIN={Path(sys.executable).parent}", "play", "PORT=1", "SECONDS=1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode != 0
    assert "http://localhost:1: " in done.stderr
    assert "start the demo with `make serve` first" in done.stderr
