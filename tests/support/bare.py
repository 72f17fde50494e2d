"""The suite where only the library's own four dependencies are installed: what needs an extra is skipped, and says so.

Registered by ``tests/conftest.py`` where the command line's packages are missing (``make test-bare``), nowhere else:
with the extras installed, a module that cannot be found is a failure.
"""

import ast
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

NEEDS = {
    "service": "prometheus_client",
    "guards.cli": "typer",
    "guards.data": "pandas",
    "guards.preparation": "pandas",
    "tables": "pandas",
}
"""What those of our own packages need that are not of the library."""


class Lacking(pytest.Module):
    """A module of tests that cannot be imported here."""

    missing = ""

    def collect(self) -> Any:
        """Skip all of it."""
        pytest.skip(f"needs {self.missing}", allow_module_level=True)


def missing(path: Path) -> str | None:
    """Name the first package that a module imports at its top and that is not here."""
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
    """Leave out a module that needs what is not here."""
    lacks = missing(module_path)
    if lacks is None:
        return None
    lacking: Lacking = Lacking.from_parent(parent, path=module_path)
    lacking.missing = lacks
    return lacking


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Iterator[None]:
    """Skip a test that imports, or lets the library import, what is not here."""
    try:
        return (yield)
    except ModuleNotFoundError as lacking:
        pytest.skip(f"needs {lacking.name}")


pytest_runtest_setup = pytest_runtest_call
