"""What is remembered of answered rows until the truth of them is known: never the rows themselves."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from guards.attributes import Grouping
from guards.types import Action, Batch, Outcome, Prediction

__all__ = ["UNANSWERED", "Records"]

UNANSWERED = -1
"""The predicted class of a row that was abstained from or rejected; regression has NaN."""


@dataclass(frozen=True, slots=True, eq=False)
class Records:
    """Answered rows, all arrays (n,).

    ``predicted`` and ``actual`` are class indices (int64), or values (float64) for regression; ``actual`` is None as
    long as the truth is unknown. ``action`` is of :class:`guards.types.Action`. ``confidence`` is the calibrated
    probability of the predicted class, NaN where there is none. ``covered`` says whether the prediction set or
    interval held the truth: 1, 0, or -1 where there was no set or the truth is unknown. ``groups`` holds the level
    codes of every monitor that has groups, by the monitor's name. ``weight`` is 1 / the probability with which the
    truth of such a row comes to be known, NaN where that was not given. ``flagged`` says whether any guard flagged the
    row, also where the mode kept it from acting; None where that is not remembered.
    """

    predicted: npt.NDArray[Any]
    action: npt.NDArray[np.int64]
    confidence: npt.NDArray[np.float64]
    groups: Mapping[str, npt.NDArray[np.int64]] = field(default_factory=dict)
    actual: npt.NDArray[Any] | None = None
    covered: npt.NDArray[np.int64] | None = None
    weight: npt.NDArray[np.float64] | None = None
    flagged: npt.NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.predicted)

    def take(self, rows: Sequence[int] | slice) -> Self:
        """Take some of the rows, in this order."""
        index = rows if isinstance(rows, slice) else np.asarray(rows, dtype=np.int64)
        columns = {name: getattr(self, name) for name in ("actual", "covered", "weight", "flagged")}
        return replace(
            self,
            predicted=self.predicted[index],
            action=self.action[index],
            confidence=self.confidence[index],
            groups={name: codes[index] for name, codes in self.groups.items()},
            **{name: None if values is None else values[index] for name, values in columns.items()},
        )

    @property
    def answered(self) -> npt.NDArray[np.bool_]:
        """Tell which rows (n,) were not abstained from or rejected."""
        nothing = np.isnan(self.predicted) if self.predicted.dtype.kind == "f" else self.predicted == UNANSWERED
        return np.asarray(~nothing & (self.action < Action.ABSTAIN))

    @classmethod
    def of(cls, batch: Batch, outcome: Outcome, groupings: Iterable[Grouping] = (), *, y: Tensor | None = None) -> Self:
        """Note what was said of a batch, on the host; each of the groupings gives its codes under its name.

        ``y`` (n,) is the truth, where it is known already.
        """
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
        codes = {grouping.name: grouping for grouping in groupings}
        return cls(
            predicted=predicted.cpu().numpy(),
            action=action.cpu().numpy(),
            confidence=torch.where(answered, confidence, torch.nan).cpu().numpy(),
            groups={name: grouping.group_of(batch).cpu().numpy() for name, grouping in codes.items()},
            flagged=outcome.verdict.flagged.any(0).cpu().numpy(),
            actual=None if y is None else y.cpu().numpy(),
            covered=None if y is None else _covered(outcome.prediction, y.to(action.device)).cpu().numpy(),
        )


def _covered(prediction: Prediction, y: Tensor) -> Tensor:
    """Tell whether set or interval holds the truth: 1, 0, or -1 where there is neither."""
    if prediction.members is not None:
        return prediction.members.gather(1, y.long()[:, None])[:, 0].long()
    if prediction.interval is not None:
        low, high = prediction.interval.unbind(1)
        return ((low <= y) & (y <= high)).long()
    return torch.full_like(y, -1, dtype=torch.int64)
