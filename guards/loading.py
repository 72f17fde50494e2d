"""From a config to an ``nn.Module``: a builder and its weights, or a ``torch.export`` program; never a pickle."""

import importlib
import io
import json
import sys
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.export import ExportedProgram

from guards.config import Config
from guards.model import Imputation, TorchModel, resolve_device
from guards.schema import InputSchema
from guards.types import Mistake

__all__ = [
    "call_builder",
    "load_program",
    "load_weights",
    "make_model",
    "read_weights",
    "save_program",
    "unflatten",
]


def make_model(
    config: Config,
    schema: InputSchema,
    *,
    outputs: int | None,
    folder: Path | None,
    weights: Mapping[str, Tensor] | None,
    program: ExportedProgram | None,
    device: str | None = None,
) -> TorchModel:
    """Wrap the config's model for rows of the schema.

    Raises:
        Mistake: it cannot be built, or does not take such rows.
    """
    if program is not None:
        net, last_linear = unflatten(program)
    else:
        assert config.model.builder is not None  # noqa: S101 - the config has one or the other
        net, last_linear = call_builder(config.model.builder, folder), None
        if weights is not None:
            load_weights(net, weights)
    imputation = None
    if schema.kind == "tabular":
        imputation = Imputation(
            fill=torch.tensor([column.fill for column in schema.columns]),
            categorical=schema.categorical,
            keep=torch.tensor([column.impute == "none" for column in schema.columns]),
        )
    return TorchModel(
        net,
        example=schema.example_rows(4),
        outputs=outputs,
        feature_layer=config.model.features,
        last_linear=last_linear,
        imputation=imputation,
        precision=config.model.precision,
        device=resolve_device(device or config.model.device),
        compiled=config.model.compile,
    )


def call_builder(builder: str, folder: Path | None) -> nn.Module:
    """Call ``package.module:function``; ``folder``, the config's own, is appended to the import path.

    Appended and not inserted: a module of the user's must never shadow one of an installed package.

    Raises:
        Mistake: it cannot be imported, or does not return a module.
    """
    module_name, _, name = builder.partition(":")
    if folder is not None and str(folder) not in sys.path:
        sys.path.append(str(folder))
    try:
        function = getattr(importlib.import_module(module_name), name)
    except ImportError as missing:
        hint = (
            "set GUARDHOUSE_CONFIG to the config beside the builder's code, or install its package"
            if folder is None
            else f"looked in {folder} and the installed packages"
        )
        raise Mistake(f"model.builder: cannot import {builder!r} ({missing}): {hint}") from missing
    except AttributeError as missing:
        raise Mistake(f"model.builder: module {module_name!r} has no {name!r}") from missing
    net = function()
    if not isinstance(net, nn.Module):
        raise Mistake(f"model.builder: {builder} returned a {type(net).__name__}, not a torch.nn.Module")
    return net


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a state dict from safetensors, or from a ``.pt`` file with ``weights_only=True``.

    Raises:
        Mistake: the file is missing, or no such file.
    """
    if not path.is_file():
        raise Mistake(f"model.weights: no file {path}")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, RuntimeError, OSError, ValueError, EOFError) as broken:
        raise Mistake(f"model.weights: cannot read {path}: {_first_line(broken)}") from broken
    except Exception as broken:  # torch raises pickle.UnpicklingError for anything but tensors
        raise Mistake(
            f"model.weights: {path} holds more than tensors; save a state_dict, best as safetensors"
        ) from broken
    if not isinstance(state, Mapping) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise Mistake(f"model.weights: {path} holds no state_dict of tensors")
    return dict(state)


def load_weights(net: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load a state dict strictly.

    Raises:
        Mistake: names or shapes do not fit the module.
    """
    try:
        net.load_state_dict(dict(state), strict=True)
    except RuntimeError as unfit:
        raise Mistake(f"model.weights: they do not fit the builder's module: {unfit}") from unfit


def load_program(path: Path) -> ExportedProgram:
    """Load a ``torch.export`` archive without unpickling anything from it.

    An archive holds its sample inputs as a pickle, and may hold pickled objects as constants: the former are left out
    before torch reads it, the latter refused.

    Raises:
        Mistake: the file is missing, is no archive, or holds pickled objects.
    """
    if not path.is_file():
        raise Mistake(f"model.program: no file {path}")
    clean = io.BytesIO()
    try:
        with zipfile.ZipFile(path) as archive, zipfile.ZipFile(clean, "w", zipfile.ZIP_STORED) as copy:
            for name in archive.namelist():
                content = archive.read(name)
                if "/sample_inputs/" in name:
                    content = b""
                elif name.endswith(("weights_config.json", "constants_config.json")):
                    _refuse_pickles(content, path)
                copy.writestr(name, content)
        clean.seek(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own deprecations while it reads its own format
            return torch.export.load(clean)
    except (zipfile.BadZipFile, RuntimeError, KeyError, ValueError) as broken:
        raise Mistake(f"model.program: {path} is no torch.export archive: {_first_line(broken)}") from broken


def _refuse_pickles(config: bytes, path: Path) -> None:
    for name, entry in json.loads(config)["config"].items():
        if entry.get("use_pickle"):
            raise Mistake(f"model.program: {path} holds {name!r} as a pickle, which is never loaded; export it anew")


def save_program(program: ExportedProgram, path: Path) -> None:
    """Save an archive without sample inputs, and so without a pickle."""
    program.example_inputs = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(program, path)


def unflatten(program: ExportedProgram) -> tuple[nn.Module, str | None]:
    """Make a module of a program, with its submodules back for hooks, and name its last linear one.

    Raises:
        Mistake: the program was exported for one batch size alone.
    """
    first = next(node for node in program.graph.nodes if node.name == program.graph_signature.user_inputs[0])
    if isinstance(first.meta["val"].shape[0], int):
        raise Mistake(
            f"model.program: it takes batches of exactly {first.meta['val'].shape[0]} rows: export it with "
            'dynamic_shapes=({0: torch.export.Dim("batch")},)'
        )
    last = None
    for node in program.graph.nodes:
        if node.op == "call_function" and node.target == torch.ops.aten.linear.default:
            path, kind = list(node.meta["nn_module_stack"].values())[-1]
            last = path if str(kind).endswith("Linear") else last
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return cast("nn.Module", torch.export.unflatten(program)), last


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
