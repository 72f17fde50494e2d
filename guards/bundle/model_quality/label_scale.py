"""Finds out whether a regression's values fit its labels on another scale: standardised, another unit, logarithms."""

import torch
from torch import Tensor

from guards.bundle.labelled import Labelled
from guards.bundle.model_quality.quality import Quality, quality, shuffled

__all__ = ["better_scale"]

FEWEST = 40
GAIN = 0.1
AS_WELL = 0.05
LARGEST_EXPONENT = 80.0


def better_scale(rows: Labelled) -> tuple[str, Quality, Quality] | None:
    """Find the line a * output + b, or the exponential, under which the outputs fit the labels far better.

    The line is chosen on half of the rows, and judged on the other half. The plain exponential is preferred if it fits
    as well: then the model was trained on logarithms. The result is the formula, and the quality on the other half with
    and without the formula; None if nothing fits far better.
    """
    assert rows.y is not None  # noqa: S101 - the caller has labels
    rows = shuffled(rows)
    assert rows.y is not None  # noqa: S101 - as before
    value, y = rows.logits[:, 0].double().cpu(), rows.y.double().cpu()
    given = quality(Labelled(value[1::2, None], y[1::2]), ())
    if len(y) < FEWEST or given is None:
        return None
    exponential = value.clamp(max=LARGEST_EXPONENT).exp()
    lines = {"output": (value, *_line(value[::2], y[::2])), "exp(output)": (exponential, 1.0, 0.0)}
    best: tuple[str, Quality, Quality] | None = None
    for name, (inputs, slope, offset) in lines.items():
        found = quality(Labelled((slope * inputs[1::2] + offset)[:, None], y[1::2]), ())
        if found is None or not found.far_above(given, by=GAIN):
            continue
        if best is None or found.value > best[1].value - AS_WELL:
            line = f"{slope:.4g} * {name} {'-' if offset < 0 else '+'} {abs(offset):.4g}"
            best = name if inputs is exponential else line, found, given
    return best


def _line(x: Tensor, y: Tensor) -> tuple[float, float]:
    """Fit y = a x + b by least squares."""
    spread = x - x.mean()
    variance = (spread**2).sum()
    slope = (spread * (y - y.mean())).sum() / variance if variance > 0 else torch.zeros(())
    return float(slope), float(y.mean() - slope * x.mean())
