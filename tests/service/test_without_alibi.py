"""Everything except alibi-detect's own monitors works without alibi-detect, which nothing imports here."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SUPPORT = ROOT / "tests" / "support"

WITHOUT = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"alibi_detect", "transformers", "numba", "dill"}:
            raise ModuleNotFoundError(f"No module named {name!r} (blocked)", name=name)

sys.meta_path.insert(0, Blocked())
"""

SERVE = """
import numpy as np
import tiny_models
from pathlib import Path
from guards import Bundle
from service.engine.engine import Engine
from service.messages.board import Board
from service.telemetry.metrics.engine import EngineMetrics
from service.telemetry.metrics.plain_families import FamiliesFile

folder = Path(FOLDER)
tiny_models.fitted("tabular").bundle.save(folder / "bundle")
Board.make(folder / "board", 1)
bundle = Bundle.load(folder / "bundle")
guards = [guard.name for guard in bundle.config.guards]
engine = Engine(bundle, Board(folder / "board"), EngineMetrics(guards, []), families=FamiliesFile(folder / "families"))
engine.start()
assert engine.batch_rows >= 1
assert set(engine.monitoring.report()["monitors"]) == {"streams", "region", "accuracy"}
import asyncio
for step in engine.closing():
    asyncio.run(step.close())
from guards.config.config import parse
from guards.types import Mistake
try:
    parse(tiny_models.document("tabular", monitors=[{"kind": "alibi_ks", "name": "drift"}]))
except Mistake as mistake:
    print(mistake)
"""

EVERYTHING = """
import importlib, pkgutil, sys
import guards, service
for package in (guards, service):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.startswith("service.store.migrations"):  # which Alembic alone can run
            importlib.import_module(module.name)
from guards.config.plugins import registered
assert sum(name.startswith("alibi_") for name in registered("monitors")) == 12
print(sorted({name.partition(".")[0] for name in sys.modules} & {"alibi_detect", "transformers", "numba"}))
"""


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(ROOT), str(SUPPORT)])
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_everything_else_works_without_it(tmp_path: Path) -> None:
    """Without alibi-detect a bundle is fitted, served and watched; a config that names it gets one sentence."""
    lacks = tmp_path / "python"
    lacks.write_text("#!/bin/sh\nexit 1\n")
    lacks.chmod(0o755)
    done = run(WITHOUT + f"FOLDER = {str(tmp_path)!r}\n" + SERVE, GUARDHOUSE_ALIBI_PYTHON=str(lacks))
    assert done.returncode == 0, done.stderr
    (sentence,) = done.stdout.splitlines()
    assert sentence.startswith(f"monitors.0.alibi_ks: alibi-detect is not installed in GUARDHOUSE_ALIBI_PYTHON={lacks}")


def test_nobody_imports_it() -> None:
    """Importing all of guards and service loads neither alibi-detect nor what it drags along."""
    done = run(WITHOUT + EVERYTHING)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[]\n"
