"""``guardhouse check``: prints how ``fit`` would understand a model and its files, and how accurate the model is."""

import json
import sys
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from guards.bundle.model_quality.likely_causes import judge
from guards.bundle.model_quality.quality import sampled_outputs
from guards.bundle.preparation import Prepared, prepare
from guards.cli.printed_notices import print_notices, refuse_warnings
from guards.cli.understanding.show import show, show_quality
from guards.cli.understanding.summary import Summary, accuracies, summarise
from guards.config.load import load_config
from guards.notices import Notices
from guards.sentences import counted
from guards.types import Mistake

__all__ = ["progress_bars", "run", "understand"]


def run(config_path: Path, console: Console, *, as_json: bool = False, strict: bool = False) -> None:
    """Read and examine everything, and print what was understood, for people or as one JSON document.

    ``console`` shows progress, notes and warnings. ``strict`` turns warnings into mistakes.

    Raises:
        Mistake: something in the config or a file is wrong.
    """
    notices, report = Notices(), Console(quiet=as_json)
    prepared, summary = understand(config_path, notices, console, report)
    seed = prepared.config.reference.seed
    outputs = {
        part: sampled_outputs(prepared.model, rows, seed=seed)
        for part, rows in (("train", prepared.train), ("calibration", prepared.heldout))
    }
    found = judge(prepared, outputs, notices)
    show_quality(found, summary["rows"], report)
    ready = not (strict and notices.warnings)
    if as_json:
        document = {
            **summary,
            "accuracy": accuracies(found),
            "notes": notices.notes,
            "warnings": notices.warnings,
            "ready": ready,
        }
        sys.stdout.write(json.dumps(document) + "\n")
    refuse_warnings(notices, console, strict=strict)
    print_notices(notices, console)
    warned = f", with {counted(len(notices.warnings), 'warning')}" if notices.warnings else ""
    report.print(f"{config_path}: ready to fit{warned}", highlight=False, markup=False, soft_wrap=True)


def understand(config_path: Path, notices: Notices, console: Console, report: Console) -> tuple[Prepared, Summary]:
    """Read a config, its files and its model, and print on ``report`` what was understood.

    Raises:
        Mistake: something in the config or a file is wrong.
    """
    config = load_config(config_path)
    try:
        with progress_bars(console) as progress:
            loading = progress.add_task("data", total=3)
            prepared = prepare(config, config_path.resolve().parent, notices, lambda: progress.advance(loading))
    except Mistake:
        print_notices(notices, console)  # a note may explain the mistake
        raise
    summary = summarise(prepared)
    show(summary, report)
    return prepared, summary


def progress_bars(console: Console) -> Progress:
    """Make the progress bars of a command."""
    return Progress(
        TextColumn("{task.description:12}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console
    )
