"""``torch.export`` programs: loads them without running code from the file, and saves them without a pickle."""

import io
import json
import re
import warnings
import zipfile
from pathlib import Path
from typing import cast

import torch
from torch import nn
from torch.export import ExportedProgram
from torch.utils._pytree import tree_unflatten

from guards.model.early_features import LayerRun
from guards.model.weights import archive_kind
from guards.sentences import first_line
from guards.types import Mistake

__all__ = ["layers_of", "load_program", "row_bounds", "save_program", "unflatten"]


def load_program(path: Path) -> ExportedProgram:
    """Load a ``torch.export`` archive without running anything in it: no pickle, no compiled library, no expression.

    torch alone would unpickle sample inputs, legacy weights and opaque constants, load libraries, and evaluate the
    expressions of sizes. So torch gets a copy with only the members of a plain program, whose content was checked.

    Raises:
        Mistake: the file is missing, is not such an archive, or holds code.
    """
    if not path.is_file():
        raise Mistake(f"model.program: no file {path}")
    kind = archive_kind(path)
    if kind in OTHERS:
        raise Mistake(f"model.program: {path} holds {OTHERS[kind]}")
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
            f"model.program: {path} is not an archive of torch.export.save ({first_line(broken)}); export it anew"
        ) from broken


EXPORT = 'torch.export.export(model.eval(), (rows,), dynamic_shapes=({0: torch.export.Dim("batch")},))'
OTHERS = {
    "pointer": "a pointer of Git LFS, and not the file itself: run `git lfs pull`",
    "safetensors": "weights, not a program: give it as model.weights, with a builder",
    "torch": "weights or a pickled module, not a program: give weights as model.weights, with a builder, or save "
    f"{EXPORT} with torch.export.save",
    "scripted": f"a module of torch.jit.save, not a program: save {EXPORT} of the module with torch.export.save",
}
MEMBERS = re.compile(
    r"[^/]+/(archive_format|archive_version|byteorder|\.data/version|\.data/serialization_id|models/model\.json"
    r"|data/weights/(weight_\d+|model_weights_config\.json)|data/constants/(tensor_\d+|model_constants_config\.json))"
)
LINEAR = (torch.ops.aten.linear.default, torch.ops.aten.addmm.default, torch.ops.aten.mm.default)
"""After run_decompositions() a linear layer is an addmm, or an mm, of the transpose of its weight."""
CONVOLUTION = (
    *(torch.ops.aten.conv1d.default, torch.ops.aten.conv2d.default, torch.ops.aten.conv3d.default),
    *(torch.ops.aten.conv1d.padding, torch.ops.aten.conv2d.padding, torch.ops.aten.conv3d.padding),
    torch.ops.aten.convolution.default,
)
LARGEST_BATCH = 65536
"""A server never runs so many rows at once, so a program that takes so many rows has no limit."""
TENSORS = re.compile(r"(weight|tensor)_\d+")
OPERATORS = re.compile(r"torch\.ops\.[a-z]\w*\.\w+(\.\w+)?|torch\.sym_\w+|_operator\.[a-z]\w*|math\.[a-z]\w*")
SIZES = re.compile(r"[A-Z][A-Za-z]*|[su]\d+|positive|nonnegative|integer|floor|ceiling|precision")


def _refuse_code(value: object, path: Path) -> None:
    """Refuse pickled tensors, operators that do not belong to torch, and sizes that are more than arithmetic."""
    if isinstance(value, list):
        for inner in value:
            _refuse_code(inner, path)
    if not isinstance(value, dict):
        return
    if value.get("use_pickle") or not TENSORS.fullmatch(value.get("path_name", "tensor_0")):
        raise Mistake(f"model.program: {path} holds a tensor as a pickle, which is never loaded; export it anew")
    for operator in (value.get("as_operator"), value.get("target") if "inputs" in value else None):
        if operator is not None and not OPERATORS.fullmatch(operator):
            raise Mistake(f"model.program: {path} calls {operator!r}, which is not an operator of torch")
    for token in re.findall(r"(?<!\w)[^\W\d]\w*", value.get("expr_str", "")):
        if not SIZES.fullmatch(token):
            raise Mistake(f"model.program: {path} has a size computed by {token!r}, which is not arithmetic")
    for inner in value.values():
        _refuse_code(inner, path)


def save_program(program: ExportedProgram, path: Path) -> None:
    """Save an archive without sample inputs, which are the only pickle in an archive."""
    program.example_inputs = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(program, path)


def row_bounds(program: ExportedProgram) -> tuple[int, int | None]:
    """Give the least and the largest number of rows that a program takes at once; None if there is no limit.

    Raises:
        Mistake: the program takes several inputs, or only one number of rows, or only multiples of a number.
    """
    inputs = program.graph_signature.user_inputs
    if len(inputs) != 1:
        raise Mistake(
            f"model.program: the program takes {len(inputs)} inputs ({', '.join(map(str, inputs))}), and the gateway "
            "gives one tensor with all columns: export a module whose forward takes (n, ...) and splits the tensor "
            "itself"
        )
    _, named = tree_unflatten([0], program.call_spec.in_spec)
    if named:
        raise Mistake(
            f"model.program: it takes its input by the name {next(iter(named))!r}, and the gateway gives it by its "
            f"place: export it with {EXPORT}"
        )
    first = next(node for node in program.graph.nodes if node.name == inputs[0])
    rows = first.meta["val"].shape[0]
    if isinstance(rows, int):
        raise Mistake(
            f"model.program: the program takes batches of exactly {rows} rows: export it with "
            'dynamic_shapes=({0: torch.export.Dim("batch")},)'
        )
    bounds = program.range_constraints.get(rows.node.expr)
    if bounds is None or not rows.node.expr.is_symbol:
        raise Mistake(
            f"model.program: the program takes only batches of {rows.node.expr} rows: export it with "
            'dynamic_shapes=({0: torch.export.Dim("batch")},)'
        )
    # torch writes 2 for a size that may also be 1: such a program also runs with one row.
    least = 1 if bounds.lower <= 2 else int(bounds.lower)  # noqa: PLR2004
    return least, int(bounds.upper) if bounds.upper.is_Integer and bounds.upper < LARGEST_BATCH else None


def layers_of(program: ExportedProgram) -> list[LayerRun]:
    """List the convolutions and linear layers of a program in the order in which they run."""
    ran: list[LayerRun] = []
    for node in program.graph.nodes:
        if node.op != "call_function" or not node.meta.get("nn_module_stack"):
            continue
        path, kind = list(node.meta["nn_module_stack"].values())[-1]
        if node.target in LINEAR and str(kind).endswith("Linear"):
            ran.append((path, False))
        elif node.target in CONVOLUTION and str(kind).endswith(("Conv1d", "Conv2d", "Conv3d")):
            ran.append((path, True))
    return ran


def unflatten(program: ExportedProgram) -> tuple[nn.Module, str | None]:
    """Turn a program into a module with submodules for hooks, and find the name of its last linear submodule.

    Raises:
        Mistake: the program does not take one tensor with any number of rows.
    """
    row_bounds(program)
    last = next((name for name, convolution in reversed(layers_of(program)) if not convolution), None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return cast("nn.Module", torch.export.unflatten(program)), last
