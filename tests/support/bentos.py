"""Builds the project's bento, and makes the environment in which BentoML only writes into a folder of the tests."""

import os
import subprocess
import sys
from pathlib import Path

__all__ = ["bento_environment", "build_bento"]

ROOT = Path(__file__).parents[2]


def build_bento(home: Path) -> Path:
    """Build the bento, if possible in a network namespace that reaches nothing, and return the bento's folder."""
    command = [sys.executable, "-m", "bentoml", "build"]
    if subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False).returncode == 0:
        command = ["unshare", "--net", *command]
    built = subprocess.run(
        command, cwd=ROOT, env=bento_environment(home), capture_output=True, text=True, check=False, timeout=600
    )
    assert built.returncode == 0, built.stdout + built.stderr
    (found,) = (home / "bentos").glob("*/*/bento.yaml")
    return found.parent


def bento_environment(home: Path) -> dict[str, str]:
    """Return this environment without the variables of Guardhouse and BentoML; BentoML's store is in ``home``."""
    others = {name: value for name, value in os.environ.items() if not name.startswith(("GUARDHOUSE_", "BENTOML_"))}
    return others | {"BENTOML_HOME": str(home), "BENTOML_DO_NOT_TRACK": "True", "PATH": os.environ["PATH"]}
