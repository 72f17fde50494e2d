"""What a schema declares about the columns of a row, and the columns' names."""

import math
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from guards.input.schema import InputSchema

__all__ = ["DeclaredBounds"]


@dataclass(frozen=True, slots=True, eq=False)
class DeclaredBounds:
    """The declared bounds of d columns, each (d,).

    The columns of a tensor are its elements, and the columns of an image are the darkest and the brightest value of
    each channel. ``low`` and ``high`` are NaN if nothing is declared; ``present`` says that a value may not be missing.
    """

    names: tuple[str, ...]
    low: Tensor
    high: Tensor
    present: Tensor
    categorical: Tensor

    @classmethod
    def of(cls, schema: InputSchema) -> Self:
        """Read a schema."""
        nan = math.nan
        if schema.kind == "tabular":
            columns = schema.columns
            low = [
                0.0 if column.categories_declared else nan if column.minimum is None else column.minimum
                for column in columns
            ]
            high = [nan if column.maximum is None else column.maximum for column in columns]
            present = [column.nullable is False for column in columns]
            return cls(schema.names, torch.tensor(low), torch.tensor(high), torch.tensor(present), schema.categorical)
        image = schema.kind == "image"
        if image:
            names = tuple(f"{end}:{channel}" for end in ("darkest", "brightest") for channel in range(schema.shape[0]))
        else:
            names = tuple(_element(index, schema.shape) for index in range(math.prod(schema.shape)))
        d = len(names)
        low, high = ([0.0] * d, [1.0] * d) if image else ([nan] * d, [nan] * d)
        return cls(
            names, torch.tensor(low), torch.tensor(high), torch.tensor([True] * d), torch.zeros(d, dtype=torch.bool)
        )

    def completed(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Take bounds that are not declared from the rows x (n, d): the low and high bound and the width, each (d,)."""
        missing = x.isnan()
        # A column that is always missing has no bounds of its own.
        empty = missing.all(0)
        seen_low = torch.where(empty, -math.inf, torch.where(missing, math.inf, x).amin(0))
        seen_high = torch.where(empty, math.inf, torch.where(missing, -math.inf, x).amax(0))
        declared_low, declared_high = self.low.to(x.device), self.high.to(x.device)
        low = torch.where(declared_low.isnan(), seen_low, declared_low)
        high = torch.where(declared_high.isnan(), seen_high, declared_high)
        width = torch.maximum(seen_high - seen_low, 1e-6 * seen_low.abs().clamp_min(1.0))
        # An unseen category is -1: below the bound 0, and the infinite width makes its excess 0.
        categorical = self.categorical.to(x.device)
        return (
            torch.where(categorical, 0.0, low),
            torch.where(categorical, math.inf, high),
            torch.where(categorical, math.inf, torch.where(width.isfinite(), width, 1.0)),
        )


def _element(index: int, shape: tuple[int, ...]) -> str:
    places = []
    for size in reversed(shape):
        index, place = divmod(index, size)
        places.append(str(place))
    return f"[{','.join(reversed(places))}]"
