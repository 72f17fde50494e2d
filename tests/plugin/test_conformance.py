"""The conformance kit as the author of a plugin uses it: a test file with a decorator, under plain pytest."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HEAD = """
from guardhouse_example import MedianDistance, MedianDistanceParams
from guards.testing import detector_conformance
"""
HONEST = """
@detector_conformance(MedianDistance, MedianDistanceParams(power=2.0))
class TestMedianDistance:
    pass
"""
CHEATS = """
class Peeks(MedianDistance):
    def score(self, batch):
        score = super().score(batch)
        return score - score.nan_to_num(0, 0, 0).mean()

class Mutates(MedianDistance):
    def score(self, batch):
        score = super().score(batch)
        batch.x.mul_(0.5)
        return score

class Widens(MedianDistance):
    def score(self, batch):
        return super().score(batch)[:, None]

for cheat in (Peeks, Mutates, Widens):
    name = "Test" + cheat.__name__
    globals()[name] = detector_conformance(cheat)(type(name, (), {}))
"""


def run(folder: Path, site: Path, source: str) -> tuple[int, str]:
    """Run a test file outside of this repository."""
    (folder / "test_it.py").write_text(HEAD + source)
    command = [sys.executable, "-m", "pytest", "-q", "-rA", "--tb=no", "-W", "error", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "test_it.py"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    return done.returncode, done.stdout


def test_honest_detector_passes(site: Path, tmp_path: Path) -> None:
    """The example's file passes: one test for each check and kind of input, and no warning."""
    status, said = run(tmp_path, site, HONEST)
    assert status == 0, said
    passed = re.findall(r"^PASSED \S+::test_(\w+)_(tabular|image|tensor)$", said, re.MULTILINE)
    assert {kind for _, kind in passed} == {"tabular", "image", "tensor"}
    assert len(passed) == 3 * len({check for check, _ in passed}) > 30


@pytest.fixture(scope="module")
def failed(site: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """Run the cheats' file, and name the failed tests of each cheat."""
    status, said = run(tmp_path_factory.mktemp("cheats"), site, CHEATS)
    assert status == 1, said
    found: dict[str, set[str]] = {}
    for cheat, test in re.findall(r"^FAILED \S+::Test(\w+)::test_(\w+)", said, re.MULTILINE):
        found.setdefault(cheat, set()).add(test)
    return found


@pytest.mark.parametrize(
    ("cheat", "check"),
    [
        ("Peeks", "rows_are_scored_alone"),
        ("Mutates", "nothing_is_mutated"),
        ("Widens", "score_is_one_float_per_row"),
    ],
)
def test_cheat_fails(failed: dict[str, set[str]], cheat: str, check: str) -> None:
    """A detector that peeks at its batch, writes into it or answers another shape fails the check for that."""
    assert {f"{check}_{kind}" for kind in ("tabular", "image", "tensor")} <= failed[cheat]
