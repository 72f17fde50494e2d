"""Benchmarks are found by the signature of their `main`, and without being imported."""

from pathlib import Path

import pytest

from benchmarks.harness.discovery import find


def write(folder: Path, name: str, code: str) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"raise RuntimeError\n{code}\n")


def test_a_benchmark_has_a_main_that_takes_quick(tmp_path: Path) -> None:
    """A module is a benchmark if its main takes `quick` by keyword; its other keywords are its options."""
    folder = tmp_path / "measurements"
    write(folder, "speed.py", "def main(*, quick, out=None): ...")
    write(folder, "inner/size.py", "def main(*, quick): ...")
    write(folder, "stack.py", "def main(seconds): ...")
    write(folder, "other.py", "def run(*, quick): ...")
    found = find(folder)
    assert list(found) == ["size", "speed"]
    assert found["size"].module == "measurements.inner.size"
    assert found["speed"].options == {"out"}
    assert found["size"].options == frozenset()


def test_two_benchmarks_of_one_name_are_refused(tmp_path: Path) -> None:
    """A name on the command line means one module, so that two of one name are an error."""
    for name in ("a/speed.py", "b/speed.py"):
        write(tmp_path / "measurements", name, "def main(*, quick): ...")
    with pytest.raises(ValueError, match="two benchmarks are called 'speed'"):
        find(tmp_path / "measurements")
