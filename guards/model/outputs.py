"""Finds the tensor of outputs in what a module returns, and turns the outputs into logits."""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from guards.types import Mistake

__all__ = ["Declared", "Meaning", "as_logits", "described", "outputs_in", "width_of"]

Meaning = Literal["logits", "probabilities", "log_probabilities"]
Declared = Literal["auto", "logits", "probabilities", "log_probabilities"]
TINY = torch.finfo(torch.float32).tiny
BELOW_ONE = 1 - 2.0**-24
"""The largest float32 below 1."""
SHOWN = 4


def outputs_in(returned: object) -> Tensor:
    """Find the tensor of outputs: the returned value, its entry ``logits``, or the only tensor of a list or tuple.

    Raises:
        Mistake: there is no such tensor, or it is not clear which tensor is meant.
    """
    if isinstance(returned, Tensor):
        return returned
    if isinstance(returned, Mapping):
        if isinstance(returned.get("logits"), Tensor):
            return returned["logits"]  # type: ignore[no-any-return]
    elif isinstance(getattr(returned, "logits", None), Tensor):
        return returned.logits  # type: ignore[attr-defined,no-any-return]
    parts = list(returned.values()) if isinstance(returned, Mapping) else returned
    if isinstance(parts, list | tuple) and len(parts) == 1 and isinstance(parts[0], Tensor):
        return parts[0]
    raise Mistake(
        f"model: it returned {described(returned)}; it must return one tensor of logits or values, or a tensor "
        "named `logits`: return only that tensor in forward"
    )


def described(returned: object) -> str:
    """Say what a module returned, with the shapes of the tensors in it."""
    if isinstance(returned, Tensor):
        return f"a tensor of shape {tuple(returned.shape)}"
    if isinstance(returned, Mapping):
        inside = [f"{name!r}: {_kind(value)}" for name, value in list(returned.items())[:SHOWN]]
    elif isinstance(returned, list | tuple):
        inside = [_kind(value) for value in returned[:SHOWN]]
    else:
        inside = []
    name = type(returned).__name__
    article = "an" if name[:1] in "aeiouAEIOU" else "a"
    return f"{article} {name} of {', '.join(inside)}" if inside else f"{article} {name}"


def _kind(value: object) -> str:
    return f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__


def width_of(outputs: Tensor, rows: int, expected: int | None) -> int:
    """Count the outputs per row of (n, k), (n,), (n, 1, k) or (n, k, 1), and check that the config expects so many.

    ``expected`` is the number of classes, 1 for regression, or None if only the model can tell.

    Raises:
        Mistake: there is not one entry per row, the number of outputs is another, or the outputs are not floats.
    """
    shape = tuple(outputs.shape)
    if shape[:1] != (rows,):
        raise Mistake(
            f"model: it returned shape {shape} for {rows} rows; the first size is rows: is a number of rows fixed in a "
            "view, or the batch not the first axis (an RNN or transformer without batch_first=True)?"
        )
    if not outputs.is_floating_point():
        kind = str(outputs.dtype).removeprefix("torch.")
        raise Mistake(
            f"model: it returned values of type {kind}: return the logits themselves (float32), without argmax or a "
            "comparison"
        )
    sizes = [size for size in shape[1:] if size != 1]
    if len(sizes) > 1:
        raise Mistake(
            f"model: it returned shape {shape}, a table of outputs for each row: the gateway serves one answer a row; "
            "return (n, classes), such as the last step of a sequence or the mean of a map"
        )
    width = sizes[0] if sizes else 1
    if expected not in (None, width) and not (width == 1 and expected == 2):  # noqa: PLR2004
        wanted = (rows, expected)
        has = f"the model has {width} output{'s' if width > 1 else ''}"
        hint = f"{has} and there are {expected} classes: declare model.classes in logit order if the reference lacks "
        hint += "classes or has others, or give the weights of the model for these classes"
        if expected == 1:
            hint = "model.task is regression, which has one value a row"
        raise Mistake(f"model: it returned shape {shape}, but model.task and classes need {wanted}: {hint}")
    return width


def as_logits(outputs: Tensor, meaning: Meaning, *, binary: bool) -> Tensor:
    """Turn outputs (n, k) float32 into logits (n, k), whose softmax is the model's probabilities.

    A binary model has one output (n, 1), for ``classes[1]``; it becomes the logits (n, 2) [0, z]. Before a logarithm is
    taken, a probability of 0 or 1 is replaced by the nearest float32 between them, so that logits are finite.
    """
    if binary:
        if meaning == "log_probabilities":
            outputs = outputs.exp()
        if meaning != "logits":
            p = outputs.clamp(TINY, BELOW_ONE)
            outputs = p.log() - (-p).log1p()
        return torch.cat([torch.zeros_like(outputs), outputs], dim=1)
    if meaning == "probabilities":
        return outputs.clamp_min(TINY).log()
    return outputs.clamp_min(torch.finfo(torch.float32).min) if meaning == "log_probabilities" else outputs
