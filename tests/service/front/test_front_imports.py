"""A front has no torch: which modules its process imports, and which it must not import."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import service.front

HEAVY = ("torch", "sqlalchemy", "pandas", "scipy", "sklearn", "matplotlib", "captum", "safetensors", "alembic")
ENGINES = ("guards.bundle", "guards.pipeline", "guards.model", "guards.monitors", "guards.types", "service.engine",
           "service.store", "service.monitoring")  # fmt: skip
REPORT = """
import importlib, json, sys
for name in json.loads(sys.argv[1]):
    importlib.import_module(name)
print(json.dumps(sorted(sys.modules)))
"""
BESIDE = (
    "service.closing",
    "service.lifecycle.assembly",
    "service.lifecycle.listening_socket",
    "service.lifecycle.pidfile",
    "service.lifecycle.shutdown",
    "service.memory",
    "service.messages.board",
    "service.settings",
    "service.telemetry.logs",
    "service.telemetry.request_record",
    "service.telemetry.tracing",
)
"""What else a front's process imports: each of these is imported by service/lifecycle/door.py."""


def modules_of_the_front() -> list[str]:
    """Name every module of the front."""
    folder = Path(str(service.front.__file__)).parent
    parts = (path.relative_to(folder.parents[1]).with_suffix("").parts for path in sorted(folder.rglob("*.py")))
    return [".".join(part for part in each if part != "__init__") for each in parts]


def imported_with(*names: str) -> set[str]:
    """Import modules in an interpreter of their own; give all modules that it then has."""
    done = subprocess.run(
        [sys.executable, "-c", REPORT, json.dumps(names)], capture_output=True, text=True, check=True, timeout=300
    )
    return set(json.loads(done.stdout))


def test_the_front_does_without_torch() -> None:
    """A process that imports the whole front has no torch, no database and no data frames, and nothing of an engine."""
    names = modules_of_the_front()
    assert len(names) > 40
    loaded = imported_with(*names, *BESIDE)
    assert set(names) <= loaded
    assert [name for name in (*HEAVY, *ENGINES) if name in loaded] == []


@pytest.mark.parametrize("name", ["guards.pipeline", "service.engine.describe"])
def test_the_check_sees_torch(name: str) -> None:
    """The same check finds torch in a process that imports a part of the engine."""
    assert "torch" in imported_with(name)


def test_the_names_of_guards_need_no_torch() -> None:
    """The package, its errors, its actions, its rows and the server's section are imported without torch."""
    loaded = imported_with(
        "guards", "guards.errors", "guards.actions", "guards.input.schema", "guards.input.column",
        "guards.input.cell_faults", "guards.config.server", "guards.version",
    )  # fmt: skip
    assert "torch" not in loaded
