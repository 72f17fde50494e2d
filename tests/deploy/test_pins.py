"""The two files of pins: alibi-detect only restricts its own environment, and no package that serves."""

import re
from importlib.metadata import version

import pytest
from manifests import ROOT
from packaging.utils import canonicalize_name
from packaging.version import Version

# What alibi-detect's limits (numpy below 2, Pillow below 11) hold back, and why there are two files.
HELD_BACK = {"numpy", "opencv-python", "pandas", "pillow", "scikit-image"}


def pins(file: str) -> dict[str, Version]:
    lines = re.findall(r"^([^#\s=]+)==(\S+)$", (ROOT / file).read_text(), flags=re.MULTILINE)
    assert len(lines) == len(dict(lines)) > 50
    return {canonicalize_name(name): Version(pin) for name, pin in lines}


def test_alibi_detect_holds_back_nothing_that_serves() -> None:
    """alibi-detect and its old packages are in the second file alone; the two agree on everything else."""
    first, second = pins("constraints.txt"), pins("constraints-alibi.txt")
    assert second["alibi-detect"] == Version("0.13.0")
    assert not {"alibi-detect", "numba", "transformers", "dill"} & first.keys()
    differing = {name for name in first.keys() & second.keys() if first[name] != second[name]}
    assert differing == HELD_BACK
    assert all(first[name] > second[name] for name in differing)


@pytest.mark.parametrize("name", ["numpy", "pillow", "torch"])
def test_what_is_tested_is_what_is_pinned(name: str) -> None:
    """This environment has the pinned versions of the server, not alibi-detect's or those of an earlier install."""
    assert version(name).partition("+")[0] == str(pins("requirements.txt")[name]) == str(pins("constraints.txt")[name])
