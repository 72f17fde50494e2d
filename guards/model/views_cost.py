"""What the views of a guard cost: how much longer the model takes for a batch with them."""

import time
from statistics import median

import torch
from torch import Tensor

from guards.model.torch_model import TorchModel

__all__ = ["views_cost"]

ROUNDS = 5


@torch.inference_mode()
def views_cost(model: TorchModel, x: Tensor) -> float:
    """Measure how many times as long the model takes for rows (n, ...) with their views as without, in turns."""
    prepared = model.prepare(x.to(model.device))
    views = model.views
    taken: dict[bool, list[float]] = {True: [], False: []}
    try:
        for round_ in range(2 * ROUNDS + 2):
            with_views = bool(round_ % 2)
            model.views = views if with_views else None
            started = time.perf_counter()
            model(prepared).logits.sum().item()  # waits for the device
            if round_ > 1:  # the first two only warm up
                taken[with_views].append(time.perf_counter() - started)
    finally:
        model.views = views
    return median(taken[True]) / median(taken[False])
