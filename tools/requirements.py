"""Writes requirements.txt: the packages that a bento needs to serve, in the versions of constraints.txt.

BentoML takes neither a constraints file nor extras. So the file lists ``guardhouse[serve,explain]`` with everything
that it requires, directly or not.
"""

import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
HEADER = "# Written by `make requirements` from constraints.txt; do not edit.\n"


def closure(requirement: str) -> set[str]:
    """Name every installed distribution that a requirement needs, directly or not."""
    seen: set[tuple[str, frozenset[str]]] = set()
    waiting = [Requirement(requirement)]
    while waiting:
        wanted = waiting.pop()
        key = (canonicalize_name(wanted.name), frozenset(wanted.extras))
        if key in seen:
            continue
        try:
            needs = distribution(wanted.name).requires or []
        except PackageNotFoundError:
            continue
        seen.add(key)
        extras = {"", *wanted.extras}
        waiting += [
            need
            for need in map(Requirement, needs)
            if need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in extras)
        ]
    return {name for name, _ in seen}


def main() -> None:
    """Write the file."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = {canonicalize_name(line.partition("==")[0]): line for line in lines if "==" in line}
    names = sorted(closure("guardhouse[serve,explain]") & pins.keys())
    (ROOT / "requirements.txt").write_text(HEADER + "".join(f"{pins[name]}\n" for name in names), encoding="utf-8")
    sys.stdout.write(f"requirements.txt: {len(names)} pins\n")


if __name__ == "__main__":
    main()
