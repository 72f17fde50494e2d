"""Another commit of this repository, unpacked into a folder, so that its code runs beside today's."""

import io
import subprocess
import sys
import tarfile
from pathlib import Path

from benchmarks.harness.servers import ROOT

__all__ = ["unpack"]


def unpack(commit: str, folder: Path) -> Path:
    """Unpack a commit's files into a new folder below ``folder``, and return the new folder.

    The commit runs with this environment's packages, by PYTHONPATH. Leave if git does not know the commit.
    """
    archive = subprocess.run(["git", "archive", "--format=tar", commit], cwd=ROOT, capture_output=True, check=False)
    if archive.returncode:
        sys.exit(f"git cannot unpack {commit!r}: {archive.stderr.decode().strip()}")
    target = folder / f"commit-{commit.replace('/', '-')}"
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(target, filter="data")
    return target
