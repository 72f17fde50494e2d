"""Examines a model on reference rows: what its outputs mean, and whether a row's answer depends on that row alone."""

import time

import torch
from torch import Tensor

from guards.examination.experiments import answers, spaced
from guards.examination.missing_values import refuse_missing
from guards.examination.output_meaning import find_meaning
from guards.examination.output_values import refuse_not_finite, warn_of_constants
from guards.examination.precision import compare_precision
from guards.examination.row_independence import Independence
from guards.examination.trace import Trace
from guards.input.schema import InputSchema
from guards.model.forward_errors import forward_error
from guards.model.outputs import Declared
from guards.model.torch_model import TorchModel
from guards.notices import Notices
from guards.types import Mistake

__all__ = ["examine", "refuse_missing", "refuse_not_finite"]

SAMPLE = 31
"""How many rows every experiment runs; no power of two, since batches are filled up to powers of two."""
TRACED, SLOW_SECONDS = 7, 0.25
"""How many rows are traced. If the model is slow, these rows are also the sample."""


@torch.inference_mode()
def examine(
    model: TorchModel,
    rows: Tensor,
    *,
    schema: InputSchema,
    classification: bool,
    declared: Declared,
    largest: int,
    notices: Notices,
) -> None:
    """Examine a model on reference rows (m, ...), and set the meaning of its outputs.

    A few of the rows, evenly spaced, are run alone, twice, in other orders, beside other rows and in every size of
    batch that a server with batches of up to ``largest`` rows fills up to. Each row must get the same answer: the same
    probabilities within 1e-5, the same values within 1e-5 of the largest. The features must not change either.

    Raises:
        Mistake: answers or features change, or the outputs are not finite, or contradict the declared meaning.
    """
    precision, model.precision = model.precision, "float32"
    try:
        with torch.random.fork_rng(devices=[]):
            few = rows[spaced(len(rows), TRACED)].to(model.device)
            started = time.perf_counter()
            trace = _traced(model, few)
            if time.perf_counter() - started > SLOW_SECONDS:  # once more, since a first pass is often slow
                started = time.perf_counter()
                answers(model, few, classification=False)
            slow = time.perf_counter() - started > SLOW_SECONDS
            numbers = spaced(len(rows), TRACED if slow else SAMPLE)
            sample = rows[numbers].to(model.device)
            others = rows[(numbers + max(1, len(rows) // (2 * len(numbers)))) % len(rows)].flip(0).to(model.device)
            first = answers(model, sample, classification=False)
            refuse_not_finite(first.given, first.features, sample, schema, numbers=numbers)
            if classification and not trace.softmax_over_rows:
                outputs = first.given[:, 1:] if model.binary else first.given
                model.meaning = find_meaning(trace, outputs, declared, binary=model.binary, notices=notices)
            base = Independence(model, sample, others, trace, classification, notices).check(largest)
    finally:
        model.precision = precision
    warn_of_constants(model, sample, base, notices)
    if precision != "float32":
        compare_precision(model, sample if slow else rows, classification=classification, notices=notices)


def _traced(model: TorchModel, rows: Tensor) -> Trace:
    """Record the operations on a few rows (n, ...); their number is not the number of the model's first run.

    Raises:
        Mistake: the model does not take this number of rows.
    """
    prepared = model.prepare(rows)
    try:
        return Trace.of(model, prepared)
    except Exception as raised:
        if isinstance(raised, Mistake):
            raise
        raise Mistake(forward_error(model.net, prepared, raised)) from raised
