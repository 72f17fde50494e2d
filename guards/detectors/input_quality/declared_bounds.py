"""What a schema declares about the columns of a row, and the columns' names."""

import math
from dataclasses import dataclass
from typing import Self

from torch import Tensor, tensor, zeros
from torch import bool as boolean

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
            return cls(schema.names, tensor(low), tensor(high), tensor(present), schema.categorical)
        image = schema.kind == "image"
        if image:
            names = tuple(f"{end}:{channel}" for end in ("darkest", "brightest") for channel in range(schema.shape[0]))
        else:
            names = tuple(_element(index, schema.shape) for index in range(math.prod(schema.shape)))
        d = len(names)
        low, high = ([0.0] * d, [1.0] * d) if image else ([nan] * d, [nan] * d)
        return cls(names, tensor(low), tensor(high), tensor([True] * d), zeros(d, dtype=boolean))


def _element(index: int, shape: tuple[int, ...]) -> str:
    places = []
    for size in reversed(shape):
        index, place = divmod(index, size)
        places.append(str(place))
    return f"[{','.join(reversed(places))}]"
