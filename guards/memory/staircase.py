"""Coarse probabilities with the same label, for a client against whom evidence stands.

An attack that asks for probabilities follows small changes of them. On a staircase, small changes disappear, so that
the attack has nothing to follow, and a larger change says the wrong direction half of the time. The label stays, so
that nobody gets a wrong answer.
Source: the staircase of "Dashed Line Defense" (arXiv 2602.08679), without its random choices: the same row always gets
the same answer.
"""

import torch
from torch import Tensor

__all__ = ["STEPS", "blurred", "brier_scores"]

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


def brier_scores(probabilities: Tensor, labels: Tensor) -> tuple[float, float]:
    """Say what coarse probabilities cost: the Brier score of the exact ones (n, k) for ``labels`` (n,), and of theirs.

    The Brier score is the mean squared distance between a row's probabilities and its label, 0 at best, 2 at worst
    (Brier 1950, "Verification of forecasts expressed in terms of probability").

    >>> [round(score, 4) for score in brier_scores(torch.tensor([[0.9, 0.1], [0.6, 0.4]]), torch.tensor([0, 0]))]
    [0.17, 0.1953]
    """
    truth = torch.nn.functional.one_hot(labels, probabilities.shape[1])
    exact, coarse = ((each - truth).square().sum(1).mean() for each in (probabilities, blurred(probabilities)))
    return float(exact), float(coarse)
