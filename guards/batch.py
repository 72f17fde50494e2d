"""A batch of rows, and the model's output for it: what detectors, monitors and the predictor read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

__all__ = ["Batch", "ModelOutput"]


@dataclass(frozen=True, slots=True, eq=False)
class ModelOutput:
    """One forward pass: ``logits`` (n, k), or values (n, 1) for regression; ``features`` (n, d); float32.

    ``early`` (n, e) are pooled outputs of early layers; None if no guard reads them, or if the model has no such layer.
    ``views`` (n, v, k) are the logits of v views of each row; None if no guard reads views.
    """

    logits: Tensor
    features: Tensor
    early: Tensor | None = None
    views: Tensor | None = None

    def __getitem__(self, rows: slice | Tensor) -> "ModelOutput":
        """Take some of the rows: a slice, or an index (m,)."""
        early, views = (None if part is None else part[rows] for part in (self.early, self.views))
        return ModelOutput(self.logits[rows], self.features[rows], early, views)

    @classmethod
    def join(cls, parts: "Sequence[ModelOutput]") -> "ModelOutput":
        """Concatenate outputs, in order; either all outputs have early features, or none has; the same with views."""
        early = [part.early for part in parts if part.early is not None]
        views = [part.views for part in parts if part.views is not None]
        return cls(
            torch.cat([part.logits for part in parts]),
            torch.cat([part.features for part in parts]),
            torch.cat(early) if early else None,
            torch.cat(views) if views else None,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Decoded rows: ``x`` (n, ...) float32, with NaN for missing values and -1 for unseen categories.

    ``groups`` holds level codes (n,) int64 by attribute, for attributes that come with the request.
    ``output`` is None until the model has run. ``draws`` (n,) float32 are the rows' uniform draws for randomised
    prediction sets (:func:`guards.calibration.draws.uniform_draws`), None if no set is randomised. ``memo`` caches
    values that were computed from exactly these rows: if two monitors need the same statistic, only the first computes
    it. A part of a batch has an empty memo.
    """

    x: Tensor
    groups: Mapping[str, Tensor] = field(default_factory=dict)
    output: ModelOutput | None = None
    draws: Tensor | None = None
    memo: dict[Any, Any] = field(default_factory=dict, init=False, repr=False)

    def __len__(self) -> int:
        """Count the rows."""
        return self.x.shape[0]

    def __getitem__(self, rows: slice | Tensor) -> "Batch":
        """Take some of the rows: a slice, or an index (m,)."""
        output = self.output
        return Batch(
            x=self.x[rows],
            groups={name: codes[rows] for name, codes in self.groups.items()},
            output=None if output is None else output[rows],
            draws=None if self.draws is None else self.draws[rows],
        )

    @classmethod
    def join(cls, parts: "Sequence[Batch]") -> "Batch":
        """Concatenate batches, in order; either all batches have an output, or none has; the same holds for draws."""
        if len(parts) == 1:
            return parts[0]
        outputs = [part.output for part in parts if part.output is not None]
        draws = [part.draws for part in parts if part.draws is not None]
        return cls(
            x=torch.cat([part.x for part in parts]),
            groups={name: torch.cat([part.groups[name] for part in parts]) for name in parts[0].groups},
            output=ModelOutput.join(outputs) if outputs else None,
            draws=torch.cat(draws) if draws else None,
        )
