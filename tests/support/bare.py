"""Skips tests that need an extra, for a run of the suite with the library's four dependencies only.

``tests/conftest.py`` registers this plug-in only if the packages of the command line are missing (``make test-bare``).
If the extras are installed, a module that cannot be found is a failure.
"""

import ast
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

NEEDS = {
    "service": "prometheus_client",
    "guards.attacks.campaign": "scipy",
    "guards.cli": "typer",
    "guards.config.load": "yaml",
    "guards.data": "pandas",
    "guards.bundle.preparation": "pandas",
    "guards.bundle.model_quality": "scipy",
    "guards.statistics.paired_shares": "scipy",
    "guards.statistics.proportions": "scipy",
    "example_tables": "pandas",
}
"""The packages that the project's packages outside of the library need."""


class Lacking(pytest.Module):
    """A module of tests that needs a package which is not installed."""

    missing = ""

    def collect(self) -> Any:
        """Skip the whole module."""
        pytest.skip(f"needs {self.missing}", allow_module_level=True)


def missing(path: Path) -> str | None:
    """Name the first package that a module imports at its top and that is not installed."""
    for statement in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(statement, ast.ImportFrom):
            names = [statement.module or ""]
        elif isinstance(statement, ast.Import):
            names = [alias.name for alias in statement.names]
        else:
            continue
        for name in names:
            package = next((need for ours, need in NEEDS.items() if f"{name}.".startswith(f"{ours}.")), name)
            if find_spec(package.partition(".")[0]) is None:
                return package.partition(".")[0]
    return None


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    """Skip a module that needs a package which is not installed."""
    lacks = missing(module_path)
    if lacks is None:
        return None
    lacking: Lacking = Lacking.from_parent(parent, path=module_path)
    lacking.missing = lacks
    return lacking


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Iterator[None]:
    """Skip a test that imports a package which is not installed, itself or through the library."""
    try:
        return (yield)
    except ModuleNotFoundError as lacking:
        pytest.skip(f"needs {lacking.name}")


pytest_runtest_setup = pytest_runtest_call
