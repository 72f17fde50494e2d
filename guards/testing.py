"""Conformance checks for whoever writes a detector or a monitor: what every one of them owes the pipeline.

    from guards.testing import detector_conformance

    @detector_conformance(Nearest, NearestParams(neighbours=5), kinds=("image", "tensor"))
    class TestNearest: ...

gives the class one test method for each check and kind of input. They run under pytest or any other runner, and need
nothing but what the library itself needs.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from itertools import pairwise
from typing import Literal, NoReturn, TypeVar, get_args

import torch
from pydantic import ValidationError
from safetensors.torch import load, save
from torch import Tensor, nn

from guards.bundle import _named_state, _plain, _restored
from guards.calibration import Calibration
from guards.conformal import Classifier, Regressor
from guards.detector import Detector, Params
from guards.monitor import Context, Monitor, MonitorParams, Series, State
from guards.schema import Column, InputSchema
from guards.types import Batch, ModelOutput, Outcome, Reference, Verdict

__all__ = ["Example", "detector_checks", "detector_conformance", "example", "monitor_checks", "monitor_conformance"]

Kind = Literal["tabular", "image", "tensor"]
Task = Literal["classification", "regression"]
KINDS: tuple[Kind, ...] = get_args(Kind)
SHAPES: dict[Kind, tuple[int, ...]] = {"tabular": (4,), "image": (3, 8, 6), "tensor": (4, 3)}
CLASSES, FEATURES, GUARD, STRANGE_ROW = ("a", "b", "c"), 8, "guard", 3
STRANGE_VALUES = (math.nan, math.inf, -math.inf, 1e30, -1.0)
PIECES = (0, 1, 2, 9, 64)
Check = Callable[[], None]
T = TypeVar("T", bound=type)


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """Made-up rows of one kind: ``reference`` to fit on, and two exchangeable lots of clean rows, judged as served.

    The table has the columns ``height``, ``weight``, ``age`` (numeric) and ``colour`` (red, green, blue), some values
    missing or unseen; requests come with the attribute ``region``; the classes are a, b, c, and the guard is ``guard``.
    """

    context: Context
    reference: Reference
    calibration: Batch
    rows: Batch

    def outcome(self, batch: Batch) -> Outcome:
        """Judge rows as a pipeline would, without running a detector: p-values from the rows' own values."""
        assert batch.output is not None  # noqa: S101 - an example's rows all have one
        score = batch.x.flatten(1).nan_to_num(2.0)[:, :3].sum(1, keepdim=True).T
        none = torch.zeros(score.shape, dtype=torch.bool)
        p_value = torch.sigmoid(score)
        action = (p_value[0] < 0.2).long() * 2  # noqa: PLR2004 - abstain on some
        verdict = Verdict(self.context.guards, score, p_value, none, none, action, {})
        kind = Classifier if self.context.classes else Regressor
        return Outcome(batch.output, kind(torch.empty(0), coverage=0.9)(batch.output), verdict)


@torch.inference_mode()
def example(kind: Kind, task: Task = "classification", *, count: int = 240, seed: int = 0) -> Example:
    """Make ``count`` rows for each purpose, the same for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    shape, outputs = SHAPES[kind], len(CLASSES) if task == "classification" else 1
    columns: tuple[Column, ...] = ()
    if kind == "tabular":
        numeric = tuple(Column(name=name, kind="numeric") for name in ("height", "weight", "age"))
        columns = (*numeric, Column(name="colour", kind="categorical", categories=("red", "green", "blue")))
    schema = InputSchema(kind=kind, shape=shape, columns=columns)
    mixing = torch.randn((math.prod(shape), FEATURES), generator=generator) / math.prod(shape) ** 0.5
    head = nn.Linear(FEATURES, outputs).requires_grad_(requires_grad=False)
    head.weight.copy_(torch.randn(head.weight.shape, generator=generator))
    head.bias.zero_()

    def rows(*, unseen: float) -> Batch:
        x = torch.randn((count, *shape), generator=generator)
        if kind == "image":
            x = torch.sigmoid(x + torch.randn((count, 1, 1, 1), generator=generator))
        if kind == "tabular":
            x[:, 3] = torch.randint(3, (count,), generator=generator).float()
            x[torch.rand(count, generator=generator) < unseen, 3] = -1.0
            x[torch.rand(x.shape, generator=generator) < 0.05] = torch.nan  # noqa: PLR2004
        features = torch.tanh(x.nan_to_num(0.0).flatten(1) @ mixing)
        region = torch.randint(3, (count,), generator=generator)
        return Batch(x, {"region": region}, ModelOutput(head(features), features))

    batch, calibration, fresh = rows(unseen=0.0), rows(unseen=0.02), rows(unseen=0.02)
    assert batch.output is not None  # noqa: S101
    y = batch.output.logits.argmax(1) if outputs > 1 else batch.output.logits[:, 0]
    context = Context(schema, CLASSES if outputs > 1 else (), (GUARD,))
    return Example(context, Reference(batch, y, schema, head, 1.5), calibration, fresh)


def detector_conformance(
    detector: type[Detector],
    params: Params | None = None,
    *,
    kinds: Sequence[Kind] = KINDS,
    task: Task = "classification",
) -> Callable[[T], T]:
    """Decorate a test class with every check of a detector, for each kind of input it is meant for."""
    return _as_methods({kind: detector_checks(detector, params, kind=kind, task=task) for kind in kinds})


def monitor_conformance(
    monitor: type[Monitor],
    params: MonitorParams,
    *,
    kinds: Sequence[Kind] = KINDS,
    task: Task = "classification",
    ordered: bool = False,
) -> Callable[[T], T]:
    """Decorate a test class with every check of a monitor; ``ordered``: its figures may depend on the rows' order."""
    return _as_methods({kind: monitor_checks(monitor, params, kind=kind, task=task, ordered=ordered) for kind in kinds})


def detector_checks(
    detector: type[Detector], params: Params | None = None, *, kind: Kind, task: Task = "classification"
) -> dict[str, Check]:
    """Give the checks by name; each raises AssertionError, or whatever the detector raised."""
    from guards import _detector_checks

    ...


def _as_methods(checks: dict[Kind, dict[str, Check]]) -> Callable[[T], T]: ...
