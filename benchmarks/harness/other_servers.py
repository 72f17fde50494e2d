"""What else serves the same model, unguarded: bare BentoML, LitServe and MLServer, each as its user would write it."""

import os
import sys
from pathlib import Path

import numpy as np
from rich.console import Console

from benchmarks.harness.servers import ROOT, STACKS, Stack

__all__ = ["bare", "installed_others", "litserve", "mlserver"]


def installed_others(console: Console) -> list[Stack]:
    """Return the other stacks that are installed; name those that are not."""
    found = [bare()]
    for name, stack in (("LitServe", litserve()), ("MLServer", mlserver())):
        if stack is None:
            console.print(f"{name} is left out: it is not installed (make bench-{name.lower()})", style="yellow")
        else:
            found.append(stack)
    return found


def bare() -> Stack:
    """Say how BentoML alone serves the model."""
    bentoml = [sys.executable, "-m", "bentoml", "serve", "benchmarks.stacks.bare:Bare"]
    return Stack(
        "bare BentoML",
        [*bentoml, "--working-dir", str(ROOT), "--port"],
        "/predict",
        lambda answer: int(np.argmax(answer[0])),
        {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "BENTOML_DO_NOT_TRACK": "True"},
    )


def litserve() -> Stack | None:
    """Say how LitServe serves the model; None if neither its environment nor GUARDHOUSE_LITSERVE names its Python."""
    python = _python("litserve")
    if python is None:
        return None
    return Stack(
        "LitServe",
        [str(python), "-m", "benchmarks.stacks.litserve_cnn"],
        "/predict",
        lambda answer: int(np.argmax(answer["probabilities"])),
        {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        ready="/health",
    )


def mlserver() -> Stack | None:
    """Say how MLServer serves the model; None if neither its environment nor GUARDHOUSE_MLSERVER names its Python."""
    python = _python("mlserver")
    if python is None:
        return None
    return Stack(
        "MLServer",
        [str(python), "-c", "from mlserver.cli import main; main()", "start", str(STACKS / "mlserver")],
        "/v2/models/bench/infer",
        lambda answer: int(np.argmax(answer["outputs"][0]["data"])),
        {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        ready="/v2/models/bench/ready",
        v2_json=True,
        variable="MLSERVER_HTTP_PORT",
    )


def _python(package: str) -> Path | None:
    """Find the Python that has a package: of GUARDHOUSE_<PACKAGE>, or of the environment that make installs."""
    named = os.environ.get(f"GUARDHOUSE_{package.upper()}")
    python = Path(named) if named else ROOT / f".venv-{package}" / "bin" / "python"
    if named and not python.is_file():
        sys.exit(f"GUARDHOUSE_{package.upper()} names {named}, which is no file")
    return python if python.is_file() else None
