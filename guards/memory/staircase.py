"""Coarse probabilities with the same label, for a client against whom evidence stands.

An attack that asks for probabilities follows small changes of them. On a staircase, small changes disappear, so that
the attack has nothing to follow, and a larger change says the wrong direction half of the time. The label stays, so
that nobody gets a wrong answer.
Source: the staircase of "Dashed Line Defense" (arXiv 2602.08679), without its random choices: the same row always gets
the same answer.
"""

import torch
from torch import Tensor

__all__ = ["STEPS", "blurred"]

STEPS = 4
"""How many values the largest probability may have."""


def blurred(probabilities: Tensor) -> Tensor:
    """Give coarse probabilities (n, k) with the same largest class for each row.

    The largest probability becomes the middle of one of :data:`STEPS` equal steps between 1 / k and 1, and the other
    classes share the rest equally.

    >>> blurred(torch.tensor([[0.71, 0.2, 0.09]])).round(decimals=3)
    tensor([[0.7500, 0.1250, 0.1250]])
    """
    classes = probabilities.shape[1]
    least = 1 / classes
    top, label = probabilities.max(1, keepdim=True)
    place = ((top - least) / (1 - least) * STEPS).floor().clamp(0, STEPS - 1)
    height = least + (place + 0.5) / STEPS * (1 - least)
    rest = (1 - height) / (classes - 1)
    return torch.where(torch.arange(classes, device=label.device) == label, height, rest)
