"""Compares half precision with float32: refuses answers that are not finite, warns if many labels change."""

import math

import torch
from torch import Tensor

from guards.examination.experiments import answers, spaced
from guards.model.torch_model import TorchModel
from guards.notices import Notices
from guards.types import Mistake

__all__ = ["compare_precision"]

ROWS, CHUNK = 512, 64
LABELS = 0.01
"""The share of rows whose label may change."""
SHIFT = 0.1
"""How far a regression's values may move, in standard deviations of the values."""


@torch.inference_mode()
def compare_precision(model: TorchModel, rows: Tensor, *, classification: bool, notices: Notices) -> None:
    """Run reference rows (m, ...) in the declared precision and in float32, alone and in batches.

    Raises:
        Mistake: an answer is not finite in the declared precision, or cannot be computed.
    """
    rows = rows[spaced(len(rows), ROWS)].to(model.device)
    half, declared = _given(model, rows, classification), model.precision
    alone = _given(model, rows[:1], classification)
    model.precision = "float32"
    try:
        full = _given(model, rows, classification)
    finally:
        model.precision = declared
    bad = int((~torch.cat([half, alone]).isfinite().all(1)).sum())
    if bad:
        other = "bfloat16 or float32" if declared == "float16" else "float32"
        raise Mistake(
            f"model.precision: in {declared} the answers are not finite for {bad} of {len(rows)} reference rows, and "
            f"in float32 they are: set model.precision to {other}"
        )
    if classification:
        changed = int((half.argmax(1) != full.argmax(1)).sum())
        if _at_least(changed, len(rows)) > LABELS:
            notices.warn(
                f"model.precision: in {declared} the label changes for {changed} of {len(rows)} reference rows against "
                "float32: use float32, or a model that was trained in half precision"
            )
        return
    spread = float(full.std())
    moved = float((half - full).abs().max())
    if spread > 0 and moved > SHIFT * spread:
        notices.warn(
            f"model.precision: in {declared} a value moves by up to {moved:.3g} against float32, and the values' "
            f"standard deviation is {spread:.3g}: use float32"
        )


def _given(model: TorchModel, rows: Tensor, classification: bool) -> Tensor:
    pieces = [answers(model, piece, classification=classification).given for piece in torch.split(rows, CHUNK)]
    return torch.cat(pieces)


def _at_least(count: int, rows: int, z: float = 1.96) -> float:
    """Give the lower end of Wilson's 95 % interval of the share ``count / rows``."""
    share = count / rows
    middle, half = share + z * z / (2 * rows), z * math.sqrt(share * (1 - share) / rows + z * z / (4 * rows * rows))
    return (middle - half) / (1 + z * z / rows)
