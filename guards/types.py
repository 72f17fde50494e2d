"""The pipeline's data types beside a batch: rows to fit on, rows of files, findings, predictions, and results."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from guards.actions import Action
from guards.batch import Batch, ModelOutput
from guards.errors import Mistake, Mistakes

if TYPE_CHECKING:
    from guards.input.schema import InputSchema

__all__ = [
    "Action",
    "Batch",
    "Finding",
    "Mistake",
    "Mistakes",
    "ModelOutput",
    "Prediction",
    "Reference",
    "Result",
    "Rows",
    "Verdict",
]


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """Rows that detectors and monitors are fitted on, with the model's output for them.

    ``y`` (n,) is the class index, or the value for regression. ``head`` is the model's last linear layer, or None.
    ``temperature`` was fitted on other rows, which are not calibration rows either. ``train_hits`` is given for
    held-out rows, if labelled training rows are known: the number of training rows that the model predicts correctly,
    and the number of training rows.
    """

    batch: Batch
    y: Tensor | None
    schema: "InputSchema"
    head: nn.Linear | None = None
    temperature: float = 1.0
    train_hits: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Rows of a data file: ``x`` (n, ...) as in a batch, ``y`` (n,) class index or value, ``groups`` by attribute."""

    x: Tensor
    y: Tensor | None = None
    groups: Mapping[str, tuple[str | None, ...]] = field(default_factory=dict)

    def __len__(self) -> int:
        """Count the rows."""
        return self.x.shape[0]

    def take(self, index: Tensor) -> "Rows":
        """Take the rows of an index (m,)."""
        picked = index.tolist()
        groups = {name: tuple(values[i] for i in picked) for name, values in self.groups.items()}
        return Rows(self.x[index], None if self.y is None else self.y[index], groups)


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """A calibrated prediction, with a set or interval that covers the true label or value at the stated rate.

    Classification: ``probabilities`` (n, k), ``label`` (n,) int64 and ``members`` (n, k) bool, the prediction set.
    Regression: ``value`` (n,) and ``interval`` (n, 2). Without labelled calibration rows there is no set or interval.
    """

    probabilities: Tensor | None = None
    label: Tensor | None = None
    members: Tensor | None = None
    value: Tensor | None = None
    interval: Tensor | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Finding:
    """A detector's findings: ``score`` (n,), larger is stranger. A field that the detector does not provide is None.

    ``violated`` (n,) marks rows that break a declared bound. ``causes`` (n, c) marks what made each row strange.
    ``crashed`` (n,) marks rows on which the detector crashed.
    """

    score: Tensor
    violated: Tensor | None = None
    causes: Tensor | None = None
    crashed: Tensor | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Verdict:
    """The guards' verdict: ``score``, ``p_value``, ``flagged`` are (g, n), ``action`` (n,) int64 of :class:`Action`.

    ``flagged`` shows what each guard found, even if shadow mode kept the flag from changing the action. If a detector
    crashed on a row, the row's p-value is NaN and the guard does not flag the row. ``violated`` (g, n) is None if no
    guard has declared bounds. ``causes`` holds the causes (n, c) of the guards that name causes, by the guard's name.
    ``on_purpose`` are the places of the guards with a ``target_error``: their flags are no false alarms.
    """

    guards: tuple[str, ...]
    score: Tensor
    p_value: Tensor
    flagged: Tensor
    violated: Tensor | None
    action: Tensor
    causes: Mapping[str, Tensor]
    on_purpose: tuple[int, ...] = ()

    @property
    def alarmed(self) -> Tensor:
        """Which rows (n,) any guard that shares the budget flagged."""
        shared = [place for place in range(len(self.guards)) if place not in self.on_purpose]
        return (self.flagged[shared] if self.on_purpose else self.flagged).any(0)


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """The pipeline's result for a batch: the model's output, the prediction and the guards' verdict."""

    output: ModelOutput
    prediction: Prediction
    verdict: Verdict

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.verdict.action)

    def __getitem__(self, rows: slice | Tensor) -> "Result":
        """Take some of the rows: a slice, or an index (m,)."""
        prediction, verdict = self.prediction, self.verdict
        return Result(
            output=self.output[rows],
            prediction=Prediction(
                **{
                    item.name: None if (tensor := getattr(prediction, item.name)) is None else tensor[rows]
                    for item in fields(Prediction)
                }
            ),
            verdict=Verdict(
                guards=verdict.guards,
                score=verdict.score[:, rows],
                p_value=verdict.p_value[:, rows],
                flagged=verdict.flagged[:, rows],
                violated=None if verdict.violated is None else verdict.violated[:, rows],
                action=verdict.action[rows],
                causes={name: causes[rows] for name, causes in verdict.causes.items()},
                on_purpose=verdict.on_purpose,
            ),
        )

    def first(self, rows: int) -> "Result":
        """Take the first rows, and drop the rows that only padded the batch."""
        return self if rows == len(self) else self[:rows]

    @classmethod
    def join(cls, parts: "Sequence[Result]") -> "Result":
        """Concatenate results, in order, without causes: only the answer to one request shows causes."""
        if len(parts) == 1:
            return parts[0]
        verdicts, predictions = [part.verdict for part in parts], [part.prediction for part in parts]
        known = any(verdict.violated is not None for verdict in verdicts)
        violated = [v.flagged.new_zeros(v.flagged.shape) if v.violated is None else v.violated for v in verdicts]
        return cls(
            output=ModelOutput.join([part.output for part in parts]),
            prediction=Prediction(
                **{
                    item.name: None
                    if getattr(predictions[0], item.name) is None
                    else torch.cat([getattr(each, item.name) for each in predictions])
                    for item in fields(Prediction)
                }
            ),
            verdict=Verdict(
                guards=verdicts[0].guards,
                score=torch.cat([each.score for each in verdicts], dim=1),
                p_value=torch.cat([each.p_value for each in verdicts], dim=1),
                flagged=torch.cat([each.flagged for each in verdicts], dim=1),
                violated=torch.cat(violated, dim=1) if known else None,
                action=torch.cat([each.action for each in verdicts]),
                causes={},
                on_purpose=verdicts[0].on_purpose,
            ),
        )
