"""Trains the examples."""

import os
import subprocess
import sys
from pathlib import Path

__all__ = ["train"]

EXAMPLES = Path(__file__).parents[2] / "examples"


def train(name: str, out: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run an example's train.py from another folder, in a process of its own: the modules of examples share names."""
    return subprocess.run(
        [sys.executable, EXAMPLES / name / "train.py", "--out", out, *options],
        cwd=out,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
