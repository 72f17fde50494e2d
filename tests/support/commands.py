"""`guardhouse` commands one after another, without waiting each time until torch is imported."""

import multiprocessing
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["guards.preparation", "guards.cli.fit", "service.cli", "pandas"])


def run_forked(
    arguments: Sequence[str], *, folder: Path, environment: Mapping[str, str], said: Path, seconds: float = 120
) -> int:
    """Run a command in a folder, in a process of its own; what it says is added to a file. Give its exit status."""
    process = CONTEXT.Process(target=_run, args=(list(arguments), folder, dict(environment), said))
    process.start()
    process.join(seconds)
    if process.exitcode is None:
        process.kill()
        process.join()
        raise TimeoutError(f"guardhouse {' '.join(arguments)}: not done after {seconds} s")
    return process.exitcode


def _run(arguments: list[str], folder: Path, environment: dict[str, str], said: Path) -> None:
    with said.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["guardhouse", *arguments]
    from service.cli import run  # it is there already: see above

    run()
