"""The example rows that the checks run on, and the helpers that checks of detectors and of monitors share."""

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Literal, TypeVar, get_args

import torch
from pydantic import ValidationError
from safetensors.torch import load, save
from torch import Tensor, nn

from guards.bundle.fitted_state import named_state, plain, restored
from guards.calibration.prediction_sets import Classifier, Regressor
from guards.detectors.base import Params
from guards.input.column import Column
from guards.input.schema import InputSchema
from guards.monitors.base import Context
from guards.types import Batch, ModelOutput, Reference, Result, Verdict

__all__ = [
    "KINDS",
    "ROWS",
    "STRANGE",
    "Example",
    "Kind",
    "Task",
    "check_constructor",
    "check_params",
    "example",
    "reloaded",
    "require",
    "take",
    "tensors_of",
    "with_strange_row",
]

Kind = Literal["tabular", "image", "tensor"]
Task = Literal["classification", "regression"]
KINDS: tuple[Kind, ...] = get_args(Kind)
ROWS = 240
SHAPES: dict[Kind, tuple[int, ...]] = {"tabular": (4,), "image": (3, 8, 6), "tensor": (4, 3)}
CLASSES, GUARDS, FEATURES, LEVELS = ("a", "b", "c"), ("first", "second"), 8, 3
MISSING, UNSEEN, ABSTAINED = 0.05, 0.02, 0.2
STRANGE = (math.nan, math.inf, -math.inf, 1e30, -1e30)
M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """Rows of one kind: ``reference`` to fit on, and two exchangeable sets of clean rows with the model's output.

    A table has the numeric columns ``height``, ``weight`` and ``age`` and the categorical ``colour`` (red, green,
    blue); some values are missing or unseen. Every batch has the attribute ``region`` with level codes 0 to 2. The
    classes are a, b and c, the guards ``first`` and ``second``.
    """

    context: Context
    reference: Reference
    calibration: Batch
    rows: Batch

    def outcome(self, batch: Batch) -> Result:
        """Judge rows as a pipeline would, with p-values computed from each row's own values."""
        assert batch.output is not None  # noqa: S101 - every batch of an example has one
        score = batch.x.flatten(1).nan_to_num(1.0, 1.0, 1.0).sum(1)
        p_value = torch.sigmoid(torch.stack([score, -score]))
        none = torch.zeros_like(p_value, dtype=torch.bool)
        action = torch.where(p_value[0] < ABSTAINED, 2, 0)
        verdict = Verdict(GUARDS, torch.stack([score, -score]), p_value, none, none, action, {})
        unlabelled = torch.empty(0)
        if self.context.classes:
            prediction = Classifier(unlabelled, coverage=0.9, temperature=1.5)(batch.output)
        else:
            prediction = Regressor(unlabelled, coverage=0.9)(batch.output)
        return Result(batch.output, prediction, verdict)


@torch.inference_mode()
def example(kind: Kind, task: Task = "classification", *, count: int = ROWS, seed: int = 0) -> Example:
    """Make ``count`` rows for each of the three sets. Equal seeds give equal rows; all are inference tensors."""
    generator = torch.Generator().manual_seed(seed)
    shape, outputs = SHAPES[kind], len(CLASSES) if task == "classification" else 1
    columns = tuple(Column(name=name, kind="numeric") for name in ("height", "weight", "age"))
    colour = Column(name="colour", kind="categorical", categories=("red", "green", "blue"))
    schema = InputSchema(kind=kind, shape=shape, columns=(*columns, colour) if kind == "tabular" else ())
    mixing = torch.randn((math.prod(shape), FEATURES), generator=generator) / math.prod(shape) ** 0.5
    below = torch.randn(mixing.shape, generator=torch.Generator().manual_seed(seed)) / math.prod(shape) ** 0.5
    head = nn.Linear(FEATURES, outputs).requires_grad_(requires_grad=False)
    head.weight.copy_(torch.randn(head.weight.shape, generator=generator))
    head.bias.zero_()

    def rows(unseen: float) -> Batch:
        x = torch.randn((count, *shape), generator=generator)
        if kind == "image":
            x = torch.sigmoid(x + torch.randn((count, 1, 1, 1), generator=generator))
        if kind == "tabular":
            x[:, 3] = torch.randint(3, (count,), generator=generator).float()
            x[torch.rand(count, generator=generator) < unseen, 3] = -1.0
            x[torch.rand(x.shape, generator=generator) < MISSING] = torch.nan
        features = torch.tanh(x.nan_to_num(0.0).flatten(1) @ mixing)
        region = torch.randint(LEVELS, (count,), generator=generator)
        early = torch.sin(x.nan_to_num(0.0).flatten(1) @ below)
        blurred = torch.tanh(x.nan_to_num(0.0).round(decimals=1).flatten(1) @ mixing)
        views = torch.stack([head(blurred), head(0.9 * features)], 1)
        return Batch(x, {"region": region}, ModelOutput(head(features), features, early, views))

    batch, calibration, fresh = rows(0.0), rows(UNSEEN), rows(UNSEEN)
    assert batch.output is not None  # noqa: S101
    y = batch.output.logits.argmax(1) if outputs > 1 else batch.output.logits[:, 0]
    context = Context(schema, CLASSES if outputs > 1 else (), GUARDS)
    return Example(context, Reference(batch, y, schema, head, 1.5), calibration, fresh)


def take(batch: Batch, index: Tensor) -> Batch:
    """Copy rows out of a batch, in the order of ``index``."""
    assert batch.output is not None  # noqa: S101
    groups = {name: codes[index] for name, codes in batch.groups.items()}
    return Batch(batch.x[index], groups, batch.output[index])


def with_strange_row(batch: Batch, row: int, value: float) -> Batch:
    """Copy a batch, with ``value`` in every place of one row: the input, the features, the logits.

    In a table the category of that row becomes missing or unseen, because a schema never yields another number there.
    """
    copy = take(batch, torch.arange(len(batch)))
    assert copy.output is not None  # noqa: S101
    for tensor in (copy.x, *tensors_of(copy.output)):
        tensor[row] = value
    if copy.x.ndim == 2 and not math.isnan(value):  # noqa: PLR2004
        copy.x[row, 3] = -1.0
    return copy


def tensors_of(value: object) -> list[Tensor]:
    """Find every tensor in a batch, a reference or a result."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Mapping):
        return [tensor for inner in value.values() for tensor in tensors_of(inner)]
    if isinstance(value, nn.Module):
        return list(value.state_dict().values())
    if is_dataclass(value):
        return [tensor for item in fields(value) for tensor in tensors_of(getattr(value, item.name))]
    return []


def reloaded(fresh: M, fitted: nn.Module) -> M:
    """Load the state of a fitted module into a new one by way of safetensors, as a bundle does."""
    return restored(fresh, load(save(plain(named_state("it", fitted)))), "it")


def require(condition: bool, sentence: str) -> None:
    """Fail a check if the condition is false; ``python -O`` would remove an assert statement."""
    if not condition:
        raise AssertionError(sentence)


def check_constructor(plugin: type, arguments: tuple[str, ...]) -> None:
    """Require a constructor that takes ``arguments`` in this order, and that needs nothing else."""
    given = ", ".join(arguments)
    try:
        inspect.signature(plugin).bind(*arguments)
    except TypeError as refused:
        require(condition=False, sentence=f"{plugin.__name__} must be made by {plugin.__name__}({given}): {refused}")


def check_params(params: Params) -> None:
    """Require parameters that refuse unknown keys, and that are the same after a round trip through JSON."""
    kind = type(params)
    try:
        kind.model_validate({**params.model_dump(), "no_such_key": 1})
    except ValidationError:
        pass
    else:
        require(condition=False, sentence=f"{kind.__name__} takes an unknown key; it must forbid extra ones")
    require(kind.model_validate_json(params.model_dump_json()) == params, f"{kind.__name__} does not survive JSON")
