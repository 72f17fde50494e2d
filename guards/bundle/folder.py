"""The folder of a bundle: which files the folder holds, and the digest by which a changed manifest is found.

This module needs the standard library alone, because `guardhouse wait` imports this module.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

__all__ = ["FILES", "MANIFEST", "PROGRAM", "SOURCE", "STATE", "WEIGHTS", "foreign_name", "odd_entry", "seal", "sealed"]

MANIFEST, STATE, WEIGHTS, PROGRAM = "manifest.json", "state.safetensors", "weights.safetensors", "model.pt2"
SOURCE = "gateway.yaml"
"""The user's config as the user wrote it; a bundle need not have this file."""
FILES = (STATE, WEIGHTS, PROGRAM, SOURCE)
"""The files that a manifest may name; no other name is ever opened."""


def seal(members: Mapping[str, object]) -> bytes:
    """Write a manifest: JSON whose second line is the digest of all its other lines.

    So `sed 2d manifest.json | sha256sum` prints the digest.
    """
    first, rest = json.dumps(members, indent=1, ensure_ascii=False).encode().split(b"\n", 1)
    rest += b"\n"
    return first + b"\n" + _digest_line(first, rest) + rest


def sealed(manifest: bytes) -> bool:
    """Tell whether a manifest is what :func:`seal` wrote, to the byte."""
    first, *others = manifest.split(b"\n", 2)
    return len(others) == 2 and others[0] + b"\n" == _digest_line(first, others[1])  # noqa: PLR2004 - three parts


def _digest_line(first: bytes, rest: bytes) -> bytes:
    digest = hashlib.sha256(first + b"\n" + rest).hexdigest()
    return f' "digest": "sha256:{digest}",\n'.encode()


def foreign_name(names: Iterable[str]) -> str | None:
    """Give the first name that no file of a bundle has, such as a path out of the folder; None if there is none."""
    return next((name for name in names if name not in FILES), None)


def odd_entry(path: Path, names: Iterable[str]) -> str | None:
    """Say in a sentence which entry of a bundle's folder is a link, is no file, or is not named; None if none is.

    Raises:
        OSError: this user may not list the folder.
    """
    known = {MANIFEST, *names}
    for entry in sorted(path.iterdir()):
        if entry.name not in known:
            return f"{entry}: the bundle's manifest does not name it; remove it, or copy the bundle anew"
        if entry.is_symlink() or not entry.is_file():
            return f"{entry}: it is a link or no file; put the file itself there"
    return None
