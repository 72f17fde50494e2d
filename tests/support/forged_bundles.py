"""Changes a bundle on purpose and makes its hashes right again, as anybody can who may write to the folder."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from guards.bundle.folder import seal

__all__ = ["forge"]


def forge(path: Path, change: Callable[[dict[str, Any]], Any] = lambda _: None) -> None:
    """Write the hashes of the bundle's files anew, change the manifest, and seal the manifest again."""
    manifest = json.loads((path / "manifest.json").read_bytes())
    del manifest["digest"]
    for name in manifest["sha256"]:
        manifest["sha256"][name] = hashlib.sha256((path / name).read_bytes()).hexdigest()
    change(manifest)
    (path / "manifest.json").write_bytes(seal(manifest))
