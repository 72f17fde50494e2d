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
LARGE = 65536


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

    @property
    def is_large(self) -> bool:
        """Whether it has so many probabilities that to write them takes long: to be done beside the event loop."""
        return self.probabilities is not None and self.probabilities.size > LARGE

    @classmethod
    def of(cls, outcome: Outcome) -> Self:
        """Copy an outcome to the host."""
        verdict, prediction = outcome.verdict, outcome.prediction
        violated = None if verdict.violated is None else verdict.violated.T
        names = tuple(verdict.causes)
        action, p_value, flagged, violations, probabilities, label, members, value, interval, *causes = _to_host(
            [
                verdict.action, verdict.p_value.T, verdict.flagged.T, violated, prediction.probabilities,
                prediction.label, prediction.members, prediction.value, prediction.interval,
                *(verdict.causes[name] for name in names),
            ]
        )  # fmt: skip
        assert action is not None  # noqa: S101 - these three are always there
        assert p_value is not None  # noqa: S101
        assert flagged is not None  # noqa: S101
        return cls(
            action=action,
            p_value=p_value,
            flagged=flagged,
            violated=violations,
            causes={name: marks for name, marks in zip(names, causes, strict=True) if marks is not None},
            probabilities=probabilities,
            label=label,
            members=members,
            value=value,
            interval=interval,
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
                    guard: np.concatenate([p.causes.get(guard, np.repeat(blank[guard], len(p), axis=0)) for p in parts])
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


def _to_host(tensors: Sequence[torch.Tensor | None]) -> list[Array | None]:
    """Copy tensors (n, ...) to the host; from a GPU as one, since every copy waits for the device."""
    if any(tensor is not None and tensor.is_cuda for tensor in tensors):
        return packed_to_host(tensors)
    return [None if tensor is None else tensor.numpy() for tensor in tensors]


def packed_to_host(tensors: Sequence[torch.Tensor | None]) -> list[Array | None]:
    """Copy tensors (n, ...) in one piece of float32, which holds every label, action and mark exactly."""
    present = [tensor for tensor in tensors if tensor is not None]
    rows = len(present[0])
    packed = torch.cat([tensor.reshape(rows, -1).float() for tensor in present], dim=1).cpu()
    widths = [tensor.numel() // rows for tensor in present]
    parts = iter(torch.split(packed, widths, dim=1))
    return [
        None if tensor is None else next(parts).reshape(tensor.shape).to(tensor.dtype).numpy() for tensor in tensors
    ]
