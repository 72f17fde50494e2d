"""What the pipeline said of a request's rows, as arrays on the host."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch

from guards.types import Outcome

__all__ = ["Answer"]

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """Rows first: ``action`` (n,), ``p_value`` and ``flagged`` (n, g), ``causes`` (n, c) by guard.

    Classification has ``probabilities`` (n, k), ``label`` (n,) and, where calibrated, ``members`` (n, k); regression
    has ``value`` (n,) and ``interval`` (n, 2).
    """

    action: Array
    p_value: Array
    flagged: Array
    violated: Array | None
    causes: Mapping[str, Array]
    probabilities: Array | None
    label: Array | None
    members: Array | None
    value: Array | None
    interval: Array | None

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.action)

    @classmethod
    def of(cls, outcome: Outcome) -> Self:
        """Copy an outcome to the host."""
        verdict, prediction = outcome.verdict, outcome.prediction
        return cls(
            action=_host(verdict.action),
            p_value=_host(verdict.p_value.T),
            flagged=_host(verdict.flagged.T),
            violated=None if verdict.violated is None else _host(verdict.violated.T),
            causes={name: _host(causes) for name, causes in verdict.causes.items()},
            probabilities=_optional(prediction.probabilities),
            label=_optional(prediction.label),
            members=_optional(prediction.members),
            value=_optional(prediction.value),
            interval=_optional(prediction.interval),
        )

    def rows(self, start: int, stop: int) -> Self:
        """Take the rows of one request."""
        return self._each(lambda part: part[start:stop])

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        """Put the pieces of a long request together again."""
        if len(parts) == 1:
            return parts[0]
        values: dict[str, Any] = {}
        for name in (field.name for field in fields(cls)):
            pieces = [getattr(part, name) for part in parts]
            if name == "causes":  # which a piece lacks where nobody asked, or where a guard crashed on all of it
                blank = {guard: causes[:1] & False for piece in pieces for guard, causes in piece.items()}
                values[name] = {
                    guard: np.concatenate(
                        [p.causes.get(guard, np.repeat(blank[guard], len(p), axis=0)) for p in parts]
                    )
                    for guard in blank
                }
            else:
                values[name] = None if pieces[0] is None else np.concatenate(pieces)
        return cls(**values)

    def _each(self, take: Any) -> Self:  # noqa: ANN401 - a function of any array
        values: dict[str, Any] = {}
        for name in (field.name for field in fields(self)):
            value = getattr(self, name)
            if name == "causes":
                values[name] = {guard: take(causes) for guard, causes in value.items()}
            else:
                values[name] = None if value is None else take(value)
        return type(self)(**values)


def _host(tensor: torch.Tensor) -> Array:
    array: Array = tensor.cpu().numpy()
    return array


def _optional(tensor: torch.Tensor | None) -> Array | None:
    return None if tensor is None else _host(tensor)
