"""Reads the weights of a builder's module and loads them into the module, without ever running code from a file."""

import re
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from guards.notices import Notices
from guards.sentences import first_line, named
from guards.types import Mistake

__all__ = ["archive_kind", "load_weights", "read_weights"]

INSIDE = ("state_dict", "model_state_dict", "model", "net", "network", "weights", "params", "module")
"""Names under which training scripts keep the state dict in a checkpoint."""
PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.")
"""Prefixes that DataParallel, torch.compile and Lightning put before the names."""
WEIGHT_NORM = (
    (re.compile(r"(^|\.)([^.]+)_g$"), r"\1parametrizations.\2.original0"),
    (re.compile(r"(^|\.)([^.]+)_v$"), r"\1parametrizations.\2.original1"),
    (re.compile(r"(^|\.)parametrizations\.([^.]+)\.original0$"), r"\1\2_g"),
    (re.compile(r"(^|\.)parametrizations\.([^.]+)\.original1$"), r"\1\2_v"),
)
"""Renames the magnitude and direction of weight_norm: from the names before torch 2.1 to today's names, and back."""
POINTER = b"version https://git-lfs"
SHOWN = 3
SAVE = "safetensors.torch.save_file(model.state_dict(), 'model.safetensors')"


def archive_kind(path: Path) -> str:
    """Find out what kind of file a file is, by its content.

    The kind is ``safetensors``, ``program``, ``scripted``, ``torch``, ``pointer`` (a Git LFS pointer in place of the
    file) or ``unknown``.
    """
    with path.open("rb") as stream:
        head = stream.read(len(POINTER))
    if head == POINTER:
        return "pointer"
    if head[8:9] == b"{":
        return "safetensors"
    if not zipfile.is_zipfile(path):
        return "torch" if head[:1] == b"\x80" else "unknown"
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if any(name.endswith("/models/model.json") for name in names):
        return "program"
    if any(name.endswith("/constants.pkl") for name in names):
        return "scripted"
    return "torch" if any(name.endswith("/data.pkl") for name in names) else "unknown"


def read_weights(path: Path, notices: Notices | None = None) -> dict[str, Tensor]:
    """Read a state dict from safetensors, or from a file of ``torch.save`` with ``weights_only=True``.

    The file's content decides the format. If the file is a checkpoint, its state dict is taken, with a note.

    Raises:
        Mistake: the file is missing, or is neither.
    """
    if not path.is_file():
        raise Mistake(f"model.weights: no file {path}")
    kind = archive_kind(path)
    if kind == "program":
        raise Mistake(
            f"model.weights: {path} is a program of torch.export: give it as model.program, without a builder"
        )
    if kind == "scripted":
        raise Mistake(
            f"model.weights: {path} is a module of torch.jit.save, which is code: save its weights with {SAVE}"
        )
    if kind == "pointer":
        raise Mistake(f"model.weights: {path} is a pointer of Git LFS, and not the file itself: run `git lfs pull`")
    try:
        if kind == "safetensors":
            return load_file(path)
        with path.open("rb") as stream:  # given a path, torch would go by the file's extension
            state = torch.load(stream, map_location="cpu", weights_only=True)
    except (SafetensorError, RuntimeError, OSError, ValueError, EOFError) as broken:
        raise Mistake(f"model.weights: cannot read {path}: {first_line(broken, '')}") from broken
    except Exception as broken:  # torch raises pickle.UnpicklingError for anything but tensors
        raise Mistake(_more_than_tensors(path, str(broken))) from broken
    return _state_dict(state, path, notices or Notices())


def _more_than_tensors(path: Path, text: str) -> str:
    found = re.search(r"GLOBAL ([\w.]+)|Unsupported (?:global|class):? (?:GLOBAL )?([\w.]+)", text)
    name = next(filter(None, found.groups()), "") if found else ""
    held = f" (a {name})" if name else ""
    return (
        f"model.weights: {path} holds more than tensors{held}, which is never loaded because loading would run code; "
        f"save a state_dict: {SAVE}"
    )


def _state_dict(state: object, path: Path, notices: Notices) -> dict[str, Tensor]:
    if _tensors(state):
        return dict(state)  # type: ignore[call-overload,no-any-return]
    if isinstance(state, Mapping):
        every = [name for name, value in state.items() if _tensors(value) and value]
        inside = [name for name in every if name in INSIDE] or every
        if len(inside) > 1:
            raise Mistake(
                f"model.weights: {path} is a checkpoint with several state dicts ({', '.join(inside)}): save one of "
                f"them alone, with {SAVE}"
            )
        if inside:
            beside = [name for name in every if name not in inside]
            rest = f", and not those under {named(beside, SHOWN)}" if beside else ""
            notices.note(
                f"model.weights: {path.name} is a checkpoint; the weights under {inside[0]!r} were taken{rest}"
            )
            return dict(state[inside[0]])
        held = ", ".join(map(repr, list(state)[:SHOWN]))
        others = f"; it holds {held}" if state else ""
    else:
        others = f"; it holds a {type(state).__name__}"
    raise Mistake(f"model.weights: {path} holds no state_dict of tensors{others}: save the weights with {SAVE}")


def _tensors(state: object) -> bool:
    return isinstance(state, Mapping) and all(isinstance(tensor, Tensor) for tensor in state.values())


def load_weights(net: nn.Module, state: Mapping[str, Tensor], notices: Notices | None = None) -> None:
    """Load a state dict strictly, except for prefixes of the names, which are stripped with a note.

    Raises:
        Mistake: names or shapes do not fit the module.
    """
    own = net.state_dict()
    notices = notices or Notices()
    state = _renamed(_of_weight_norm(state, own.keys(), notices), own.keys(), notices)
    state |= _tied(own, state)
    sentences = [*_unfit_names(state, own.keys()), *_unfit_shapes(state, own)]
    if sentences:
        raise Mistake(*sentences)
    on_meta = any(tensor.is_meta for tensor in own.values())
    try:
        net.load_state_dict(state, strict=True, assign=on_meta)  # copying into a tensor without values would do nothing
    except RuntimeError as unfit:
        raise Mistake(f"model.weights: they do not fit the builder's module: {str(unfit).splitlines()[0]}") from unfit


def _of_weight_norm(state: Mapping[str, Tensor], wanted: Iterable[str], notices: Notices) -> dict[str, Tensor]:
    """Rename the parts of weight_norm to the module's names for these parts, whatever the prefix."""
    parts = [name for name in wanted if any(pattern.search(name) for pattern, _ in WEIGHT_NORM)]
    renamed: dict[str, str] = {}
    for name in state if parts else ():
        for pattern, other in WEIGHT_NORM:
            new = pattern.sub(other, name)
            if new != name and any(f".{new}".endswith(f".{part}") for part in parts):
                renamed[name] = new
    if renamed:
        old, new = next(iter(renamed.items()))
        notices.note(
            f"model.weights: the file and the module have different names for the parts of weight_norm; {old!r} was "
            f"taken for {new!r}, and so on"
        )
    return {renamed.get(name, name): tensor for name, tensor in state.items()}


def _renamed(state: dict[str, Tensor], wanted: object, notices: Notices) -> dict[str, Tensor]:
    """Strip prefixes until the names are the module's, or no prefix is left."""
    names = set(wanted)  # type: ignore[call-overload]
    renamed, stripped = state, []
    while not names <= renamed.keys():
        fitting = next((prefix for prefix in PREFIXES if any(name.startswith(prefix) for name in renamed)), None)
        if fitting is None:
            break
        stripped.append(fitting)
        renamed = {name.removeprefix(fitting): tensor for name, tensor in renamed.items() if name.startswith(fitting)}
    if not stripped or not names <= renamed.keys() or not names:
        return state
    notices.note(f"model.weights: {''.join(stripped)!r} was stripped from the names of the weights")
    left = [name for name in state if not name.startswith("".join(stripped))]
    if left:
        notices.note(
            f"model.weights: {named(left, SHOWN)} of the file were left out, because the module does not have them"
        )
    return renamed


def _tied(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give the tied tensors that safetensors leaves out: their memory has another name in the file."""
    here = {tensor.data_ptr(): name for name, tensor in own.items() if name in state and tensor.numel()}
    return {
        name: state[here[tensor.data_ptr()]]
        for name, tensor in own.items()
        if name not in state and not tensor.is_meta and tensor.data_ptr() in here
        and tensor.shape == own[here[tensor.data_ptr()]].shape
    }  # fmt: skip


def _unfit_names(state: Mapping[str, Tensor], wanted: object) -> list[str]:
    names = list(wanted)  # type: ignore[call-overload]
    # No answer depends on this counter of training; modules fill it themselves if an old file lacks it.
    missing = [name for name in names if name not in state and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in state if name not in set(names)]
    sentences = []
    if missing:
        sentences.append(
            f"model.weights: they do not fit the builder's module: {len(missing)} of its {len(names)} names are not in "
            f"the file ({named(missing, SHOWN)}); the file has {named(list(state), SHOWN)}"
        )
    if unexpected:
        sentences.append(
            f"model.weights: they do not fit the builder's module: {len(unexpected)} names of the file are not in the "
            f"module ({named(unexpected, SHOWN)}); the module has {named(names, SHOWN)}"
        )
    return sentences


def _unfit_shapes(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> list[str]:
    unfit = [name for name, tensor in own.items() if name in state and state[name].shape != tensor.shape]
    sentences = []
    for name in unfit[:SHOWN]:
        theirs, ours = tuple(state[name].shape), tuple(own[name].shape)
        rows = len(theirs) == len(ours) and theirs[1:] == ours[1:]
        hint = ": has the number of classes or of categories changed?" if rows else ": is it another architecture?"
        sentences.append(
            f"model.weights: they do not fit the builder's module: {name!r} has shape {theirs} in the file and {ours} "
            f"in the module{hint}"
        )
    if len(unfit) > SHOWN:
        sentences.append(f"model.weights: {len(unfit) - SHOWN} more have another shape")
    return sentences
