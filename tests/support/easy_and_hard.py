"""A table on which a model is right by kind of row, for tests of the suitability monitor."""

from typing import Any

import torch
from torch import Tensor

from guards import Batch, Result
from guards.input.column import Column
from guards.input.schema import InputSchema
from guards.monitors.base import Context
from guards.monitors.suitability.monitor import Suitability
from guards.monitors.suitability.params import SuitabilityParams
from guards.types import ModelOutput, Prediction, Reference, Verdict

KINDS = ("easy", "hard")
RIGHT = (0.95, 0.65)
CONFIDENCE = 0.8
"""The model is as sure of hard rows as of easy rows."""
COLUMNS = (
    Column(name="kind", kind="categorical", categories=KINDS),
    Column(name="size", kind="numeric"),
    Column(name="weight", kind="numeric"),
)
CONTEXT = Context(InputSchema(kind="tabular", shape=(3,), columns=COLUMNS), ("no", "yes"), ())


def rows(count: int, seed: int, *, hard: float = 0.5, yes: float = 0.5, apart: float = 0.3) -> tuple[Tensor, Tensor]:
    """Draw rows (n, 3) and classes (n,): a share ``hard`` of hard rows, and a share ``yes`` of class 1.

    The weight is the size but for noise with the deviation ``apart``. The class shows in both, so that a model can be
    right, and nothing else does.
    """
    generator = torch.Generator().manual_seed(seed)
    y = (torch.rand(count, generator=generator) < yes).long()
    kind = (torch.rand(count, generator=generator) < hard).float()
    size = torch.randn(count, generator=generator) + y
    weight = size + apart * torch.randn(count, generator=generator)
    return torch.stack([kind, size, weight], dim=1), y


def outcome(x: Tensor, y: Tensor, seed: int = 0, *, right: tuple[float, float] = RIGHT) -> Result:
    """Answer rows: right with the probability of their kind, with one confidence for all."""
    generator = torch.Generator().manual_seed(1000 + seed)
    chance = torch.where(x[:, 0] == 1, right[1], right[0])
    label = torch.where(torch.rand(len(x), generator=generator) < chance, y, 1 - y)
    probabilities = torch.full((len(x), 2), 1 - CONFIDENCE).scatter(1, label[:, None], CONFIDENCE)
    none = torch.zeros((0, len(x)))
    verdict = Verdict((), none, none, none.bool(), None, torch.zeros(len(x), dtype=torch.int64), {})
    return Result(ModelOutput(probabilities.log(), x.nan_to_num()), Prediction(probabilities, label), verdict)


def monitor(count: int = 6000, *, labelled: bool = True, seed: int = 1, **params: Any) -> Suitability:
    """Fit the monitor to rows of which half are hard."""
    x, y = rows(count, seed)
    made = SuitabilityParams.model_validate({"name": "suitable", "window": 2000, **params})
    reference = Reference(Batch(x), y if labelled else None, CONTEXT.schema)
    return Suitability(made, CONTEXT).fit(reference, outcome(x, y, seed))


def feed(watching: Suitability, x: Tensor, y: Tensor, *, size: int = 500) -> None:
    """Let the monitor observe rows in batches."""
    for start in range(0, len(x), size):
        part = slice(start, start + size)
        watching.observe(Batch(x[part]), outcome(x[part], y[part], start))
