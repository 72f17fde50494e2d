"""Runs `guardhouse` commands in forked processes, so that not every command has to import torch first."""

import multiprocessing
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["guards.bundle.preparation", "guards.cli.fit", "service.cli.commands", "pandas"])


def run_forked(
    arguments: Sequence[str], *, folder: Path, environment: Mapping[str, str], said: Path, seconds: float = 600
) -> int:
    """Run a command in a folder, in a forked process; its output is added to a file. Gives the exit status."""
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
    from service.cli.commands import run  # imported before the fork: see above

    if arguments[0] == "replay":
        from guards.cli import replay_plots

        replay_plots.SAMPLES = 20  # as it is, half a minute of processor time goes into drawing smooth lines
    run()
