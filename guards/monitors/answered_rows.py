"""Records of answered rows, kept until the rows' outcomes are known: predictions and groups, but no inputs.

The store's process uses records too. That process needs no torch, so only making the records of a batch imports torch.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from guards.actions import Action

if TYPE_CHECKING:
    from torch import Tensor

    from guards.monitors.groupings import Grouping
    from guards.types import Batch, Prediction, Result

__all__ = ["UNANSWERED", "Records", "group_codes"]

UNANSWERED = -1
"""The predicted class of a row whose action is abstain or reject; for a regression the value is NaN."""


@dataclass(frozen=True, slots=True, eq=False)
class Records:
    """Answered rows, all arrays (n,).

    ``predicted`` and ``actual`` are class indices (int64), or values (float64) for regression; ``actual`` is None until
    the outcomes are known. ``action`` holds values of :class:`guards.types.Action`. ``confidence`` is the calibrated
    probability of the predicted class, NaN if there is none. ``covered`` says whether the prediction set or interval
    held the actual label or value: 1, 0, or -1 if there was no set or the outcome is unknown. ``groups`` holds the
    level codes of every monitor that has groups, by the monitor's name. ``weight`` is 1 / the probability that the
    outcome of such a row becomes known, NaN if that probability was not given. ``flagged`` says whether any guard
    that shares the budget flagged the row, even if shadow mode kept the flag from changing the action; None if that was
    not recorded. ``spotless`` says whether no guard at all flagged the row; None if that was not recorded. ``skipped``
    marks the rows that a monitor does not count, by the monitor's name; a monitor that is not named counts every row.
    """

    predicted: npt.NDArray[Any]
    action: npt.NDArray[np.int64]
    confidence: npt.NDArray[np.float64]
    groups: Mapping[str, npt.NDArray[np.int64]] = field(default_factory=dict)
    actual: npt.NDArray[Any] | None = None
    covered: npt.NDArray[np.int64] | None = None
    weight: npt.NDArray[np.float64] | None = None
    flagged: npt.NDArray[np.bool_] | None = None
    spotless: npt.NDArray[np.bool_] | None = None
    skipped: Mapping[str, npt.NDArray[np.bool_]] = field(default_factory=dict)

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.predicted)

    def take(self, rows: Sequence[int] | slice) -> Self:
        """Take some of the rows, in this order."""
        index = rows if isinstance(rows, slice) else np.asarray(rows, dtype=np.int64)
        columns = {name: getattr(self, name) for name in ("actual", "covered", "weight", "flagged", "spotless")}
        return replace(
            self,
            predicted=self.predicted[index],
            action=self.action[index],
            confidence=self.confidence[index],
            groups={name: codes[index] for name, codes in self.groups.items()},
            skipped={name: marks[index] for name, marks in self.skipped.items()},
            **{name: None if values is None else values[index] for name, values in columns.items()},
        )

    def counted_by(self, monitor: str) -> Self:
        """Take the rows that a monitor counts."""
        skipped = self.skipped.get(monitor)
        return self if skipped is None or not skipped.any() else self.take(np.flatnonzero(~skipped).tolist())

    def counted_by_any(self, monitors: Collection[str]) -> Self:
        """Take the rows that at least one of the monitors counts."""
        if not monitors or not all(name in self.skipped for name in monitors):
            return self
        nobody = np.logical_and.reduce([self.skipped[name] for name in monitors])
        return self.take(np.flatnonzero(~nobody).tolist())

    def clean(self) -> Self:
        """Take the rows that no guard flagged."""
        allowed = self.action == Action.ALLOW
        kept = allowed if self.spotless is None else allowed & self.spotless
        return self if kept.all() else self.take(np.flatnonzero(kept).tolist())

    @property
    def answered(self) -> npt.NDArray[np.bool_]:
        """Which rows (n,) have an answer: their action is neither abstain nor reject."""
        nothing = np.isnan(self.predicted) if self.predicted.dtype.kind == "f" else self.predicted == UNANSWERED
        return np.asarray(~nothing & (self.action < Action.ABSTAIN))

    @classmethod
    def of(
        cls, batch: "Batch", outcome: "Result", groupings: "Iterable[Grouping]" = (), *, y: "Tensor | None" = None
    ) -> Self:
        """Make the records of a batch, on the host; each grouping's codes are stored under the grouping's name.

        ``y`` (n,) holds the actual labels or values, if they are known already.
        """
        kept = batch.memo.get(Records)
        if kept is None or kept[0] is not outcome:
            kept = batch.memo[Records] = (outcome, cls._without_groups(outcome))
        known: Self = kept[1]
        return replace(
            known,
            groups={grouping.name: group_codes(batch, grouping) for grouping in groupings},
            actual=None if y is None else y.cpu().numpy(),
            covered=None
            if y is None
            else _covered(outcome.prediction, y.to(outcome.verdict.action.device)).cpu().numpy(),
        )

    @classmethod
    def _without_groups(cls, outcome: "Result") -> Self:
        import torch  # noqa: PLC0415 - see above

        action = outcome.verdict.action
        answered = action < Action.ABSTAIN
        prediction = outcome.prediction
        predicted: Tensor
        if prediction.label is not None and prediction.probabilities is not None:
            predicted = torch.where(answered, prediction.label, UNANSWERED)
            confidence = prediction.probabilities.gather(1, prediction.label[:, None])[:, 0].double()
        else:
            assert prediction.value is not None  # noqa: S101 - one of the two is always there
            predicted = torch.where(answered, prediction.value.double(), torch.nan)
            confidence = torch.full_like(predicted, torch.nan)
        return cls(
            predicted=predicted.cpu().numpy(),
            action=action.cpu().numpy(),
            confidence=torch.where(answered, confidence, torch.nan).cpu().numpy(),
            flagged=outcome.verdict.alarmed.cpu().numpy(),
            spotless=(~outcome.verdict.flagged.any(0)).cpu().numpy(),
        )


def group_codes(batch: "Batch", grouping: "Grouping") -> npt.NDArray[np.int64]:
    """Give each row's level code (n,) on the host; another call for the same batch returns the same array."""
    codes: npt.NDArray[np.int64] | None = batch.memo.get(grouping)
    if codes is None:
        codes = batch.memo[grouping] = grouping.group_of(batch).cpu().numpy()
    return codes


def _covered(prediction: "Prediction", y: "Tensor") -> "Tensor":
    """Return whether set or interval holds the actual label or value: 1, 0, or -1 if there is neither."""
    import torch  # noqa: PLC0415 - see above

    if prediction.members is not None:
        return prediction.members.gather(1, y.long()[:, None])[:, 0].long()
    if prediction.interval is not None:
        low, high = prediction.interval.unbind(1)
        return ((low <= y) & (y <= high)).long()
    return torch.full_like(y, -1, dtype=torch.int64)
