"""Detects faulty input: values that are impossible, missing or in another unit, odd combinations, and broken rules."""

import math
from typing import ClassVar, Self

import torch
from torch import Tensor

from guards.detectors.base import Detector, Params
from guards.detectors.input_quality.combinations import Combinations, Lifts
from guards.detectors.input_quality.declared_bounds import DeclaredBounds
from guards.detectors.input_quality.familiar_values import FamiliarValues
from guards.detectors.input_quality.likely_mistakes import LikelyMistakes
from guards.detectors.input_quality.ranges_params import LEAST_ROWS, RangesParams
from guards.detectors.input_quality.sound_bounds import SoundBounds
from guards.detectors.rules.row_rules import RowRules
from guards.host_arrays import is_on_host
from guards.input.schema import InputSchema
from guards.types import Batch, Finding, Reference

__all__ = ["Ranges", "RangesParams"]

ODD_PATTERN = "an unusual pattern of missing values"


class Ranges(Detector):
    """The surprise of a row's faults or of its combination of values, in nats, whichever is larger.

    A missing value counts -log of the share of missing values in the reference's column. An unseen category, or a value
    out of bounds, counts log(n + 1), for an event that did not occur in n rows. A value out of bounds counts
    log(1 + excess / width of the range) in addition, so that a wrong unit weighs more than a value just above the
    maximum. :class:`FamiliarValues` says what a number counts that the column never has. A broken rule counts -log of
    the share of reference rows that break the rule. Faults add up. :class:`Combinations` says how surprising an odd
    combination is, of missing values too; then a missing value by itself counts nothing. The columns of a tensor are
    its elements. The columns of an image are the darkest and the brightest value of each channel, with the bounds 0
    and 1.
    """

    Params: ClassVar[type[Params]] = RangesParams
    blind_spots: ClassVar[str] = (
        "A wrong value that is usual in its column, and fits the row's other values, passes: so do many rounded "
        "values in another unit. Combinations are judged in tables alone, and only in tables of at least 100 training "
        "rows. Of an image it sees the darkest and the brightest values alone. A bound that is not declared comes from "
        "the training rows, with whatever errors they hold."
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
    rule_surprise: Tensor

    def __init__(self, params: RangesParams) -> None:
        """Prepare an unfitted detector.

        Raises:
            ValueError: a rule cannot be read.
        """
        super().__init__()
        self.params = params
        for name in (
            *("low", "high", "width", "missing_surprise", "never"),
            *("declared_low", "declared_high", "rule_surprise"),
        ):
            self.register_buffer(name, torch.empty(0))
        for name in ("declared_present", "image"):
            self.register_buffer(name, torch.empty(0, dtype=torch.bool))
        self.familiar, self.mistakes = FamiliarValues(), LikelyMistakes()
        self.rules, self.combinations = RowRules(params.rules), Combinations()
        self._names: tuple[str, ...] = ()
        self._shortcuts: tuple[bool, bool, bool] | None = None
        self._bounds: SoundBounds | None = None

    def check_schema(self, schema: InputSchema) -> None:
        """Refuse rules that do not fit the columns, and parameters that need a table.

        Raises:
            ValueError: a rule does not fit, or there is no table.
        """
        if schema.kind != "tabular" and (self.params.rules or self.params.combinations):
            raise ValueError(
                f"ranges has rules and combinations for a table, and the input is of kind {schema.kind}: leave both out"
            )
        self.rules.check(schema)

    def fit(self, reference: Reference) -> Self:
        """Learn bounds, familiar values, the rate of missing values and the combinations of values.

        Raises:
            ValueError: the schema is refused, or there are too few rows for the combinations that are asked for.
        """
        schema = reference.schema
        self.check_schema(schema)
        declared = DeclaredBounds.of(schema)
        self._names = declared.names
        self.image = torch.tensor(schema.kind == "image")
        self.declared_low, self.declared_high, self.declared_present = declared.low, declared.high, declared.present
        self._shortcuts = self._bounds = None
        self.to(reference.batch.x.device)
        x = self._columns(reference.batch.x)
        n, missing = len(x), x.isnan()
        self.missing_surprise = -torch.log((missing.sum(0) + 1) / (n + 2))
        self.never = torch.tensor(math.log(n + 1), device=x.device)
        self.low, self.high, self.width = declared.completed(x)
        if schema.kind == "tabular":
            self._fit_table(x, schema, declared.categorical.to(x.device))
        return self

    def _fit_table(self, x: Tensor, schema: InputSchema, categorical: Tensor) -> None:
        self.familiar.fit(x, categorical)
        self.mistakes.fit(x, schema.columns)
        self.rules.fit(schema).to(x.device)
        if len(self.rules):
            self.rule_surprise = -torch.log((self.rules.broken(x).sum(0) + 1) / (len(x) + 2))
        self._names += (*self.mistakes.names, ODD_PATTERN, *self.rules.names)
        wanted = len(x) >= LEAST_ROWS if self.params.combinations is None else self.params.combinations
        if wanted and len(x) < LEAST_ROWS:
            few = f"ranges learns combinations from at least {LEAST_ROWS} reference rows, and there are {len(x)}"
            raise ValueError(f"{few}: give more rows, or leave `combinations` out")
        if wanted:
            self.combinations.fit(x, categorical)

    def examine(self, batch: Batch, *, causes: bool) -> Finding:
        """Find the faults once, and sum their surprise."""
        sound = is_on_host(batch.x) and self._sound_bounds().hold(batch.x.numpy())
        if sound and not self._is_table:
            return self._sound(batch.x, causes=causes)
        x = self._columns(batch.x)
        missing = x.isnan()
        score, faulty = (x.new_zeros(len(x)), None) if sound else self._faults(x, missing)
        broken = None
        if len(self.rules):
            broken = self.rules.broken(x)
            score = score + torch.where(broken, self.rule_surprise, 0.0).sum(1)
        lifts = None
        if self.combinations.fitted:
            lifts = self.combinations.lifts(x, missing)
            score = torch.maximum(score, self.combinations.surprise(lifts))
        return Finding(
            score=score,
            violated=self._violated(x, missing, broken),
            causes=self._causes(x, missing, faulty, broken, lifts) if causes else None,
        )

    def _faults(self, x: Tensor, missing: Tensor) -> tuple[Tensor, Tensor]:
        """Sum the surprise of each row's faults (n,), and mark the faulty values (n, d) that are not missing."""
        excess = (x - x.clamp(self.low, self.high)).abs_()
        outside = excess > 0
        unfamiliar = self.familiar(x, missing) if self._is_table else torch.zeros_like(x)
        surprise = torch.where(outside, excess.div_(self.width).log1p_() + self.never, unfamiliar)
        if not self.combinations.fitted:
            surprise = torch.where(missing, self.missing_surprise, surprise)
        return surprise.sum(1), outside | (unfamiliar > 0)

    def _causes(
        self, x: Tensor, missing: Tensor, faulty: Tensor | None, broken: Tensor | None, lifts: Lifts | None
    ) -> Tensor:
        """Mark columns, likely mistakes, the pattern of missing values and rules, in the order of their names.

        ``faulty`` is None if no value is faulty, and ``lifts`` are the lifts of the rows as they are.
        """
        strange = torch.zeros_like(missing) if faulty is None else faulty
        if not self._is_table:
            return missing | strange
        pattern, doubtful = missing.new_zeros((len(x), 1)), strange
        if lifts is not None:
            if faulty is not None:  # a faulty value would make the values odd that go with it
                lifts = self.combinations.lifts(x.masked_fill(faulty, torch.nan), missing)
            odd, strangest = self.combinations.odd_values(lifts)
            # One row of a hundred has an odd value without a mistake.
            strange, doubtful = strange | odd, strange | strangest
            pattern = self.combinations.odd_pattern(lifts)[:, None]
            # Values that are often missing like this explain nothing, unless nothing else does.
            explained = strange.any(1) if broken is None else strange.any(1) | broken.any(1)
            missing = missing & (pattern | ~explained[:, None])
        parts = [missing | strange, self.mistakes(x, doubtful, strange, self.familiar), pattern]
        return torch.cat(parts if broken is None else [*parts, broken], dim=1)

    def _sound(self, x: Tensor, *, causes: bool) -> Finding:
        """Give the finding of sound rows, without the computation that other rows need."""
        n, (_, bounded, required) = len(x), self._shortcut()
        return Finding(
            score=x.new_zeros(n),
            violated=torch.zeros(n, dtype=torch.bool) if bounded or required else None,
            causes=torch.zeros((n, len(self.low)), dtype=torch.bool) if causes else None,
        )

    def score(self, batch: Batch) -> Tensor:
        """Sum the surprise of every fault of a row, or take the surprise of its combination if that is larger."""
        return self.examine(batch, causes=False).score

    def causes(self, batch: Batch) -> Tensor | None:
        """Mark the columns with a fault or an odd value, the likely mistakes, and the broken rules."""
        return self.examine(batch, causes=True).causes

    def violations(self, batch: Batch) -> Tensor | None:
        """Mark rows that break a declaration: a bound, the categories, ``nullable: false``, or a rule."""
        return self.examine(batch, causes=False).violated

    def _violated(self, x: Tensor, missing: Tensor, rules: Tensor | None) -> Tensor | None:
        _, bounded, required = self._shortcut()
        marks = [] if rules is None else [rules.any(1)]
        if bounded:  # an undeclared bound is NaN, and compares false
            marks.append(((x < self.declared_low) | (x > self.declared_high)).any(1))
        if required:
            marks.append((missing & self.declared_present).any(1))
        return torch.stack(marks).any(0) if marks else None

    def cause_names(self) -> tuple[str, ...]:
        """Name the columns, elements or ends of the channels, and for a table the mistakes and the rules."""
        return self._names

    def _columns(self, x: Tensor) -> Tensor:
        if self._shortcut()[0]:
            return torch.cat([x.amin((2, 3)), x.amax((2, 3))], dim=1)
        return x.flatten(1)

    def _sound_bounds(self) -> SoundBounds:
        """Give the bounds of sound rows; the buffers are read once."""
        if self._bounds is None:
            self._bounds = SoundBounds(
                learned=(self.low, self.high),
                declared=(self.declared_low, self.declared_high),
                image=self._shortcut()[0],
                familiar=self.familiar,
                missing_is_sound=self.combinations.fitted,
            )
        return self._bounds

    @property
    def _is_table(self) -> bool:
        """Whether there is more to judge than bounds: not of tensors and images."""
        return len(self.familiar.steps) > 0

    def _shortcut(self) -> tuple[bool, bool, bool]:
        """Return whether rows are images, a bound is declared, and a value is required; the device is read once."""
        if self._shortcuts is None:
            bounded = not (self.declared_low.isnan() & self.declared_high.isnan()).all()
            self._shortcuts = bool(self.image), bounded, bool(self.declared_present.any())
        return self._shortcuts
