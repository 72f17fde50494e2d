"""From a config to an ``nn.Module``: a builder and its weights, or a ``torch.export`` program; never a pickle."""

import importlib
import io
import json
import re
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
from guards.imputation import Imputation
from guards.model import TorchModel, resolve_device
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
            scale=torch.tensor([1.0 if column.scale is None else column.scale for column in schema.columns]),
        )
    return TorchModel(
        net,
        example=schema.example_rows(5)[:-1],  # whole rows: what lacks values is tried at fit
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
    """Load a ``torch.export`` archive, and run nothing that is in it: no pickle, no compiled library, no expression.

    torch would unpickle sample inputs, legacy weights and opaque constants, load libraries, and evaluate the sizes'
    expressions. Of an archive it therefore sees only the members that a plain program consists of, after a look inside.

    Raises:
        Mistake: the file is missing, is no such archive, or holds what would have to be run.
    """
    if not path.is_file():
        raise Mistake(f"model.program: no file {path}")
    clean = io.BytesIO()
    try:
        with zipfile.ZipFile(path) as archive, zipfile.ZipFile(clean, "w", zipfile.ZIP_STORED) as copy:
            members = [name for name in archive.namelist() if MEMBERS.fullmatch(name)]
            if not any(name.endswith("/models/model.json") for name in members):
                raise KeyError("models/model.json")  # noqa: TRY301
            for name in members:
                content = archive.read(name)
                if name.endswith(".json"):
                    _refuse_code(json.loads(content), path)
                copy.writestr(name, content)
                if name.endswith("/models/model.json"):
                    copy.writestr(name.replace("/models/model.json", "/data/sample_inputs/model.pt"), b"")
        clean.seek(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own deprecations while it reads its own format
            return torch.export.load(clean)
    except Mistake:
        raise
    except Exception as broken:  # torch asserts its way through an archive
        raise Mistake(
            f"model.program: {path} is no archive of torch.export.save ({_first_line(broken)}); export it anew"
        ) from broken


MEMBERS = re.compile(
    r"[^/]+/(archive_format|archive_version|byteorder|\.data/version|\.data/serialization_id|models/model\.json"
    r"|data/weights/(weight_\d+|model_weights_config\.json)|data/constants/(tensor_\d+|model_constants_config\.json))"
)
TENSORS = re.compile(r"(weight|tensor)_\d+")
OPERATORS = re.compile(r"torch\.ops\.[a-z]\w*\.\w+(\.\w+)?|torch\.sym_\w+|_operator\.[a-z]\w*|math\.[a-z]\w*")
SIZES = re.compile(r"[A-Z][A-Za-z]*|[su]\d+|positive|nonnegative|integer|floor|ceiling|precision")


def _refuse_code(value: object, path: Path) -> None:
    """Refuse a pickled tensor, an operator that is none of torch's, and a size that is more than arithmetic."""
    if isinstance(value, list):
        for inner in value:
            _refuse_code(inner, path)
    if not isinstance(value, dict):
        return
    if value.get("use_pickle") or not TENSORS.fullmatch(value.get("path_name", "tensor_0")):
        raise Mistake(f"model.program: {path} holds a tensor as a pickle, which is never loaded; export it anew")
    for operator in (value.get("as_operator"), value.get("target") if "inputs" in value else None):
        if operator is not None and not OPERATORS.fullmatch(operator):
            raise Mistake(f"model.program: {path} calls {operator!r}, which is no operator of torch")
    for token in re.findall(r"(?<!\w)[^\W\d]\w*", value.get("expr_str", "")):
        if not SIZES.fullmatch(token):
            raise Mistake(f"model.program: {path} has a size computed by {token!r}, which is no arithmetic")
    for inner in value.values():
        _refuse_code(inner, path)


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
