"""Runs `guardhouse` commands in forked processes, so that not every command has to import torch first."""

import multiprocessing
import os
import subprocess
import sys
import tempfile
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


def run_each(
    commands: Sequence[Sequence[str]], *, folder: Path, environment: Mapping[str, str], seconds: float = 600
) -> list[subprocess.CompletedProcess[str]]:
    """Run commands at the same time in a folder, each in a forked process; give what became of each, in order.

    The folders of ``PYTHONPATH`` in the environment come first on the import path.
    """
    with tempfile.TemporaryDirectory() as made:
        files = [(Path(made) / f"{place}.out", Path(made) / f"{place}.err") for place in range(len(commands))]
        running = [
            CONTEXT.Process(target=_run, args=(list(arguments), folder, dict(environment), out, errors))
            for arguments, (out, errors) in zip(commands, files, strict=True)
        ]
        for process in running:
            process.start()
        for process in running:
            process.join(seconds)
        late = [process for process in running if process.exitcode is None]
        for process in late:
            process.kill()
            process.join()
        said = [(out.read_text(), errors.read_text()) for out, errors in files]
        assert not late, said
        return [
            subprocess.CompletedProcess(arguments, process.exitcode or 0, out, errors)
            for arguments, process, (out, errors) in zip(commands, running, said, strict=True)
        ]


def _run(
    arguments: list[str], folder: Path, environment: dict[str, str], said: Path, errors: Path | None = None
) -> None:
    for path, descriptors in ((said, (1, 2) if errors is None else (1,)), (errors, (2,))):
        if path is not None:
            with path.open("ab") as file:
                for descriptor in descriptors:
                    os.dup2(file.fileno(), descriptor)
    os.chdir(folder)
    if added := [*filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]:
        sys.path[:0] = added
        for name in [name for name in sys.modules if name.partition(".")[0] in {"guards", "service"}]:
            del sys.modules[name]  # our modules look for plug-ins when they are imported
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["guardhouse", *arguments]
    from service.cli.commands import run  # imported before the fork: see above

    if arguments[0] == "replay":
        from guards.cli import replay_plots

        replay_plots.SAMPLES = 20  # as it is, half a minute of processor time goes into drawing smooth lines
    run()
