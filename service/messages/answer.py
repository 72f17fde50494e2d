"""The engine's answer to the rows of a request, as numpy arrays."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
import numpy.typing as npt

__all__ = ["LEFT_OUT", "Answer"]

Array = npt.NDArray[Any]
LARGE = 65536
LEFT_OUT = -1.0
"""The p-value of a guard that was left out, because the server was under pressure; NaN if the guard crashed."""


@dataclass(slots=True, eq=False)
class Answer:
    """Rows first: ``action`` (n,), ``p_value`` and ``flagged`` (n, g), ``causes`` (n, c) by guard.

    Classification has ``probabilities`` (n, k) and ``label`` (n,), and ``members`` (n, k) if the bundle has prediction
    sets. Regression has ``value`` (n,) and, if the bundle has intervals, ``interval`` (n, 2). ``violated`` (n, g)
    marks rows beyond a declared bound; the engine counts these rows and does not send ``violated`` to a front.
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
        """Whether the answer has so many probabilities that writing them would block the event loop for too long."""
        return self.probabilities is not None and self.probabilities.size > LARGE

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
            if name == "causes":  # a piece has none if nobody asked for causes, or if the guard crashed on every row
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
