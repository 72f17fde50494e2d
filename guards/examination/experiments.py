"""Puts the same rows into other batches, and compares the answers, which must be the same."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from guards.model.torch_model import TorchModel
from guards.types import Mistake

__all__ = ["Answers", "Deviation", "Experiment", "answers", "deviation", "experiments", "spaced"]

TOLERANCE = 1e-5
"""Tolerance of probabilities, and of values relative to the largest value: the contract promises it for all batches."""
FEATURES_TOLERANCE = 1e-4
"""Tolerance of features relative to the largest: guards turn features into p-values, which have no more digits."""


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """What a client and the guards see of rows: probabilities (n, k) or values (n, 1), and features (n, d)."""

    given: Tensor
    features: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Experiment:
    """Rows of the sample in another batch: ``rows`` (m, ...), of which the first ones are the sample's ``index``."""

    name: str
    rows: Tensor
    index: Tensor


@dataclass(frozen=True, slots=True)
class Deviation:
    """The largest difference: ``what`` differs (``probability``, ``value`` or ``features``), its size, and its row."""

    what: str
    size: float
    row: int

    def __str__(self) -> str:
        """Give the size and what differs, as a part of a sentence."""
        relative = "" if self.what == "probability" else " of the largest"
        size = f"{self.size:.2g}" if self.what == "probability" else f"{self.size:.2%}"
        return f"{size}{relative} in the {self.what}"


def spaced(rows: int, most: int) -> Tensor:
    """Give the numbers of at most ``most`` rows, but at least two, evenly spaced over a file that may be sorted."""
    return torch.linspace(0, rows - 1, max(2, min(most, rows))).round().long()


@torch.inference_mode()
def answers(model: TorchModel, rows: Tensor, *, classification: bool) -> Answers:
    """Run rows (n, ...) through the model, without compiling the model.

    Raises:
        Mistake: the answers or the features do not have one entry per row.
    """
    logits, features, *_ = model.eager(model.prepare(rows))
    if len(logits) != len(rows):
        raise Mistake(f"model: it returned {len(logits)} answers for {len(rows)} rows")
    if len(features) != len(rows):
        raise Mistake(f"model.features: {model.tap.layer!r} gave {len(features)} entries for {len(rows)} rows")
    return Answers(logits.softmax(1) if classification else logits, features)


def experiments(rows: Tensor, others: Tensor, sizes: list[int]) -> Iterator[Experiment]:
    """Put the sample's rows (n, ...) into other batches; ``others`` (n, ...) are other rows, or the same in reverse."""
    n = len(rows)
    index = torch.arange(n)
    yield Experiment("in reverse order", rows.flip(0), index.flip(0))
    yield Experiment("in another order", rows.roll(1, 0), index.roll(1))
    yield Experiment("beside other rows", torch.cat([rows[: n // 2 + 1], others]), index[: n // 2 + 1])
    yield Experiment("twice in one batch", rows[[0, 0]], index[[0, 0]])
    for row in sorted({0, n // 2, n - 1}):
        yield Experiment("alone", rows[row : row + 1], index[row : row + 1])
    for size in sizes:
        of = torch.arange(size) % n
        yield Experiment(f"in a batch of {size}", rows[of], of)


def deviation(base: Answers, found: Answers, index: Tensor, *, classification: bool) -> Deviation | None:
    """Compare the first answers of a batch with the earlier answers for the same rows; None if they are the same."""
    index = index.to(base.given.device)
    pairs = [
        ("probability" if classification else "value", base.given, found.given, TOLERANCE, classification),
        ("features", base.features, found.features, FEATURES_TOLERANCE, False),
    ]
    for what, known, new, tolerance, absolute in pairs:
        scale = 1.0 if absolute else max(float(known.abs().max()), torch.finfo(torch.float32).tiny)
        differs = (known[index].double() - new[: len(index)].double()).abs().flatten(1).amax(1) / scale
        if not bool((differs <= tolerance).all()):  # a NaN differs, too
            worst = int(differs.nan_to_num(float("inf")).argmax())
            return Deviation(what, float(differs[worst]), int(index[worst]))
    return None
