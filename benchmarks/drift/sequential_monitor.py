"""The product's drift monitor, as this benchmark fits it and shows it rows."""

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.drift.rivals import RUN_LENGTH
from guards.input.column import Column
from guards.input.schema import InputSchema
from guards.monitors.base import Context
from guards.monitors.sequential import Sequential, SequentialParams
from guards.types import Batch, ModelOutput, Prediction, Reference, Result, Verdict

__all__ = ["constant_result", "feed", "monitor"]

Floats = npt.NDArray[np.float64]


def monitor(reference: Floats, **params: float) -> Sequential:
    """Fit the product's monitor on reference rows (n, columns) of a table without guards, features or labels."""
    columns = tuple(Column(name=f"c{i}", kind="numeric") for i in range(reference.shape[1]))
    schema = InputSchema(kind="tabular", shape=(len(columns),), columns=columns)
    settings = {"average_run_length": int(RUN_LENGTH), **params}
    fresh = Sequential(
        SequentialParams.model_validate({"name": "drift", "projections": 0, **settings}), Context(schema, (), ())
    )
    batch = Batch(torch.tensor(reference, dtype=torch.float32))
    return fresh.fit(Reference(batch, None, schema), constant_result(batch))


def constant_result(batch: Batch) -> Result:
    """Answer rows with a constant: one more stream that never moves."""
    none, rows = torch.zeros((0, len(batch))), torch.zeros(len(batch))
    verdict = Verdict((), none, none, none.bool(), None, rows.long(), {})
    return Result(ModelOutput(rows[:, None], rows[:, None]), Prediction(value=rows), verdict)


def feed(watching: Sequential, rows: Floats, *, size: int = 256, until: str = "alarm") -> int | None:
    """Show rows (n, columns) in micro-batches until a state is reached, and return after how many rows that was."""
    x = torch.tensor(rows, dtype=torch.float32)
    with torch.inference_mode():
        for start in range(0, len(x), size):
            batch = Batch(x[start : start + size])
            watching.observe(batch, constant_result(batch))
            if watching.state() == until:
                return start + len(batch)
    return None
