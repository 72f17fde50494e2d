"""Compares what a plug-in computes: bit for bit, or up to rounding; and seeds what it might draw from."""

import random

import numpy as np
import torch
from torch import Tensor

__all__ = ["equal", "require_close", "seed_everything"]


def equal(a: Tensor, b: Tensor) -> bool:
    """Say whether two tensors have the same shape and values; NaN equals NaN."""
    return a.shape == b.shape and torch.equal(a.isnan(), b.isnan()) and torch.equal(_blank(a), _blank(b))


def _blank(tensor: Tensor) -> Tensor:
    return torch.where(tensor.isnan(), torch.zeros_like(tensor), tensor)


def require_close(a: Tensor, b: Tensor, sentence: str) -> None:
    """Require equality up to rounding: batches of different shapes need not give the same bits.

    Raises:
        AssertionError: the tensors differ by more; the message is the ``sentence``.
    """
    finite = a[a.isfinite()]
    spread = float(finite.std()) if len(finite) > 1 else 0.0
    close = a.shape == b.shape and torch.allclose(a, b, rtol=1e-4, atol=1e-3 * spread + 1e-6, equal_nan=True)
    if not close:
        raise AssertionError(sentence)


def seed_everything(seed: int) -> None:
    """Seed every global random state from which a plug-in might draw."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - a plug-in might draw from this state
