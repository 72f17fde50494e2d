"""Is the input sound? Values out of bounds, missing, or of a category nobody has seen."""

import math
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor

from guards.detector import Detector, Params
from guards.schema import InputSchema
from guards.types import Batch, Finding, Reference

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
    declared_low: Tensor
    declared_high: Tensor
    declared_present: Tensor
    image: Tensor

    def __init__(self, params: RangesParams) -> None:
        super().__init__()
        self.params = params
        for name in (
            "low", "high", "width", "missing_surprise", "never",
            "declared_low", "declared_high", "declared_present", "image",
        ):  # fmt: skip
            self.register_buffer(name, torch.empty(0))
        self._names: tuple[str, ...] = ()
        self._shortcuts: tuple[bool, bool, bool] | None = None

    def fit(self, reference: Reference) -> Self:
        """Learn bounds and the rate of missing values, column by column."""
        categorical = self._declare(reference.schema)
        self.to(reference.batch.x.device)
        x = self._columns(reference.batch.x)
        n = len(x)
        missing = x.isnan()
        self.missing_surprise = -torch.log((missing.sum(0) + 1) / (n + 2))
        self.never = torch.tensor(math.log(n + 1), device=x.device)
        # A column that is always missing has no bounds of its own.
        empty = missing.all(0)
        seen_low = torch.where(empty, -math.inf, torch.where(missing, math.inf, x).amin(0))
        seen_high = torch.where(empty, math.inf, torch.where(missing, -math.inf, x).amax(0))
        low = torch.where(self.declared_low.isnan(), seen_low, self.declared_low)
        high = torch.where(self.declared_high.isnan(), seen_high, self.declared_high)
        width = torch.maximum(seen_high - seen_low, 1e-6 * torch.maximum(seen_low.abs(), torch.ones_like(seen_low)))
        # An unseen category is -1: below the bound, by an excess of nothing.
        categorical = categorical.to(x.device)
        self.low = torch.where(categorical, 0.0, low)
        self.high = torch.where(categorical, math.inf, high)
        self.width = torch.where(categorical, math.inf, torch.where(width.isfinite(), width, 1.0))
        self._shortcuts = None
        return self

    def _declare(self, schema: InputSchema) -> Tensor:
        """Take what the schema declares, name the causes, and tell which columns are categorical."""
        nan = math.nan
        if schema.kind == "tabular":
            columns = schema.columns
            self._names = schema.names
            low = [
                0.0 if column.categories_declared else nan if column.minimum is None else column.minimum
                for column in columns
            ]
            high = [nan if column.maximum is None else column.maximum for column in columns]
            present = [column.nullable is False for column in columns]
            categorical = schema.categorical
        else:
            image = schema.kind == "image"
            if image:
                self._names = tuple(f"{end}:{c}" for end in ("darkest", "brightest") for c in range(schema.shape[0]))
            else:
                self._names = tuple(_element(index, schema.shape) for index in range(math.prod(schema.shape)))
            d = len(self._names)
            low, high = ([0.0] * d, [1.0] * d) if image else ([nan] * d, [nan] * d)
            present = [True] * d
            categorical = torch.zeros(d, dtype=torch.bool)
        self.image = torch.tensor(schema.kind == "image")
        self.declared_low, self.declared_high = torch.tensor(low), torch.tensor(high)
        self.declared_present = torch.tensor(present)
        self._shortcuts = None
        return categorical

    def examine(self, batch: Batch, *, causes: bool) -> Finding:
        """Find the faults once, and sum their surprise."""
        x = self._columns(batch.x)
        missing = x.isnan()
        outside = (x < self.low) | (x > self.high)
        excess = torch.maximum(self.low - x, x - self.high) / self.width
        surprise = torch.where(outside, self.never + torch.log1p(excess), 0.0)
        return Finding(
            score=torch.where(missing, self.missing_surprise, surprise).sum(1),
            violated=self._violated(x, missing),
            causes=missing | outside if causes else None,
        )

    def score(self, batch: Batch) -> Tensor:
        """Sum the surprise of every fault of a row."""
        return self.examine(batch, causes=False).score

    def causes(self, batch: Batch) -> Tensor | None:
        """Mark the columns with a fault."""
        return self.examine(batch, causes=True).causes

    def violations(self, batch: Batch) -> Tensor | None:
        """Mark rows that break what the config declares: a bound, the categories, or that nothing is missing."""
        return self.examine(batch, causes=False).violated

    def _violated(self, x: Tensor, missing: Tensor) -> Tensor | None:
        _, bounded, required = self._shortcut()
        broken = None
        if bounded:  # an undeclared bound is NaN, and compares false
            broken = (x < self.declared_low) | (x > self.declared_high)
        if required:
            absent = missing & self.declared_present
            broken = absent if broken is None else broken | absent
        return None if broken is None else broken.any(1)

    def cause_names(self) -> tuple[str, ...]:
        """Name the columns, elements or ends of the channels."""
        return self._names

    def _columns(self, x: Tensor) -> Tensor:
        if self._shortcut()[0]:
            return torch.cat([x.amin((2, 3)), x.amax((2, 3))], dim=1)
        return x.flatten(1)

    def _shortcut(self) -> tuple[bool, bool, bool]:
        """Tell, reading the device once, whether rows are images, any bound is declared, and any value is required."""
        if self._shortcuts is None:
            bounded = not (self.declared_low.isnan() & self.declared_high.isnan()).all()
            self._shortcuts = bool(self.image), bounded, bool(self.declared_present.any())
        return self._shortcuts


def _element(index: int, shape: tuple[int, ...]) -> str:
    places = []
    for size in reversed(shape):
        index, place = divmod(index, size)
        places.append(str(place))
    return f"[{','.join(reversed(places))}]"
