"""Calls the builder that a config names: user code that makes a ``torch.nn.Module``."""

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.lazy import LazyModuleMixin

from guards.model.forward_errors import place_of
from guards.notices import Notices
from guards.sentences import first_line
from guards.types import Mistake

__all__ = ["call_builder", "runs_in_float32"]

WRAPPERS = ("DataParallel", "DistributedDataParallel", "FullyShardedDataParallel")


def call_builder(builder: str, folder: Path | None, notices: Notices | None = None) -> nn.Module:
    """Call ``package.module:function``; ``folder``, the config's own, is appended to the import path.

    The folder comes last, so that the user's modules never shadow modules of installed packages. What the code
    prints goes to standard error, because standard output may be one JSON document.

    Raises:
        Mistake: the builder cannot be imported or called, or does not return a module.
    """
    notices = notices or Notices()
    module_name, _, name = builder.partition(":")
    if folder is not None and str(folder) not in sys.path:
        sys.path.append(str(folder))
    with redirect_stdout(sys.stderr):
        function = _imported(module_name, name, folder)
        net = _called(builder, function)
    net = _unwrapped(net, builder, notices)
    if isinstance(net, torch.jit.ScriptModule):
        notices.note(
            f"model.builder: {builder} returned a scripted module, whose layers cannot be seen: the features that "
            "guards look at are the model's own outputs; return the module before torch.jit to use its features"
        )
    _refuse_state_that_cannot_be_kept(net, builder)
    return net


def runs_in_float32(net: nn.Module, rows: Tensor, notices: Notices) -> nn.Module:
    """Turn weights of other floating types into float32 if the module does not take ``rows`` (n, ...) of float32.

    Raises:
        Mistake: a parameter or a buffer has no values.
    """
    for name, tensor in [*net.named_parameters(), *net.named_buffers()]:
        if tensor.is_meta:
            raise Mistake(
                f"model.builder: {name!r} is on the meta device and has no values: give model.weights with a tensor "
                "of that name, or make the module on the CPU"
            )
    others = {parameter.dtype for parameter in net.parameters() if parameter.is_floating_point()} - {torch.float32}
    if others and not _takes(net, rows):
        kinds = ", ".join(sorted(str(dtype).removeprefix("torch.") for dtype in others))
        notices.note(f"model: its weights of type {kinds} were turned into float32, the type of the rows")
        net.float()
    return net


@torch.inference_mode()
def _takes(net: nn.Module, rows: Tensor) -> bool:
    try:
        with redirect_stdout(sys.stderr):
            net(rows)
    except Exception:  # noqa: BLE001 - other faults are found when float32 is tried
        return False
    return True


def _imported(module_name: str, name: str, folder: Path | None) -> Any:  # noqa: ANN401 - whatever the user wrote
    builder = f"{module_name}:{name}"
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as missing:
        if missing.name is not None and not f"{module_name}.".startswith(f"{missing.name}."):
            raise Mistake(
                f"model.builder: {module_name!r} imports {missing.name!r}, which cannot be found "
                f"({place_of(missing)}): install the package {missing.name!r}, or put the file beside the config"
            ) from missing
        hint = (
            "set GUARDHOUSE_CONFIG to the config beside the builder's code, or install its package"
            if folder is None
            else f"looked in {folder} and the installed packages"
        )
        raise Mistake(
            f"model.builder: cannot import {builder!r} ({missing}): {hint}{_shadow(module_name)}"
        ) from missing
    except SyntaxError as broken:
        raise Mistake(
            f"model.builder: {broken.filename}:{broken.lineno}: not valid Python ({broken.msg}): correct this line"
        ) from broken
    except (Exception, SystemExit) as raised:
        ended = isinstance(raised, SystemExit)
        hint = ': put what the file runs as a script under `if __name__ == "__main__":`' if ended else ""
        raise Mistake(f"model.builder: cannot import {module_name!r}: {_told(raised)}{hint}") from raised
    try:
        return getattr(module, name)
    except AttributeError as missing:
        file = getattr(module, "__file__", None)
        elsewhere = folder is not None and file is not None and folder not in Path(file).resolve().parents
        hint = (
            f" (imported from {file}, which hides the file beside the config: give that file another name)"
            if elsewhere and folder is not None and (folder / f"{module_name.partition('.')[0]}.py").is_file()
            else f" (imported from {file})"
            if file
            else ""
        )
        raise Mistake(f"model.builder: module {module_name!r} has no {name!r}{hint}") from missing


def _shadow(module_name: str) -> str:
    """Say which file was imported as the parent package: it may hide the user's package of the same name."""
    parent = sys.modules.get(module_name.partition(".")[0])
    file = getattr(parent, "__file__", None)
    return f"; {module_name.partition('.')[0]!r} was imported from {file}" if "." in module_name and file else ""


def _called(builder: str, function: Any) -> Any:  # noqa: ANN401 - whatever the user wrote
    if isinstance(function, nn.Module):
        raise Mistake(
            f"model.builder: {builder} is a module, not a function: write `def build(): return {_name(builder)}`"
        )
    if not callable(function):
        raise Mistake(f"model.builder: {builder} is a {type(function).__name__}, not a function that returns a module")
    required = _required(function)
    if required:
        needed = ", ".join(map(repr, required))
        raise Mistake(
            f"model.builder: {_name(builder)}{inspect.signature(function)} needs {needed}, and a builder is "
            f"called without arguments: write `def build(): return {_name(builder)}(...)` and name build in the config"
        )
    try:
        return function()
    except (Exception, SystemExit) as raised:
        raise Mistake(f"model.builder: {builder} failed: {_told(raised)}") from raised


def _required(function: Callable[..., object]) -> list[str]:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # a builtin has no signature
        return []
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [each.name for each in parameters if each.default is each.empty and each.kind not in kinds]


def _unwrapped(net: Any, builder: str, notices: Notices) -> nn.Module:  # noqa: ANN401 - whatever the user's code gave
    """Take the module out of the wrappers that training puts around it.

    Raises:
        Mistake: the builder returned something other than a module.
    """
    if isinstance(net, type) and issubclass(net, nn.Module):
        raise Mistake(
            f"model.builder: {builder} returned the class {net.__name__}, not a module: return {net.__name__}()"
        )
    if isinstance(net, tuple | list) and any(isinstance(each, nn.Module) for each in net):
        kinds = ", ".join(type(each).__name__ for each in net)
        raise Mistake(f"model.builder: {builder} returned a {type(net).__name__} ({kinds}): return the module alone")
    if not isinstance(net, nn.Module):
        hint = ": its last line must be `return model`" if net is None else ""
        raise Mistake(f"model.builder: {builder} returned a {type(net).__name__}, not a torch.nn.Module{hint}")
    module: nn.Module = net
    while isinstance(inner := _inside(module), nn.Module):
        kind = type(module).__name__
        hint = ", and `model.compile: true` compiles it" if kind == "OptimizedModule" else ""
        notices.note(f"model.builder: {builder} returned a {kind}; the module inside was taken{hint}")
        module = inner
    return module


def _inside(net: nn.Module) -> object:
    return getattr(net, "_orig_mod", None) or (net.module if type(net).__name__ in WRAPPERS else None)


def _refuse_state_that_cannot_be_kept(net: nn.Module, builder: str) -> None:
    """Refuse modules whose state is more than tensors, such as quantised modules: a bundle cannot keep such state.

    Raises:
        Mistake: the state dict holds more than plain tensors.
    """
    for name, module in net.named_modules():
        if isinstance(module, LazyModuleMixin) and module.has_uninitialized_params():  # type: ignore[misc]
            raise Mistake(
                f"model.builder: {builder} returned a module whose layer {name!r} ({type(module).__name__}) has no "
                "size yet: run the module once on a row in the builder, or write the layer with its size"
            )
    for name, value in net.state_dict().items():
        if not isinstance(value, Tensor) or value.is_quantized or value.layout != torch.strided:
            kind = f"a {value.layout} tensor" if isinstance(value, Tensor) else f"a {type(value).__name__}"
            kind = "a quantised tensor" if isinstance(value, Tensor) and value.is_quantized else kind
            raise Mistake(
                f"model.builder: {builder} returned a module whose state {name!r} is {kind}, which a bundle cannot "
                "keep (is the module quantised?): return the module before quantisation, or export it with "
                "torch.export and give it as model.program"
            )


def _told(raised: BaseException) -> str:
    first = first_line(raised, "")
    place = place_of(raised)
    return f"{type(raised).__name__}{f': {first}' if first else ''}{f' ({place})' if place else ''}"


def _name(builder: str) -> str:
    return builder.partition(":")[2]
