"""Another commit is unpacked beside today's code."""

from pathlib import Path

import pytest

from benchmarks.harness.checkout import unpack
from benchmarks.harness.servers import ROOT

pytestmark = pytest.mark.skipif(not (ROOT / ".git").exists(), reason="this is no git checkout")


def test_a_commit_is_unpacked(tmp_path: Path) -> None:
    """The files of a commit lie in a folder of its own, with the code that serves."""
    found = unpack("HEAD", tmp_path)
    assert found.parent == tmp_path
    assert (found / "service" / "__main__.py").is_file()
    assert (found / "benchmarks" / "stacks" / "cnn.py").is_file()


def test_a_commit_that_git_does_not_know_is_refused(tmp_path: Path) -> None:
    """A name that is no commit ends the run with git's own sentence."""
    with pytest.raises(SystemExit, match="git cannot unpack 'no-such-commit': fatal"):
        unpack("no-such-commit", tmp_path)
