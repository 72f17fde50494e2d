"""From scores to p-values, and from p-values to the thresholds that keep one false-alarm budget."""

import math
from collections import Counter
from collections.abc import Sequence
from itertools import islice, takewhile
from typing import Literal, Self

import torch
from torch import Tensor, nn

__all__ = [
    "Budget",
    "Calibration",
    "Guarantee",
    "allowed_ranks",
    "first_turn",
    "largest_supported_rank",
    "rows_needed",
]

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
        """Calibrate on scores (n,) of clean rows, or (g, n) for g guards; NaN counts as the strangest score there is.

        >>> Calibration.from_scores(torch.tensor([1.0, 2.0, 3.0])).p_value(torch.tensor([0.0, 2.0, 9.0]))
        tensor([1.0000, 0.7500, 0.2500])
        """
        if scores.ndim not in (1, 2) or not scores.shape[-1]:
            raise ValueError(f"calibration needs at least one score of each guard, got shape {tuple(scores.shape)}")
        return cls(torch.sort(strangest(scores.detach().float())).values)

    def __len__(self) -> int:
        """Count the calibration rows."""
        return self.scores.shape[-1]

    def rank(self, score: Tensor) -> Tensor:
        """Count, for each score, itself and the calibration scores at least as strange: 1 to n + 1."""
        return len(self) + 1 - torch.searchsorted(self.scores, strangest(score).contiguous())

    def p_value(self, score: Tensor) -> Tensor:
        """Turn scores into p-values in [1 / (n + 1), 1]; ties are counted against the alarm."""
        return self.rank(score) / (len(self) + 1)


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


def allowed_ranks(scores: Tensor, shares: Sequence[float], k: int, *, proven: bool = True) -> list[int]:
    """Give each guard the largest rank at which it flags, so that all together flag ``k`` blocks of the clean rows.

    ``scores`` is (g, n). The guards take turns in proportion to their shares, in an order fixed beforehand: whose turn
    it is cuts off the row that is strangest to it among those not yet cut off, and flags whatever is stranger still.
    After k cuts the share of clean rows that is flagged by any guard has the law Beta(k, n + 1 - k), however the guards
    depend on each other: Tukey 1947, "Statistically equivalent blocks and tolerance regions".

    Rows that are equally strange to a guard are cut off one by one, and flagged once all of them are: ties only lower
    the rate. A guard that calls at least two in three rows alike has a floor there: it never flags those, leaves once
    it has cut off all that are stranger, and the next guard takes the turn, which is one cut by the pair of them; so
    such ties waste none of the budget. Which guard leaves must not hang on fewer rows than that: a choice by how many
    rows tie for a cut would raise the rate. Between one in two and two in three, the turns of a guard that leaves are
    lost, so that the choice between leaving and not only ever lowers the rate.

    Unless the law has to be ``proven``, one exception keeps the usual case from wasting a share: where a single guard
    has ties at all, it also leaves before more tied rows than it has turns for. The rate of single sets of rows may
    then exceed k, its mean was simulated within 2 % of k / (n + 1).

    A guard of rank 0 never flags by its p-value.
    """
    scores = strangest(scores)
    values, rows = scores.tolist(), scores.shape[1]
    order = torch.argsort(scores, dim=1, descending=True, stable=True).tolist()
    place, cuts = [0] * len(shares), [0] * len(shares)
    limit: list[float | None] = [None] * len(shares)  # what a guard flags is strictly stranger than this
    floors = [_floor(guard) for guard in values]
    tied = [guard for guard, scored in enumerate(values) if 2 * len(set(scored)) < rows]
    alone = tied[0] if len(tied) == 1 and not proven else None
    playing = [guard for guard, share in enumerate(shares) if share > 0]
    cut_off: set[int] = set()
    lost = 0
    while playing and len(cut_off) + lost < min(k, rows):
        guard = min(playing, key=lambda g: ((cuts[g] + 1) / shares[g], g))
        while order[guard][place[guard]] in cut_off:
            place[guard] += 1
        strangest_left = order[guard][place[guard]]
        value = limit[guard] = values[guard][strangest_left]
        floor, kept = floors[guard]
        if guard == alone and floor is not None and kept and len(playing) > 1:
            turns = math.ceil((k - len(cut_off)) * shares[guard] / sum(shares[g] for g in playing))
            waiting = islice(order[guard], place[guard], None)
            ties = takewhile(lambda row: values[guard][row] == value, waiting)  # noqa: B023 - used at once
            if sum(row not in cut_off for row in ties) > turns:
                floor = value
        if floor is not None and value <= floor:
            limit[guard] = floor
            if kept:
                playing.remove(guard)
                continue
            lost += 1
        else:
            cut_off.add(strangest_left)
        cuts[guard] += 1
    return [0 if t is None else 1 + sum(v > t for v in values[g]) for g, t in enumerate(limit)]


def _floor(values: Sequence[float]) -> tuple[float | None, bool]:
    """Find the score that at least half of the rows share, and whether two in three do, and one row more."""
    value, count = Counter(values).most_common(1)[0]
    # The one row more keeps half of the rows between the two answers, however few there are.
    return (value if 2 * count >= len(values) and count > 1 else None), 3 * count >= 2 * len(values) + 3


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
        k = largest_supported_rank(self.rows, budget, guarantee)
        if k < 1:
            raise ValueError(
                f"{self.rows} calibration rows cannot support a budget of {budget:g} with a {guarantee} guarantee: "
                f"give at least {rows_needed(budget, guarantee)} rows, or a larger false_alarm_budget"
            )
        self.ranks = allowed_ranks(scores, shares, k, proven=guarantee == "pac")

    def threshold(self, guard: int) -> float:
        """Give the p-value at and under which a guard flags; 0 where it cannot at this many rows."""
        return self.ranks[guard] / (self.rows + 1)


def rows_needed(budget: float, guarantee: Guarantee, flagged: int = 1) -> int:
    """Count the calibration rows of which a budget lets ``flagged`` be flagged: the least such number.

    >>> rows_needed(0.01, "marginal"), rows_needed(0.01, "pac"), rows_needed(0.01, "marginal", 3)
    (99, 299, 299)
    """
    marginal = math.ceil(flagged / budget - 1 - 1e-9)
    if guarantee == "marginal":
        return marginal
    low, high = marginal, 2 * marginal + 1
    while largest_supported_rank(high, budget, guarantee) < flagged:
        low, high = high, 2 * high
    while low < high:
        middle = (low + high) // 2
        low, high = (
            (low, middle) if largest_supported_rank(middle, budget, guarantee) >= flagged else (middle + 1, high)
        )
    return low


def first_turn(shares: Sequence[float], guard: int) -> int:
    """Count the flagged rows that a budget must have before a guard gets one: see :func:`allowed_ranks`.

    >>> first_turn([1.0, 1.0], 1), first_turn([4.0, 1.0], 1)
    (2, 5)
    """
    turns = 1
    for other, share in enumerate(shares):
        before = 0 if other == guard else math.floor(share / shares[guard] + 1e-9)
        if other > guard and before and before / share >= 1 / shares[guard]:
            before -= 1  # of two guards whose turn it is, the first goes first
        turns += before
    return turns
