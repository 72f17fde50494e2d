"""Risk-controlled abstention: a threshold on a score, so that answered rows are rarely wrong, with a proof."""

import math
from bisect import bisect_left
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from guards.calibration.p_values import strangest

__all__ = ["Abstention", "NoThresholdError", "answered_rows_needed"]

CONFIDENCE = 0.95
LEVELS = 100
MOST_ROWS = 1_000_000


class NoThresholdError(ValueError):
    """No threshold keeps the target. ``rows`` is how many calibration rows could, None if no number of rows could."""

    def __init__(self, message: str, rows: int | None) -> None:
        super().__init__(message)
        self.rows = rows


@dataclass(frozen=True, slots=True)
class Abstention:
    """A threshold that was proven on ``rows`` calibration rows: rows whose score is above ``limit`` get no answer.

    Of the calibration rows, ``answered`` have a score of at most ``limit``, and ``wrong`` of these have a wrong label.
    With 95 % confidence over calibration sets, the error rate among answered rows is at most ``target``.
    """

    target: float
    limit: float
    rows: int
    answered: int
    wrong: int

    @property
    def share(self) -> float:
        """The share of calibration rows that get an answer."""
        return self.answered / self.rows

    @property
    def bound(self) -> float:
        """The upper 95 % confidence bound (Clopper & Pearson 1934) of the error rate among answered rows."""
        counts = torch.tensor([self.answered]), torch.tensor([self.wrong])
        low, high = self.wrong / self.answered, 1.0
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if float(tail(*counts, middle)) > 1 - CONFIDENCE else (low, middle)
        return high

    def tensor(self) -> Tensor:
        """Give the threshold and the counts as a tensor (4,) float64, which a bundle keeps."""
        return torch.tensor([self.limit, self.rows, self.answered, self.wrong], dtype=torch.float64)

    @classmethod
    def from_tensor(cls, target: float, kept: Tensor) -> Self:
        """Restore what :meth:`tensor` gave."""
        limit, rows, answered, wrong = kept.tolist()
        return cls(target, limit, int(rows), int(answered), int(wrong))

    @classmethod
    def choose(cls, target: float, aside: tuple[Tensor, Tensor], calibration: tuple[Tensor, Tensor]) -> Self:
        """Choose the highest threshold that the calibration rows prove.

        Each pair has scores (n,) and whether the model's label is wrong (n,) bool. The rows ``aside``, which are no
        calibration rows, name the candidates: their scores' quantiles, in increasing order, from the one at which they
        speak most clearly for an error rate below the target. Each candidate in turn is tested on the calibration rows
        by an exact binomial test of level 5 %, up to the first candidate that fails. Since the candidates and their
        order do not depend on the calibration rows, the chance that any candidate is passed wrongly is at most 5 %.
        Geifman & El-Yaniv 2017, "Selective classification for deep neural networks"; Angelopoulos, Bates, Candes,
        Jordan & Lei 2021, "Learn then test: calibrating predictive algorithms to achieve risk control" (fixed sequence
        testing).

        Raises:
            NoThresholdError: no candidate passes; the message says how many rows could help.
        """
        limits = _candidates(aside[0])
        first = int(tail(*_counts(limits, aside), target).argmin())
        limits = limits[first:]
        answered, wrong = _counts(limits, calibration)
        failed = tail(answered, wrong, target) > 1 - CONFIDENCE
        last = (int(failed.int().argmax()) if failed.any() else len(limits)) - 1
        if last < 0:
            raise _refusal(target, int(answered[0]), int(wrong[0]), len(calibration[0]))
        return cls(target, float(limits[last]), len(calibration[0]), int(answered[last]), int(wrong[last]))


def tail(answered: Tensor, wrong: Tensor, rate: float) -> Tensor:
    """Give the chance (c,) of at most ``wrong`` (c,) errors in ``answered`` (c,) rows, each wrong with chance ``rate``.

    >>> tail(torch.tensor([3, 0]), torch.tensor([1, 0]), 0.5)
    tensor([0.5000, 1.0000], dtype=torch.float64)
    """
    hits = torch.arange(int(wrong.max()) + 1, dtype=torch.float64)
    n = answered.double()[:, None]
    chosen = torch.lgamma(n + 1) - torch.lgamma(hits + 1) - torch.lgamma((n - hits).clamp(min=0) + 1)
    log_mass = chosen + hits * math.log(rate) + (n - hits) * math.log1p(-rate)
    return torch.where(hits <= wrong[:, None], log_mass.exp(), 0.0).sum(1).clamp(max=1)


def answered_rows_needed(target: float) -> int:
    """Give the least number of answered rows that can prove a target: if none of them is wrong.

    >>> answered_rows_needed(0.05), answered_rows_needed(0.01)
    (59, 299)
    """
    return math.ceil(math.log(1 - CONFIDENCE) / math.log1p(-target))


def _candidates(scores: Tensor) -> Tensor:
    """Give the candidates (c,): quantiles of scores in increasing order, and at last the largest finite number."""
    ordered = scores[scores.isfinite()].sort().values
    everything = ordered.new_tensor([torch.finfo(torch.float32).max])
    places = torch.arange(1, LEVELS + 1) * len(ordered) // LEVELS - 1
    return torch.cat([ordered[places[places >= 0]], everything])


def _counts(limits: Tensor, rows: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Count, for each limit (c,), the rows that are answered, and those of them that are wrong."""
    scores, wrong = rows
    ordered, order = strangest(scores).sort()
    answered = torch.searchsorted(ordered, limits, right=True)
    return answered, torch.cat([torch.zeros(1, dtype=torch.int64), wrong[order].long().cumsum(0)])[answered]


def _refusal(target: float, answered: int, wrong: int, rows: int) -> NoThresholdError:
    rate = wrong / answered if answered else 0.0
    found = f"{wrong} of the {answered} most certain of {rows} labelled calibration rows are wrong"
    if rate >= target:
        return NoThresholdError(f"{found}, and no number of rows proves an error rate of {target:g}", None)
    low = high = answered_rows_needed(target)
    while not _proves(high, rate, target) and high < MOST_ROWS:
        low, high = high, 2 * high
    needed = low + bisect_left(range(low, high), True, key=lambda n: _proves(n, rate, target))
    return NoThresholdError(
        f"{found}, too few rows to prove an error rate of {target:g}", math.ceil(needed * rows / max(answered, 1))
    )


def _proves(answered: int, rate: float, target: float) -> bool:
    """Return whether an error ``rate`` among so many answered rows proves the target."""
    counts = torch.tensor([answered]), torch.tensor([math.ceil(rate * answered)])
    return float(tail(*counts, target)) <= 1 - CONFIDENCE
