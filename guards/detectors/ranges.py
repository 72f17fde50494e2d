"""Is the input sound? Values out of bounds, missing, or of a category nobody has seen."""

import math
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor

from guards.detector import Detector, Params
from guards.schema import InputSchema
from guards.types import Batch, Reference

__all__ = ["Ranges", "RangesParams"]


class RangesParams(Params):
    """The ranges detector takes its bounds from the input schema, and from the reference where none is declared."""

    kind: Literal["ranges"] = "ranges"


class Ranges(Detector):
    """The surprise of a row's faults, in nats, summed over its columns.

    A missing value counts -log of how often it was missing in the reference, an unseen category and a value out of
    bounds -log of "never in n rows", and a value out of bounds log(1 + its excess in widths of the range) on top, so
    that a slip of unit weighs more than a new record. A sound row scores 0. A tensor's columns are its elements; an
    image's are the darkest and the brightest value of each channel, bounded by [0, 1].
    """

    Params: ClassVar[type[Params]] = RangesParams
    low: Tensor
    high: Tensor
    width: Tensor
    missing_surprise: Tensor
    never: Tensor
    categorical: Tensor
    declared_low: Tensor
    declared_high: Tensor
    declared_categories: Tensor
    declared_present: Tensor
    image: Tensor
    _names: tuple[str, ...] = ()

    def __init__(self, params: RangesParams) -> None:
        super().__init__()
        self.params = params
        for name in (
            "low", "high", "width", "missing_surprise", "never", "categorical",
            "declared_low", "declared_high", "declared_categories", "declared_present",
        ):  # fmt: skip
            self.register_buffer(name, torch.empty(0))
        self.register_buffer("image", torch.zeros((), dtype=torch.bool))
        self._pools: bool | None = None

    def fit(self, reference: Reference) -> Self:
        """Learn bounds and the rate of missing values, column by column."""
        self._declare(reference.schema)
        self.to(reference.batch.x.device)
        x = self._columns(reference.batch.x)
        n = len(x)
        missing = x.isnan()
        self.missing_surprise = -torch.log((missing.sum(0) + 1) / (n + 2))
        self.never = torch.tensor(math.log(n + 1), device=x.device)
        seen_low = torch.where(missing, math.inf, x).amin(0)
        seen_high = torch.where(missing, -math.inf, x).amax(0)
        # A column that is always missing has no bounds of its own.
        empty = missing.all(0)
        seen_low = torch.where(empty, -math.inf, seen_low)
        seen_high = torch.where(empty, math.inf, seen_high)
        self.low = torch.where(self.declared_low.isnan(), seen_low, self.declared_low)
        self.high = torch.where(self.declared_high.isnan(), seen_high, self.declared_high)
        width = torch.maximum(seen_high - seen_low, 1e-6 * torch.maximum(seen_low.abs(), torch.ones_like(seen_low)))
        self.width = torch.where(width.isfinite(), width, 1.0)
        return self

    def _declare(self, schema: InputSchema) -> None:
        """Take what the schema declares, and name the causes."""
        image = schema.kind == "image"
        self.image, self._pools = torch.tensor(image), image
        if schema.kind == "tabular":
            columns, nan = schema.columns, math.nan
            self._names = schema.names
            self.categorical = schema.categorical
            low = [nan if column.minimum is None else column.minimum for column in columns]
            high = [nan if column.maximum is None else column.maximum for column in columns]
            self.declared_categories = torch.tensor([column.categories_declared for column in columns])
            self.declared_present = torch.tensor([column.nullable is False for column in columns])
        else:
            if image:
                self._names = tuple(f"{end}:{c}" for end in ("darkest", "brightest") for c in range(schema.shape[0]))
            else:
                self._names = tuple(_element(index, schema.shape) for index in range(math.prod(schema.shape)))
            d = len(self._names)
            low, high = ([0.0] * d, [1.0] * d) if image else ([math.nan] * d, [math.nan] * d)
            self.categorical = torch.zeros(d, dtype=torch.bool)
            self.declared_categories = torch.zeros(d, dtype=torch.bool)
            self.declared_present = torch.ones(d, dtype=torch.bool)
        self.declared_low, self.declared_high = torch.tensor(low), torch.tensor(high)

    def score(self, batch: Batch) -> Tensor:
        """Sum the surprise of every fault of a row."""
        x = self._columns(batch.x)
        excess = torch.relu(torch.maximum(self.low - x, x - self.high)) / self.width
        surprise = torch.where(self._strange(x), self.never + torch.log1p(torch.where(x.isnan(), 0.0, excess)), 0.0)
        surprise = torch.where(self.categorical & (x < 0), self.never, surprise)
        return torch.where(x.isnan(), self.missing_surprise, surprise).sum(1)

    def causes(self, batch: Batch) -> Tensor:
        """Mark the columns with a fault."""
        x = self._columns(batch.x)
        return x.isnan() | self._strange(x)

    def cause_names(self) -> tuple[str, ...]:
        """Name the columns, elements or ends of the channels."""
        return self._names

    def violations(self, batch: Batch) -> Tensor:
        """Mark rows that break what the config declares: a bound, the categories, or that nothing is missing."""
        x = self._columns(batch.x)
        broken = (x < self.declared_low) | (x > self.declared_high)  # no bound is NaN, and compares false
        broken |= self.declared_categories & (x < 0)
        broken |= self.declared_present & x.isnan()
        return broken.any(1)

    def _strange(self, x: Tensor) -> Tensor:
        return torch.where(self.categorical, x < 0, (x < self.low) | (x > self.high))

    def _columns(self, x: Tensor) -> Tensor:
        if self._pools is None:  # read from the device once, after a bundle was loaded
            self._pools = bool(self.image)
        if self._pools:
            return torch.cat([x.amin((2, 3)), x.amax((2, 3))], dim=1)
        return x.flatten(1)


def _element(index: int, shape: tuple[int, ...]) -> str:
    places = []
    for size in reversed(shape):
        index, place = divmod(index, size)
        places.append(str(place))
    return f"[{','.join(reversed(places))}]"
