"""A bundle's folder: the names of its files, the manifest with their hashes, and modules' tensors in files."""

import hashlib
import json
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from guards.config.config import parse
from guards.types import Mistake
from guards.version import __version__

__all__ = [
    "MANIFEST",
    "PROGRAM",
    "STATE",
    "WEIGHTS",
    "id_of",
    "named_state",
    "plain",
    "read_manifest",
    "restored",
    "write_manifest",
    "write_tensors",
]

M = TypeVar("M", bound=nn.Module)
MANIFEST, STATE, WEIGHTS, PROGRAM = "manifest.json", "state.safetensors", "weights.safetensors", "model.pt2"
FORMAT, KEYS = 1, {"schema", "classes", "outputs", "temperature", "cause_names", "self_test"}


def read_manifest(path: Path, *, verify: bool = True) -> dict[str, Any]:
    """Read a bundle's manifest; ``verify`` also reads every file and compares the file's hash with the manifest's.

    Raises:
        Mistake: there is no bundle, a file was changed, or this user may not read a file.
    """
    try:
        return _read_manifest(path, verify=verify)
    except OSError as refused:
        raise Mistake(
            f"{refused.filename or path}: it cannot be read ({refused.strerror}); "
            "make it readable for the user of this process"
        ) from refused


def _read_manifest(path: Path, *, verify: bool) -> dict[str, Any]:
    if not (path / MANIFEST).is_file():
        raise Mistake(f"{path}: no bundle there; make one with `guardhouse fit CONFIG --out {path}`")
    try:
        manifest: dict[str, Any] = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        config, files = manifest["config"], dict(manifest["sha256"])
        whole = manifest["format"] == FORMAT and manifest.keys() >= KEYS
    except (ValueError, KeyError, TypeError) as broken:
        raise Mistake(f"{path / MANIFEST}: it cannot be read; fit the bundle anew") from broken
    try:
        program = parse(config).model.program is not None
    except Mistake as unfit:
        raise Mistake(*(f"{path / MANIFEST}: {sentence}" for sentence in unfit.sentences)) from unfit
    if not whole or not {STATE, PROGRAM if program else WEIGHTS} <= files.keys():
        raise Mistake(f"{path / MANIFEST}: it is incomplete, or of another version; fit the bundle anew")
    for name, digest in files.items() if verify else ():
        if not (path / name).is_file():
            raise Mistake(f"{path / name}: the file is missing; fit or copy the bundle anew")
        if sha256_of(path / name) != digest:
            raise Mistake(f"{path / name}: it is not the file that was fitted (sha256 differs); copy the bundle anew")
    return manifest


def write_manifest(path: Path, **members: object) -> None:
    """Write the manifest of a folder that holds all other files of the bundle already, with the hash of each file."""
    manifest = {
        "format": FORMAT,
        "versions": {"guardhouse": __version__, "torch": torch.__version__},
        **members,
        "sha256": {file.name: sha256_of(file) for file in sorted(path.iterdir())},
    }
    (path / MANIFEST).write_text(json.dumps(manifest, indent=1, ensure_ascii=False), encoding="utf-8")


def id_of(path: Path) -> str:
    """Give the id of the bundle in a folder: ``sha256:`` and the manifest's hash, which covers all other files."""
    return f"sha256:{sha256_of(path / MANIFEST)}"


def sha256_of(file: Path) -> str:
    """Give a file's hash in hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def named_state(prefix: str, module: nn.Module) -> dict[str, Tensor]:
    """Give a module's buffers and parameters under names that begin with ``prefix``."""
    return {f"{prefix}.{name}": tensor for name, tensor in module.state_dict().items()}


def plain(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copy tensors to the CPU, each into memory of its own: safetensors takes no shared and no strided tensors."""
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}


def write_tensors(state: Mapping[str, Tensor], file: Path) -> None:
    """Write a safetensors file with the permissions that the umask gives to a new file.

    safetensors creates its files with mode 0600, whatever the umask is. A bundle with such a file cannot be read by the
    user of a container, once root or another user has copied it there.
    """
    file.touch()
    mode = stat.S_IMODE(file.stat().st_mode)
    save_file(plain(state), file)
    file.chmod(mode)


def restored(module: M, state: Mapping[str, Tensor], prefix: str) -> M:
    """Set every buffer and parameter of a module from the bundle; its shape may differ from that before fitting."""
    for name, tensor in state.items():
        if name.startswith(prefix + "."):
            owner, _, buffer = name.removeprefix(prefix + ".").rpartition(".")
            holder = module.get_submodule(owner)
            learned = buffer in dict(holder.named_parameters(recurse=False))
            setattr(holder, buffer, nn.Parameter(tensor, requires_grad=False) if learned else tensor)
    return module
