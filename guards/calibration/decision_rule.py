"""Turns the guards' findings into a verdict: p-values, flags, and one action for each row."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from guards.calibration.p_values import Calibration, strangest
from guards.host_arrays import is_on_host
from guards.types import Action, Finding, Verdict

__all__ = ["DecisionRule"]

INFINITY = np.float32(math.inf)
Array = npt.NDArray[np.generic]


class DecisionRule:
    """Calibrates the scores of all guards at once, and decides what happens to each row.

    A guard flags a row if the row's rank among the calibration rows is at most the guard's largest rank, or if the row
    breaks a declared bound. A guard with a score limit flags a row if the row's score is above the limit. If several
    guards flag a row, the strictest action wins. A row whose logits are not finite
    has no answer: its action is at least abstain, whatever the guards found.
    """

    def __init__(  # noqa: PLR0913
        self,
        names: Sequence[str],
        *,
        calibration: Calibration | None,
        max_ranks: Sequence[int],
        actions: Sequence[Action],
        on_error: Sequence[Action],
        shadow: bool,
        device: torch.device,
        limits: Sequence[float] = (),
    ) -> None:
        """Prepare what every batch needs.

        Args:
            names: the guards' names, g of them.
            calibration: the scores of clean rows under every guard (g, n) on ``device``; None without guards.
            max_ranks: the largest rank at which each guard flags a row.
            actions: what a flag of each guard does to a row.
            on_error: what a crash of each guard does to a row.
            shadow: judge, and allow every row whose logits are finite.
            device: the device of the findings and the logits.
            limits: each guard's score limit, infinite for a guard that flags by its rank alone; empty if all are so.
        """
        self.names, self.shadow, self._calibration = tuple(names), shadow, calibration
        self.on_purpose = tuple(place for place, limit in enumerate(limits) if limit < math.inf)
        self._limit = torch.tensor(limits, dtype=torch.float32, device=device)[:, None] if self.on_purpose else None
        self._max_rank, self._action, self._on_error = (
            torch.tensor([int(value) for value in values], dtype=torch.int64, device=device)[:, None]
            for values in (max_ranks, actions, on_error)
        )
        if device.type == "cpu":
            self._sorted = [] if calibration is None else [row.contiguous().numpy() for row in calibration.scores]
            # By place in the sorted scores: the first place is the least strange.
            ranks = np.arange(1 if calibration is None else len(calibration) + 1, 0, -1)
            self._p_values = ranks.astype(np.float32) / np.float32(len(ranks))
            self._first_flagged = len(ranks) - self._max_rank.numpy()
            self._columns = self._action.numpy(), self._on_error.numpy()

    def __call__(self, findings: Sequence[Finding], logits: Tensor) -> Verdict:
        """Judge rows by the findings of every guard, in order, and the model's logits (n, k)."""
        return (self._on_host if is_on_host(logits) else self._on_device)(findings, logits)

    def _on_host(self, findings: Sequence[Finding], logits: Tensor) -> Verdict:
        n = logits.shape[0]
        action = np.zeros(n, dtype=np.int64)
        score = torch.stack([finding.score for finding in findings]) if findings else torch.zeros((0, n))
        strange = np.fmin(score.numpy(), INFINITY)  # a score that is NaN is the strangest
        place = np.empty(strange.shape, dtype=np.int64)
        for guard, clean in enumerate(self._sorted):
            place[guard] = clean.searchsorted(strange[guard])
        p_value, flagged = self._p_values[place], place >= self._first_flagged
        if self._limit is not None:
            flagged |= strange > self._limit.numpy()
        violated = _stacked_on_host([finding.violated for finding in findings], n)
        if violated is not None:
            flagged |= violated
        crashed = _stacked_on_host([finding.crashed for finding in findings], n)
        if crashed is not None:
            p_value[crashed] = math.nan
            flagged &= ~crashed
        if not self.shadow and (crashed is not None or np.logical_or.reduce(flagged, axis=None)):
            actions, on_error = self._columns
            asked = np.where(flagged, actions, 0)
            action = np.maximum.reduce(asked if crashed is None else np.where(crashed, on_error, asked))
        finite = np.isfinite(logits.numpy())
        if not np.logical_and.reduce(finite, axis=None):
            answered = np.logical_and.reduce(finite, axis=1)
            action = np.where(answered, action, np.maximum(action, int(Action.ABSTAIN)))
        return Verdict(
            self.names,
            score,
            torch.from_numpy(p_value),
            torch.from_numpy(flagged),
            None if violated is None else torch.from_numpy(violated),
            torch.from_numpy(action),
            self._causes(findings),
            self.on_purpose,
        )

    def _on_device(self, findings: Sequence[Finding], logits: Tensor) -> Verdict:
        action = torch.zeros(len(logits), dtype=torch.int64, device=logits.device)
        violated = None
        if self._calibration is None:
            score = p_value = torch.zeros((0, len(logits)), device=logits.device)
            flagged = score.bool()
        else:
            score = torch.stack([finding.score for finding in findings])
            rank = self._calibration.rank(score)
            p_value, flagged = rank / (len(self._calibration) + 1), rank <= self._max_rank
            if self._limit is not None:
                flagged |= strangest(score) > self._limit
            violated = _stacked([finding.violated for finding in findings], len(logits))
            if violated is not None:
                flagged |= violated
            crashed = _stacked([finding.crashed for finding in findings], len(logits))
            if crashed is not None:
                p_value, flagged = p_value.masked_fill(crashed, torch.nan), flagged & ~crashed
            if not self.shadow:
                asked = torch.where(flagged, self._action, 0)
                action = (asked if crashed is None else torch.where(crashed, self._on_error, asked)).amax(0)
        action = torch.where(logits.isfinite().all(1), action, action.clamp(min=int(Action.ABSTAIN)))
        return Verdict(self.names, score, p_value, flagged, violated, action, self._causes(findings), self.on_purpose)

    def _causes(self, findings: Sequence[Finding]) -> dict[str, Tensor]:
        return {
            name: finding.causes
            for name, finding in zip(self.names, findings, strict=True)
            if finding.causes is not None
        }


def _stacked(parts: Sequence[Tensor | None], rows: int) -> Tensor | None:
    """Stack the guards' masks (n,) to (g, n), with zeros for a guard without a mask; None if no guard has a mask."""
    present = next((part for part in parts if part is not None), None)
    if present is None:
        return None
    blank = present.new_zeros(rows)
    return torch.stack([blank if part is None else part for part in parts])


def _stacked_on_host(parts: Sequence[Tensor | None], rows: int) -> npt.NDArray[np.bool_] | None:
    """Do the same as :func:`_stacked` with numpy."""
    stacked: npt.NDArray[np.bool_] | None = None
    for guard, part in enumerate(parts):
        if part is not None:
            if stacked is None:
                stacked = np.zeros((len(parts), rows), dtype=np.bool_)
            stacked[guard] = part.numpy()
    return stacked
