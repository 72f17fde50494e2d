"""Compares what a detector finds in inference mode, where it may take a quicker way, with what it finds otherwise."""

import torch
from torch import Tensor

from guards import Batch, Detector
from guards.types import Finding

__all__ = ["same_in_inference_mode"]


def same_in_inference_mode(detector: Detector, rows: Tensor) -> Finding:
    """Hold that score, violations and causes of rows are the same bits in inference mode, and give the finding."""
    slow = detector.examine(Batch(rows), causes=True)
    with torch.inference_mode():
        fast = detector.examine(Batch(rows), causes=True)
    for name in ("score", "violated", "causes"):
        one, other = getattr(slow, name), getattr(fast, name)
        assert (one is None) == (other is None)
        assert one is None or (one.dtype == other.dtype and torch.equal(one, other))
    return slow
