"""Runs any number of rows through a model, one chunk at a time."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from guards.model.forward_errors import forward_error
from guards.model.torch_model import TorchModel
from guards.types import Batch, Mistake, ModelOutput

__all__ = ["CHUNK", "chunks_of", "refusing", "run_model"]

CHUNK = 256


def run_model(
    model: TorchModel,
    x: Tensor,
    track: Callable[[range], Iterable[int]] = iter,
) -> ModelOutput:
    """Run rows (n, ...) through the model.

    Raises:
        Mistake: the model raises for some of the rows.
    """
    chunk = CHUNK // model.rows_each or 1  # views ride in the same pass, and need memory as rows do
    starts = track(range(0, len(x), chunk))
    return ModelOutput.join([_run(model, x[start : start + chunk].to(model.device)) for start in starts])


def chunks_of(batch: Batch) -> Iterator[Batch]:
    """Cut a batch into chunks."""
    return (batch[start : start + CHUNK] for start in range(0, len(batch), CHUNK))


@contextmanager
def refusing(model: TorchModel, x: Tensor) -> Iterator[None]:
    """Turn an exception that the user's module raises for rows (n, ...) into a sentence.

    Raises:
        Mistake: the module raised an exception.
    """
    try:
        yield
    except Mistake:
        raise
    except Exception as raised:
        raise Mistake(f"{forward_error(model.net, x, raised)}{_culprit(model, x)}") from raised


def _run(model: TorchModel, x: Tensor) -> ModelOutput:
    with refusing(model, x):
        return model(x)  # type: ignore[no-any-return]


def _culprit(model: TorchModel, x: Tensor) -> str:
    """Describe the first row that the model does not take alone; empty on a GPU, which runs no row after a fault."""
    if model.device.type != "cpu":
        return ""
    for row in torch.split(x, 1):
        try:
            model(row)
        except Exception:  # noqa: BLE001 - whatever user code raises
            low, high = float(row.nan_to_num().min()), float(row.nan_to_num().max())
            return f"; one row alone is refused, too; the row's values reach from {low:g} to {high:g}"
    return ""
