"""Detects faulty input: values that are out of bounds or missing, and categories that the reference lacks."""

import math
from typing import ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from guards.detectors.base import Detector, Params
from guards.host_arrays import is_on_host
from guards.input.schema import InputSchema
from guards.types import Batch, Finding, Reference

__all__ = ["Ranges", "RangesParams"]

Floats = npt.NDArray[np.float32]


class RangesParams(Params):
    """The ranges detector has nothing to set: its bounds are the declared bounds, or else those of the reference."""

    kind: Literal["ranges"] = "ranges"


class SoundBounds:
    """Checks whether every value of every row lies within the bounds (d,) of its column: only then is a row sound."""

    def __init__(self, low: Floats, high: Floats, *, image: bool) -> None:
        self._low, self._high, self._image = low, high, image

    def hold(self, x: Floats) -> bool:
        """Return whether no value of the rows x (n, ...) is missing or out of bounds."""
        if not x.size:
            return False
        if self._image:
            flat = x.reshape(*x.shape[:2], -1)
            x = np.concatenate((np.minimum.reduce(flat, axis=2), np.maximum.reduce(flat, axis=2)), axis=1)
        else:
            x = x.reshape(len(x), -1)
        inside = (x >= self._low) & (x <= self._high)  # a missing value is NaN, and compares false
        return bool(np.logical_and.reduce(inside, axis=None))


class Ranges(Detector):
    """The surprise of a row's faults, in nats, summed over its columns.

    A missing value counts -log of the share of missing values in the reference's column. An unseen category, or a value
    out of bounds, counts log(n + 1), for an event that did not occur in n rows. A value out of bounds counts
    log(1 + excess / width of the range) in addition, so that a wrong unit weighs more than a value just above the
    maximum. A row without faults is sound, and scores 0. The columns of a tensor are its elements. The columns of an
    image are the darkest and the brightest value of each channel, with the bounds 0 and 1.
    """

    Params: ClassVar[type[Params]] = RangesParams
    blind_spots: ClassVar[str] = (
        "It looks at one value at a time: a wrong value inside the column's usual range passes, and so does an odd "
        "combination of usual values. Of an image it sees the darkest and the brightest values alone. A bound that is "
        "not declared comes from the training rows, with whatever errors they hold."
    )
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
        self._bounds: SoundBounds | None = None

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
        # An unseen category is -1: below the bound 0, and the infinite width makes its excess 0.
        categorical = categorical.to(x.device)
        self.low = torch.where(categorical, 0.0, low)
        self.high = torch.where(categorical, math.inf, high)
        self.width = torch.where(categorical, math.inf, torch.where(width.isfinite(), width, 1.0))
        self._shortcuts = self._bounds = None
        return self

    def _declare(self, schema: InputSchema) -> Tensor:
        """Take the schema's declared bounds, name the causes, and return which columns are categorical (d,)."""
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
        self._shortcuts = self._bounds = None
        return categorical

    def examine(self, batch: Batch, *, causes: bool) -> Finding:
        """Find the faults once, and sum their surprise."""
        if is_on_host(batch.x) and self._sound_bounds().hold(batch.x.numpy()):
            return self._sound(batch.x, causes=causes)
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

    def _sound(self, x: Tensor, *, causes: bool) -> Finding:
        """Give the finding of sound rows, without the computation that other rows need."""
        n, (_, bounded, required) = x.shape[0], self._shortcut()
        return Finding(
            score=x.new_zeros(n),
            violated=torch.zeros(n, dtype=torch.bool) if bounded or required else None,
            causes=torch.zeros((n, len(self.low)), dtype=torch.bool) if causes else None,
        )

    def score(self, batch: Batch) -> Tensor:
        """Sum the surprise of every fault of a row."""
        return self.examine(batch, causes=False).score

    def causes(self, batch: Batch) -> Tensor | None:
        """Mark the columns with a fault."""
        return self.examine(batch, causes=True).causes

    def violations(self, batch: Batch) -> Tensor | None:
        """Mark rows that break a declaration of the config: a bound, the categories, or ``nullable: false``."""
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

    def _sound_bounds(self) -> "SoundBounds":
        """Give the bounds of sound rows; the buffers are read once."""
        if self._bounds is None:
            low, high = (
                torch.where(declared.isnan(), own, pick(own, declared)).cpu().numpy()
                for own, declared, pick in (
                    (self.low, self.declared_low, torch.maximum),
                    (self.high, self.declared_high, torch.minimum),
                )
            )
            self._bounds = SoundBounds(low, high, image=self._shortcut()[0])
        return self._bounds

    def _shortcut(self) -> tuple[bool, bool, bool]:
        """Return whether rows are images, a bound is declared, and a value is required; the device is read once."""
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
