"""Fits the guards and the monitors of a config."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from guards.bundle.construction import context_of, make_detector, make_memory_guard, make_monitor
from guards.config.config import Config
from guards.detectors.base import Detector
from guards.memory.base import MemoryGuard
from guards.model.chunked_run import CHUNK, chunks_of
from guards.monitors.base import Monitor
from guards.types import Batch, Mistake, Reference, Result

__all__ = ["Track", "fit_detectors", "fit_memory_guards", "fit_monitors", "untracked"]

Track = Callable[[range, str], Iterable[int]]
"""Wraps the steps of a named stage, to show their progress."""


def untracked(steps: range, _stage: str) -> Iterable[int]:
    """Show no progress."""
    return steps


@torch.no_grad()
def fit_detectors(
    config: Config, reference: Reference, clean: Batch, track: Track
) -> tuple[tuple[Detector, ...], Tensor, Tensor]:
    """Fit the detectors, score the calibration rows (g, n), and mark the rows that break a declared bound (n,).

    Raises:
        Mistake: a detector cannot be fitted, or does not give one score per row.
    """
    device = clean.x.device
    violated = torch.zeros(len(clean), dtype=torch.bool, device=device)
    detectors, scores = [], [torch.empty((0, len(clean)), device=device)]
    for index in track(range(len(config.guards)), "guards"):
        spec = config.guards[index]
        try:
            detector = make_detector(spec).to(device).fit(reference).to(device)
            score = torch.cat([detector.score(chunk) for chunk in chunks_of(clean)])
        except ValueError as unfit:
            raise Mistake(f"guards.{index}.detector: {unfit}") from unfit
        if score.shape != (len(clean),):
            raise Mistake(
                f"guards.{index}.detector: {spec.detector.model_dump()['kind']} gave scores of shape "
                f"{tuple(score.shape)} for {len(clean)} rows; "
                "a detector gives one score per row"
            )
        for start, chunk in zip(range(0, len(clean), CHUNK), chunks_of(clean), strict=True):
            broken = detector.violations(chunk)
            if broken is not None:
                violated[start : start + CHUNK] |= broken
        detectors.append(detector)
        scores.append(score.float()[None])
    return tuple(detectors), torch.cat(scores), violated


@torch.no_grad()
def fit_memory_guards(config: Config, reference: Reference, clean: Batch, track: Track) -> tuple[MemoryGuard, ...]:
    """Fit the guards with memory on the reference, and calibrate them on sequences of clean calibration rows.

    Raises:
        Mistake: a guard cannot be fitted or calibrated.
    """
    if not config.memory_guards:
        return ()
    fitted = []
    for index in track(range(len(config.memory_guards)), "guards with memory"):
        try:
            guard = make_memory_guard(config.memory_guards[index])
            fitted.append(guard.to(clean.x.device).fit(reference).calibrate(clean).to(clean.x.device))
        except ValueError as unfit:
            raise Mistake(f"memory_guards.{index}: {unfit}") from unfit
    return tuple(fitted)


def fit_monitors(
    config: Config, heldout: Reference, classes: tuple[str, ...], result: Result, track: Track
) -> tuple[Monitor, ...]:
    """Fit the monitors on held-out rows and on the pipeline's results for them.

    Raises:
        Mistake: a monitor cannot be fitted.
    """
    context = context_of(config, heldout.schema, classes)
    monitors = []
    for index in track(range(len(context.monitors)), "monitors"):
        try:
            monitor = make_monitor(context.monitors[index], context)
            monitors.append(monitor.to(heldout.batch.x.device).fit(heldout, result))
        except ValueError as unfit:
            raise Mistake(f"monitors.{index}: {unfit}") from unfit
    return tuple(monitors)
