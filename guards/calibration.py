"""From scores to p-values, and from p-values to the thresholds that keep one false-alarm budget."""

import math
from bisect import bisect_left
from collections.abc import Sequence
from typing import Literal, Self

import torch
from torch import Tensor, nn

__all__ = ["Budget", "Calibration", "Guarantee", "allowed_ranks", "largest_supported_rank"]

Guarantee = Literal["marginal", "pac"]
PAC_CONFIDENCE = 0.95


class Calibration(nn.Module):
    """Split-conformal p-values from the scores of held-out clean rows.

    A clean row exchangeable with the calibration rows has P(p <= a) <= a for every a; where scores have no ties,
    P(p <= a) = floor(a (n + 1)) / (n + 1). Vovk, Gammerman & Shafer 2005, "Algorithmic learning in a random world".
    """

    scores: Tensor

    def __init__(self, scores: Tensor) -> None:
        super().__init__()
        self.register_buffer("scores", scores)

    @classmethod
    def from_scores(cls, scores: Tensor) -> Self:
        """Calibrate on scores (n,) of clean rows; NaN counts as the strangest score there is.

        >>> Calibration.from_scores(torch.tensor([1.0, 2.0, 3.0])).p_value(torch.tensor([0.0, 2.0, 9.0]))
        tensor([1.0000, 0.7500, 0.2500])
        """
        if scores.ndim != 1 or not len(scores):
            raise ValueError(f"calibration needs a vector of at least one score, got shape {tuple(scores.shape)}")
        return cls(torch.sort(strangest(scores.detach().float())).values)

    def __len__(self) -> int:
        """Count the calibration rows."""
        return len(self.scores)

    def rank(self, score: Tensor) -> Tensor:
        """Count, for each score, itself and the calibration scores at least as strange: 1 to n + 1."""
        below = torch.searchsorted(self.scores, strangest(score).contiguous(), right=False)
        return 1 + len(self.scores) - below

    def p_value(self, score: Tensor) -> Tensor:
        """Turn scores (n,) into p-values (n,) in [1 / (n + 1), 1]; ties are counted against the alarm."""
        return self.rank(score).float() / (len(self.scores) + 1)


def strangest(score: Tensor) -> Tensor:
    """Read a NaN score as +inf: what cannot be judged is suspicious."""
    return torch.nan_to_num(score, nan=math.inf, posinf=math.inf, neginf=-math.inf)


def largest_supported_rank(rows: int, budget: float, guarantee: Guarantee) -> int:
    """Find how many of ``rows`` calibration rows may lie in the flagged region; 0 where the budget has no support.

    With k of n rows in the region, the true rate is distributed as Beta(k, n + 1 - k). ``marginal`` bounds its mean
    k / (n + 1), ``pac`` its 95 % quantile: P(Beta(k, n + 1 - k) <= b) = P(Binomial(n, b) >= k).
    Vovk 2012, "Conditional validity of inductive conformal predictors".
    """
    marginal = math.floor(budget * (rows + 1) + 1e-9)
    if guarantee == "marginal" or marginal < 1:
        return marginal
    hits = torch.arange(marginal + 1, dtype=torch.float64)
    n = torch.tensor(float(rows), dtype=torch.float64)
    log_mass = (
        torch.lgamma(n + 1)
        - torch.lgamma(hits + 1)
        - torch.lgamma(n - hits + 1)
        + hits * math.log(budget)
        + (n - hits) * math.log1p(-budget)
    )
    fewer = torch.cumsum(log_mass.exp(), 0)  # fewer[k - 1] = P(Binomial < k)
    supported = (fewer <= 1 - PAC_CONFIDENCE).nonzero()
    return int(supported[-1]) + 1 if len(supported) else 0


def allowed_ranks(scores: Tensor, shares: Sequence[float], k: int) -> list[int]:
    """Give each guard the largest rank at which it flags, so that at most ``k`` calibration rows are flagged by any.

    ``scores`` is (g, n). A row's joint statistic is the smallest (rank_j / w_j, j) over the guards, with
    w_j = share_j / sum of shares: the guards' regions grow together in one total order, so the share of clean rows in
    their union is k / (n + 1) for one guard, and for several at most (k + 1) / (n + 1). A guard whose rank is 0 never
    flags by its p-value.
    """
    total = sum(shares)
    weight = [share / total for share in shares]
    scores = strangest(scores)
    ordered = torch.sort(scores, dim=1).values
    ranks = scores.shape[1] - torch.searchsorted(ordered, scores.contiguous(), right=False)  # among n, itself included
    keys = [
        min((rank / weight[guard], guard) for guard, rank in enumerate(row) if weight[guard] > 0)
        for row in ranks.T.tolist()
    ]
    keys.sort()
    if k >= len(keys):
        return [k if w > 0 else 0 for w in weight]
    limit = keys[k]  # the first row that may not be flagged, and with it all rows that tie with it
    # A rank beyond k is between the ranks of tied rows: nothing there is flagged, and one row more would be.
    return [min(k, _largest_rank_below(limit, guard, w)) for guard, w in enumerate(weight)]


def _largest_rank_below(limit: tuple[float, int], guard: int, weight: float) -> int:
    if weight <= 0:
        return 0
    rank = math.floor(limit[0] * weight + 1e-9) + 1
    while rank > 0 and (rank / weight, guard) >= limit:
        rank -= 1
    return rank


class Budget:
    """One false-alarm budget, kept jointly: the share of clean rows that all guards together touch.

    Computed from the calibration rows' scores, which a bundle keeps, so that budget, guarantee and shares may change
    at deploy time without a refit. Rows that violate a declared bound are counted apart and take no part.
    """

    __slots__ = ("budget", "guarantee", "ranks", "rows", "shares")

    def __init__(
        self, *, scores: Tensor, shares: Sequence[float], budget: float, guarantee: Guarantee = "marginal"
    ) -> None:
        """Calibrate on ``scores`` (g, n) of the same clean rows under every guard.

        Raises:
            ValueError: n calibration rows cannot support the budget; the message says how many could.
        """
        self.budget, self.guarantee, self.shares = budget, guarantee, tuple(shares)
        self.rows = scores.shape[1]
        several = len(shares) > 1
        k = largest_supported_rank(self.rows, budget, guarantee)
        if guarantee == "pac" and several:
            k -= 1  # the union of several regions may hold one row more: see allowed_ranks
        if k < 1:
            raise ValueError(
                f"{self.rows} calibration rows cannot support a budget of {budget:g} with a {guarantee} guarantee: "
                f"give at least {rows_needed(budget, guarantee, several=several)} rows, or a larger false_alarm_budget"
            )
        if not any(share > 0 for share in shares):
            self.ranks = [0] * len(shares)
        else:
            self.ranks = allowed_ranks(scores, shares, k)

    def threshold(self, guard: int) -> float:
        """Give the p-value at and under which a guard flags; 0 where it cannot at this many rows."""
        return self.ranks[guard] / (self.rows + 1)


def rows_needed(budget: float, guarantee: Guarantee, *, several: bool = False) -> int:
    """Count the calibration rows that a budget needs for a single flagged one, under one guard or several.

    >>> rows_needed(0.01, "marginal"), rows_needed(0.01, "pac"), rows_needed(0.01, "pac", several=True)
    (99, 299, 473)
    """
    if guarantee == "marginal":
        return math.ceil(1 / budget - 1 - 1e-9)
    rows = math.ceil(math.log(1 - PAC_CONFIDENCE) / math.log1p(-budget))
    if not several:
        return rows
    return bisect_left(range(2 * rows + 2), 2, lo=rows, key=lambda n: largest_supported_rank(n, budget, guarantee))
