"""The space of an attack: which inputs of a row may change, in which units, and between which bounds."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from guards.attacks.target import Floats
from guards.input.schema import InputSchema
from guards.types import Mistake

__all__ = ["Rows", "Space"]

Rows = npt.NDArray[np.float32]
ENOUGH = 2
"""So many values of a column are needed for a standard deviation."""


@dataclass(frozen=True, slots=True, eq=False)
class Space:
    """Says how rows (n, *shape) may change: by ``unit`` (w,) times eps, between ``low`` and ``high`` (w,).

    w is the number of a row's values. ``unit`` is 0 for a value that no attack changes: a category. The unit of images
    is 1. The unit of a table's column, and of all values of a tensor, is the standard deviation in the attacked file.
    """

    shape: tuple[int, ...]
    unit: Floats
    low: Floats
    high: Floats
    image: bool

    @classmethod
    def of(cls, schema: InputSchema, rows: Rows) -> "Space":
        """Find the space of rows of a schema, by the rows (n, *shape) of the attacked file.

        Images stay within [0, 1], a column within its declared bounds, and everything else within the file's values.

        Raises:
            Mistake: a table has no numeric column that varies.
        """
        flat = rows.reshape(len(rows), -1).astype(np.float64)
        w = flat.shape[1]
        if schema.kind == "image":
            return cls(schema.shape, np.ones(w), np.zeros(w), np.ones(w), image=True)
        if schema.kind == "tensor":
            ends = np.full(w, flat.min()), np.full(w, flat.max())
            return cls(schema.shape, np.full(w, flat.std()), *ends, image=False)
        unit, low, high = np.zeros(w), np.full(w, -np.inf), np.full(w, np.inf)
        for place, column in enumerate(schema.columns):
            values = flat[:, place][~np.isnan(flat[:, place])]
            if column.kind == "numeric" and len(values) >= ENOUGH:
                unit[place] = values.std()
                low[place] = values.min() if column.minimum is None else column.minimum
                high[place] = values.max() if column.maximum is None else column.maximum
        if not unit.any():
            raise Mistake("attack: the rows have no numeric column that varies, and attacks change no category")
        return cls(schema.shape, unit, low, high, image=False)

    def free(self, row: Rows) -> npt.NDArray[np.bool_]:
        """Mark the values (w,) of a row that may change: missing values stay missing."""
        return (self.unit > 0) & ~np.isnan(row.reshape(-1))

    def bounds(self, row: Rows) -> tuple[Floats, Floats]:
        """Give the least and the largest change (d,) of a row's free values, in units; no change is always allowed."""
        free = self.free(row)
        value = row.reshape(-1)[free].astype(np.float64)
        low, high = (self.low[free] - value) / self.unit[free], (self.high[free] - value) / self.unit[free]
        return np.minimum(low, 0.0), np.maximum(high, 0.0)

    def changed(self, row: Rows, changes: Floats) -> Rows:
        """Apply changes (m, d) to a row: (m, *shape) float32. A change beyond the bounds is cut."""
        free, (low, high) = self.free(row), self.bounds(row)
        rows = np.repeat(row.reshape(1, -1), len(changes), axis=0)
        rows[:, free] += np.clip(changes, low, high) * self.unit[free]
        return rows.reshape(len(changes), *self.shape)

    def between(self, row: Rows, others: Rows) -> Floats:
        """Give the changes (s, d) that turn a row's free values into those of other rows (s, ...), where known."""
        free, (low, high) = self.free(row), self.bounds(row)
        flat = others.reshape(len(others), len(self.unit))[:, free].astype(np.float64)
        changes = (flat - row.reshape(-1)[free].astype(np.float64)) / self.unit[free]
        return np.clip(np.nan_to_num(changes), low, high)

    def sizes(self) -> tuple[int, int, int] | None:
        """Give an image's channels, height and width; None for other rows."""
        return (self.shape[0], self.shape[1], self.shape[2]) if self.image else None

    def tensors(self, rows: Rows) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Give the units, and the lowest and the highest values, of rows (n, *shape), each in the rows' shape."""
        flat = rows.reshape(len(rows), -1).astype(np.float64)
        free = (self.unit > 0) & ~np.isnan(flat)
        unit = np.where(free, self.unit, 0.0)
        low, high = (np.where(free, side, flat) for side in (np.minimum(self.low, flat), np.maximum(self.high, flat)))
        unit_, low_, high_ = (torch.from_numpy(part.reshape(rows.shape)).float() for part in (unit, low, high))
        return unit_, low_, high_
