"""Finds the layers and operations that make a row's answer depend on other rows or other calls."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from guards.examination.trace import Operation, Trace
from guards.sentences import named

__all__ = ["changed_state", "drawing", "mixing", "snapshot"]

RANDOM = (
    *("bernoulli", "bernoulli_", "native_dropout", "rand", "rand_like", "randn", "randn_like", "normal", "normal_"),
    *("uniform", "uniform_", "randint", "randperm", "multinomial", "rrelu_with_noise", "poisson", "exponential_"),
)
REDUCTIONS = ("mean", "sum", "var", "std", "amax", "amin", "max", "min", "logsumexp", "var_mean", "std_mean", "median")
NORMS = ("linalg_vector_norm", "norm")
"""Operations whose axes are the argument after the kind of norm."""
SHOWN = 3


def mixing(net: nn.Module, trace: Trace) -> str:
    """Say what makes rows depend on each other, and how to change it; a general sentence if nothing is found."""
    if isinstance(net, torch.export.UnflattenedModule) and _batch_norm(trace):
        return "the program was exported in training mode: call model.eval() before torch.export"
    found = (
        _training(net, _BatchNorm)
        or _without_statistics(net)
        or _batch_norm(trace)
        or _time_first(net)
        or _softmax_over_rows(trace)
        or _reduction_over_rows(trace)
        or _padded_to_the_longest(trace)
        or _drawn_from_a_seed(trace)
    )
    return found or (
        "something in forward computes over the first axis, which is rows (a mean, a norm, a reshape or an RNN without "
        "batch_first)"
    )


def drawing(net: nn.Module, trace: Trace) -> str:
    """Say what draws random numbers in a forward pass."""
    names = {operation.name for operation in trace.named(*RANDOM)}
    if isinstance(net, torch.export.UnflattenedModule) and names:
        return "the program was exported in training mode, with its dropout: call model.eval() before torch.export"
    if said := _training(net, _DropoutNd):
        return said
    if names & {"bernoulli", "bernoulli_", "native_dropout"}:
        return "a dropout is always on: write F.dropout(x, p, training=self.training), or use nn.Dropout"
    drawn = f" ({', '.join(sorted(names))})" if names else ""
    return f"forward draws random numbers{drawn}: draw them only if self.training"


def snapshot(net: nn.Module) -> dict[str, Any]:
    """Copy what modules keep beside their parameters: buffers, and attributes that are tensors, numbers or sizes."""
    kept: dict[str, Any] = {name: buffer.clone() for name, buffer in net.named_buffers()}
    for path, module in net.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            continue
        for name, value in vars(module).items():
            if name.startswith("_") and name.endswith(("hooks", "modules", "parameters", "buffers", "kwargs")):
                continue
            kept[f"{path}.{name}" if path else name] = _essence(value)
    return kept


def changed_state(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Name what differs between two snapshots."""
    return [name for name, value in after.items() if name not in before or not _same(before[name], value)]


def _essence(value: object) -> object:
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, tuple | list):
        return [_essence(each) for each in value]
    if isinstance(value, dict):
        return len(value)
    return value if isinstance(value, int | float | str | bool | None) else id(value)


def _same(a: object, b: object) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.shape == b.shape and torch.equal(a, b)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_same, a, b))
    return type(a) is type(b) and a == b


def _named(net: nn.Module, kinds: type | tuple[type, ...], which: Callable[[Any], bool]) -> str:
    """Name the modules of some kinds for which ``which`` is true, with their types; empty if there is none."""
    names = [
        f"{name!r} ({type(module).__name__})"
        for name, module in net.named_modules()
        if isinstance(module, kinds) and which(module)
    ]
    return named(names, SHOWN, quoted=False)


def _training(net: nn.Module, kinds: type | tuple[type, ...]) -> str:
    program = isinstance(net, torch.export.UnflattenedModule)
    names = "" if program else _named(net, kinds, lambda module: module.training)
    if not names:
        return ""
    return (
        f"{names} is in training mode after eval(): a module overrides train() or eval(), or sets "
        "`training`; let it call super().train(mode)"
    )


def _without_statistics(net: nn.Module) -> str:
    names = _named(net, _BatchNorm, lambda module: module.running_mean is None)
    if not names:
        return ""
    return (
        f"{names} has no running statistics and normalises by the batch's own mean: train it with "
        "track_running_stats=True, or use LayerNorm or GroupNorm"
    )


def _batch_norm(trace: Trace) -> str:
    for operation in trace.operations:
        tensor = operation.tensor
        if "batch_norm" not in operation.name or tensor is None or tensor.shape[:1] != (trace.rows,):
            continue
        # native_batch_norm(input, weight, bias, mean, variance, training, ...); a batch norm that only uses its running
        # statistics is an operation of another name.
        if any(argument is True for argument in operation.args[3:6]):
            return (
                "a batch norm normalises by the batch's own mean: write F.batch_norm(..., training=self.training) "
                "with the running statistics"
            )
    return ""


def _time_first(net: nn.Module) -> str:
    names = _named(net, (nn.RNNBase, nn.MultiheadAttention), lambda module: not module.batch_first)
    if not names:
        return ""
    return (
        f"{names} has no batch_first=True and reads the first axis as the steps of one sequence: "
        "make it with batch_first=True, or transpose the rows before and behind it"
    )


def _softmax_over_rows(trace: Trace) -> str:
    for operation in trace.named("softmax", "_softmax", "log_softmax", "_log_softmax"):
        tensor = operation.tensor
        if tensor is not None and tensor.ndim > 1 and tensor.shape[0] == trace.rows and operation.args[1] == 0:
            return "a softmax runs over axis 0, which is the rows: write softmax(dim=1)"
    return ""


def _reduction_over_rows(trace: Trace) -> str:
    for operation in trace.named(*REDUCTIONS, *NORMS):
        if _over_rows(operation, trace.rows):
            return (
                f"a {operation.name}() runs over axis 0, which is the rows: the model is normalised by its own batch; "
                "use fixed numbers, kept as buffers, from the training rows"
            )
    return ""


def _padded_to_the_longest(trace: Trace) -> str:
    if not any(trace.named("_pack_padded_sequence")):  # unpacking records no operation of its own
        return ""
    return (
        "pad_packed_sequence, if it is used, fills up to the longest sequence of the batch, so that a mean over "
        "the steps depends on the other rows: leave the padding out of the mean, or give total_length"
    )


def _drawn_from_a_seed(trace: Trace) -> str:
    names = {operation.name for operation in trace.named(*RANDOM)}
    if not names:
        return ""
    return (
        f"forward draws random numbers ({', '.join(sorted(names))}) from a fixed seed, and a row gets other ones in "
        "another place of the batch: draw them only if self.training"
    )


def _over_rows(operation: Operation, rows: int) -> bool:
    tensor = operation.tensor
    if tensor is None or tensor.shape[:1] != (rows,):
        return False
    place = 2 if operation.name in NORMS else 1
    axes = operation.args[place] if len(operation.args) > place else None
    axes = [axes] if isinstance(axes, int) else axes
    return not axes or any(axis % tensor.ndim == 0 for axis in axes if isinstance(axis, int))
