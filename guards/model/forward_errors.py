"""Explains the errors of a forward pass to the module's author."""

import inspect
import re
import traceback
from pathlib import Path

import torch
from torch import Tensor, nn

from guards.sentences import first_line

__all__ = ["forward_error", "place_of"]

OURS, TORCH = Path(__file__).parents[1], Path(torch.__file__).parent
SIZES = (
    (re.compile(r"mat1 and mat2 shapes cannot be multiplied \(\d+x(\d+) and (\d+)x\d+\)"), 1, 2),
    (re.compile(r"Given normalized_shape=\[(\d+)\], expected input .* got input of size\[.*, (\d+)\]"), 2, 1),
    (re.compile(r"running_mean should contain (\d+) elements not (\d+)"), 1, 2),
    (re.compile(r"input.size\(-1\) must be equal to input_size. Expected (\d+), got (\d+)"), 2, 1),
)
"""torch's messages about sizes that do not fit, and which group is the size of the rows, which of the layer."""
CHANNELS = re.compile(r"expected input\[.*\] to have (\d+) channels, but got (\d+) channels")
REASONS = (
    (
        r"scalar types: Long, Int|must be Long|to be Long|only applicable to index tensor|used as indices must be long",
        "whole numbers are looked up, and the rows are float32: write x[:, i].long() before the embedding",
    ),
    (
        r"type .* should be the same|must have the same dtype|to have the same dtype",
        "the rows are float32, and a layer works in another type: call model.float(), before torch.export, too",
    ),
    (
        r"not compiled with CUDA|No CUDA GPUs|Found no NVIDIA driver|tensors to be on the same device",
        "forward moves tensors to a device of its own: write x.device, and leave the choice to model.device",
    ),
    (r"index out of range in self", "an embedding has fewer rows than the values that are looked up"),
    (r"shape '\[\d+[,\]].* is invalid for input of size", "a size is fixed in a view or reshape: write x.shape[0]"),
    (
        r"Expected hidden\S* size|[Bb]atch size of hidden",
        "a hidden state is kept from another batch, or made for a fixed number of rows: make it anew in forward",
    ),
    (
        r"Expected more than 1 value per channel when training",
        "a BatchNorm layer is in training mode after eval(): does a module override train() or eval()?",
    ),
    (
        r"must match the size of tensor|Sizes of tensors must match",
        "two tensors have different sizes: is a number of rows fixed, or does `input` have another shape?",
    ),
    (
        r"values to unpack",
        "forward unpacks what it is given, and the gateway gives the rows alone, as one tensor: take x, not (x, y)",
    ),
    (
        r"Inference tensors cannot|does not require grad",
        "the model asks for gradients in forward, and the gateway answers without them",
    ),
)


def place_of(raised: BaseException) -> str:
    """Name the last line of user code in a traceback, as ``file:line function``; empty if there is no such line."""
    frames = [
        frame
        for frame in traceback.extract_tb(raised.__traceback__)
        if not frame.filename.startswith("<")
        and "site-packages" not in frame.filename
        and not {OURS, TORCH} & set(Path(frame.filename).parents)
        and "importlib" not in frame.filename
    ]
    return f"{frames[-1].filename}:{frames[-1].lineno} {frames[-1].name}" if frames else ""


def forward_error(net: nn.Module, x: Tensor, raised: Exception) -> str:
    """Say that the module does not take rows (n, ...), with the likely reason, the exception and its place."""
    first = first_line(raised, "")
    place = place_of(raised)
    reason = _reason(net, x, raised)
    told = f"{type(raised).__name__}: {first}{f', in {place}' if place else ''}"
    return f"model: it does not take a batch of shape {tuple(x.shape)}: {f'{reason} ({told})' if reason else told}"


def _reason(net: nn.Module, x: Tensor, raised: Exception) -> str:
    text = str(raised)
    if isinstance(raised, TypeError) and (said := _other_arguments(net)):
        return said
    for pattern, got, wanted in SIZES:
        if found := pattern.search(text):
            return _other_size(x, int(found[got]), int(found[wanted]))
    if found := CHANNELS.search(text):
        return (
            f"the model takes {found[1]} channels, and the rows have {found[2]}: input.shape is [channels, height, "
            "width], and images whose channels come last must be transposed"
        )
    return next((reason for words, reason in REASONS if re.search(words, text)), "")


def _other_size(x: Tensor, got: int, wanted: int) -> str:
    width = x[0].numel() if len(x) else 0
    if got == width:
        things = "columns" if x.ndim == 2 else "values a row"  # noqa: PLR2004
        return f"the model takes {wanted} {things}, and the rows have {got}: compare them with `input`"
    if got == x.shape[-1]:
        return f"the model takes {wanted} values in the last axis, and the rows have {got}: compare `input.shape`"
    return f"a layer takes {wanted} values, and gets {got}: compare its size with `input`; is a size fixed in a view?"


def _other_arguments(net: nn.Module) -> str:
    """Say what ``forward`` takes, if it does not take one tensor."""
    try:
        signature = inspect.signature(net.forward)
    except (TypeError, ValueError):
        return ""
    try:
        signature.bind(None)
    except TypeError:
        return (
            f"forward{signature} does not take one tensor, and the gateway gives one tensor with all columns: write a "
            "module whose forward takes (n, ...) and splits the tensor itself"
        )
    return ""
