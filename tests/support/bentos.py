"""The project's bento, and the environment in which BentoML keeps to a folder of the tests' own."""

import os
import subprocess
import sys
from pathlib import Path

__all__ = ["bento_environment", "build_bento"]

ROOT = Path(__file__).parents[2]


def build_bento(home: Path) -> Path:
    """Build the bento, where possible in a network of its own that reaches nothing, and return its folder."""
    command = [sys.executable, "-m", "bentoml", "build"]
    if subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False).returncode == 0:
        command = ["unshare", "--net", *command]
    built = subprocess.run(
        command, cwd=ROOT, env=bento_environment(home), capture_output=True, text=True, check=False, timeout=120
    )
    assert built.returncode == 0, built.stdout + built.stderr
    (found,) = (home / "bentos").glob("*/*/bento.yaml")
    return found.parent


def bento_environment(home: Path) -> dict[str, str]:
    """Return this process's environment without what is ours or BentoML's, and BentoML's store in ``home``."""
    others = {name: value for name, value in os.environ.items() if not name.startswith(("GUARDHOUSE_", "BENTOML_"))}
    return others | {"BENTOML_HOME": str(home), "BENTOML_DO_NOT_TRACK": "True", "PATH": os.environ["PATH"]}
