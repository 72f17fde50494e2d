"""Risk-controlled abstention keeps its target with 95 % confidence, whatever the score and the error rate."""

import pytest
import torch
from scipy.stats import binom
from torch import Tensor

from guards.calibration.abstention import Abstention, NoThresholdError

SPLITS, UNLIKELY = 200, 1e-4


def draw(count: int, chance: str, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    scores = torch.rand(count, generator=generator)
    wrong = torch.rand(count, generator=generator) < risk(scores, chance)
    return (scores.mul(20).ceil().div(20) if chance == "ties" else scores), wrong


def risk(scores: Tensor, chance: str) -> Tensor:
    if chance == "useless":
        return torch.full_like(scores, 0.1)
    return 0.4 * scores**2 if chance in {"rising", "ties"} else (scores > 0.9) * 0.9


def error(limit: float, chance: str) -> float:
    """Give the true error rate of rows with a score of at most ``limit``, by summing over a fine grid."""
    grid = (torch.arange(20_000) + 0.5) / 20_000
    seen = grid.mul(20).ceil().div(20) if chance == "ties" else grid
    return float(risk(grid, chance)[seen <= limit].mean())


@pytest.mark.parametrize("chance", ["rising", "ties", "useless", "cliff"])
@pytest.mark.parametrize("count", [150, 1500])
def test_the_target_is_kept_with_confidence(chance: str, count: int) -> None:
    """The true error rate of answered rows exceeds the target in at most 5 % of calibration sets, up to chance."""
    generator = torch.Generator().manual_seed(count)
    broken = answered = 0
    for _ in range(SPLITS):
        try:
            found = Abstention.choose(0.1, draw(count // 4, chance, generator), draw(count, chance, generator))
        except NoThresholdError:
            continue
        broken += error(found.limit, chance) > 0.1
        answered += 1
    assert broken <= binom.ppf(1 - UNLIKELY, SPLITS, 0.05)
    assert chance == "useless" or count < 1000 or answered > 0.95 * SPLITS
