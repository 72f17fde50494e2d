"""The false-alarm budget: the ranks up to which guards flag, so that together they keep one budget."""

import math
from collections import Counter
from collections.abc import Sequence
from itertools import islice, takewhile
from typing import Literal

import torch
from torch import Tensor

from guards.calibration.p_values import strangest

__all__ = ["Budget", "Guarantee", "allowed_ranks", "first_turn", "largest_supported_rank", "rows_needed"]

Guarantee = Literal["marginal", "pac"]
PAC_CONFIDENCE = 0.95


def largest_supported_rank(rows: int, budget: float, guarantee: Guarantee) -> int:
    """Find how many of ``rows`` calibration rows may be flagged; 0 if so few rows cannot support the budget.

    With k of n rows in the flagged region, the true rate is distributed as Beta(k, n + 1 - k). ``marginal`` bounds the
    mean of the rate, k / (n + 1). ``pac`` bounds its 95 % quantile, since
    P(Beta(k, n + 1 - k) <= b) = P(Binomial(n, b) >= k).
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
    """Give each guard the largest rank at which it flags, so that all guards together flag ``k`` blocks of clean rows.

    ``scores`` is (g, n). The guards take turns in proportion to their shares, in an order fixed beforehand. In each
    turn a guard cuts off the row with its highest score among the rows that no guard has cut off yet. In the end a
    guard flags every row whose score is higher than the score of the last row that it cut off. After k cuts the share
    of clean rows that any guard flags has the distribution Beta(k, n + 1 - k), however the guards depend on each other:
    Tukey 1947, "Statistically equivalent blocks and tolerance regions".

    Rows with equal scores are cut off one by one, and are flagged only once the guard has cut off all of them. So ties
    only lower the rate. If a guard gives at least two in three rows one score, that score is the guard's floor: the
    guard never flags these rows. Once it has cut off all stranger rows it leaves, and the next guard takes the turn. So
    such ties waste none of the budget. Whether a guard leaves must not depend on fewer rows than two in three: a choice
    by the number of rows that tie for one cut would raise the rate. If between one in two and two in three rows have
    one score, the guard loses its further turns instead. So the choice between the two never raises the rate.

    Unless the distribution must be ``proven``, one exception avoids a wasted share in the usual case: if only one guard
    has many ties, it also leaves if more rows tie for its next cut than it has turns left. For a single set of
    calibration rows the rate may then exceed k blocks; in simulations its mean was within 2 % of k / (n + 1).

    A guard of rank 0 never flags by its p-value.
    """
    scores = strangest(scores)
    values, rows = scores.tolist(), scores.shape[1]
    order = torch.argsort(scores, dim=1, descending=True, stable=True).tolist()
    place, cuts = [0] * len(shares), [0] * len(shares)
    limit: list[float | None] = [None] * len(shares)  # a guard flags only strictly higher scores
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
    """Find the score that at least half of the rows share, and whether two in three rows and one more share it."""
    value, count = Counter(values).most_common(1)[0]
    # The one row more keeps a gap between the two thresholds, even for very few rows.
    return (value if 2 * count >= len(values) and count > 1 else None), 3 * count >= 2 * len(values) + 3


class Budget:
    """One false-alarm budget for all guards together: the share of clean rows that at least one guard may flag.

    The ranks are computed from the scores of the calibration rows, which a bundle keeps. So budget, guarantee and
    shares may change at deploy time without a refit. Rows that violate a declared bound are counted separately, and the
    budget does not cover them.
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
        """Give the largest p-value at which a guard flags; 0 if the guard never flags with so few calibration rows."""
        return self.ranks[guard] / (self.rows + 1)


def rows_needed(budget: float, guarantee: Guarantee, flagged: int = 1) -> int:
    """Give the least number of calibration rows for which a budget allows ``flagged`` of them to be flagged.

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
    """Give the number of the turn, from 1, that is a guard's first: see :func:`allowed_ranks`.

    >>> first_turn([1.0, 1.0], 1), first_turn([4.0, 1.0], 1)
    (2, 5)
    """
    turns = 1
    for other, share in enumerate(shares):
        before = 0 if other == guard else math.floor(share / shares[guard] + 1e-9)
        if other > guard and before and before / share >= 1 / shares[guard]:
            before -= 1  # if two guards are due at once, the first guard goes first
        turns += before
    return turns
