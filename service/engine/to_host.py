"""Copies the pipeline's result from the device to the host, as the arrays of an answer."""

from collections.abc import Sequence
from typing import Any

import numpy.typing as npt
import torch

from guards.types import Result
from service.messages.answer import Answer

__all__ = ["answer_of", "packed_to_host"]

Array = npt.NDArray[Any]


def answer_of(result: Result) -> Answer:
    """Copy the pipeline's result to the host. On a CPU, the answer shares the memory of the result."""
    verdict, prediction = result.verdict, result.prediction
    violated, causes = verdict.violated, verdict.causes
    by_row = (
        prediction.probabilities, prediction.label, prediction.members, prediction.value, prediction.interval,
        *causes.values(),
    )  # fmt: skip
    rest: Sequence[Array | None]
    if verdict.action.is_cpu:
        action, p_value, flagged = verdict.action.numpy(), verdict.p_value.numpy().T, verdict.flagged.numpy().T
        violations = None if violated is None else violated.numpy().T
        rest = [None if tensor is None else tensor.numpy() for tensor in by_row]
    else:
        by_guard = (verdict.p_value.T, verdict.flagged.T, None if violated is None else violated.T)
        copied: list[Any] = packed_to_host([verdict.action, *by_guard, *by_row])
        action, p_value, flagged, violations, *rest = copied
    probabilities, label, members, value, interval = rest[:5]
    named = zip(causes, rest[5:], strict=True)
    return Answer(
        action, p_value, flagged, violations, {guard: marks for guard, marks in named if marks is not None},
        probabilities, label, members, value, interval,
    )  # fmt: skip


def packed_to_host(tensors: Sequence[torch.Tensor | None]) -> list[Array | None]:
    """Copy tensors (n, ...) in one transfer of float32, which represents every label, action and mark exactly."""
    present = [tensor for tensor in tensors if tensor is not None]
    rows = len(present[0])
    packed = torch.cat([tensor.reshape(rows, -1).float() for tensor in present], dim=1).cpu()
    widths = [tensor.numel() // rows for tensor in present]
    parts = iter(torch.split(packed, widths, dim=1))
    return [
        None if tensor is None else next(parts).reshape(tensor.shape).to(tensor.dtype).numpy() for tensor in tensors
    ]
