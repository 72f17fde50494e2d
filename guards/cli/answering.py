"""What guards with a `target_error` do to clean rows: the share that they answer, and the error rate among these."""

from collections.abc import Mapping
from typing import TypedDict

import torch
from rich.console import Console
from torch import Tensor

from guards.bundle.bundle import Bundle
from guards.cli.detection import Interval
from guards.statistics.proportions import proportion
from guards.types import Result, Rows

__all__ = ["Answering", "answering", "show_answering"]


class Answering(TypedDict):
    """The figures of one guard, each with its 95 % interval; ``error`` is None without labels or answered rows."""

    target_error: float
    answered: float
    answered_interval: Interval
    error: float | None
    error_interval: Interval | None


def answering(bundle: Bundle, rows: Rows, run: list[Result]) -> dict[str, Answering]:
    """Measure every guard with a `target_error` on the results of rows, by the guard's name."""
    found: dict[str, Answering] = {}
    for place, spec in enumerate(bundle.config.guards):
        if spec.target_error is None:
            continue
        answered = ~torch.cat([result.verdict.flagged[place] for result in run]).cpu()
        found[spec.name] = {"target_error": spec.target_error, **_figures(answered, _wrong(rows, run))}  # type: ignore[typeddict-item]
    return found


def _figures(answered: Tensor, wrong: Tensor | None) -> dict[str, object]:
    share = proportion(int(answered.sum()), len(answered))
    error = None
    if wrong is not None and share.hits:
        error = proportion(int((wrong & answered).sum()), share.hits)
    return {
        "answered": share.value,
        "answered_interval": share.interval,
        "error": None if error is None else error.value,
        "error_interval": None if error is None else error.interval,
    }


def _wrong(rows: Rows, run: list[Result]) -> Tensor | None:
    """Return which rows (n,) have another label than the model says; None without labels."""
    if rows.y is None:
        return None
    labels = [result.prediction.label for result in run if result.prediction.label is not None]
    return torch.cat(labels).cpu() != rows.y.cpu()


def show_answering(found: Mapping[str, Answering], console: Console) -> None:
    """Print one sentence for each guard."""
    for name, figures in found.items():
        interval, wrong = figures["error_interval"], ""
        if figures["error"] is not None and interval is not None:
            wrong = f"; {figures['error']:.2%} of these are wrong, 95 % interval [{interval[0]:.2%}, {interval[1]:.2%}]"
        console.print(
            f"{name} answers {figures['answered']:.1%} of the clean rows{wrong} (target_error "
            f"{figures['target_error']:g})",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
