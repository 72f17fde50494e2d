"""Finds the Python interpreter that has alibi-detect, which needs its own environment for its old numpy and Pillow."""

import os
import subprocess
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

__all__ = ["VARIABLE", "alibi_python"]

VARIABLE = "GUARDHOUSE_ALIBI_PYTHON"
NEEDED = "0.13.0"
FOLDER = ".venv-alibi"
ASK_SECONDS = 60
ASK = "from importlib.metadata import version; print(version('alibi-detect'))"
REMEDY = (
    "`pip install 'guardhouse[alibi]'` (under the Business Source License 1.1; for Python 3.11 and 3.12), into an "
    f"environment of its own whose interpreter {VARIABLE} names, or leave this monitor out"
)


def alibi_python() -> str:
    """Give the interpreter that ``GUARDHOUSE_ALIBI_PYTHON`` names, or else the one of ``.venv-alibi``.

    The folder ``.venv-alibi`` lies beside the folder of this interpreter's environment. If the variable is not set and
    the folder does not exist, the result is this interpreter.

    Raises:
        ValueError: the interpreter does not have alibi-detect 0.13.0.
    """
    if named := os.environ.get(VARIABLE):
        found, where = _version_of(named), f"in {VARIABLE}={named}"
        python = named
    elif (beside := Path(sys.prefix).parent / FOLDER / "bin" / "python").is_file():
        found, where = _version_of(str(beside)), f"in {beside}"
        python = str(beside)
    else:
        found, where = _own_version(), "here"
        python = sys.executable
    if found is None:
        raise ValueError(f"alibi-detect is not installed {where}: {REMEDY}")
    if found != NEEDED:
        raise ValueError(f"alibi-detect {found} is installed {where}, and {NEEDED} is needed: {REMEDY}")
    return python


def _own_version() -> str | None:
    try:
        return version("alibi-detect")
    except PackageNotFoundError:
        return None


@cache
def _version_of(python: str) -> str | None:
    """Ask another interpreter for its version of alibi-detect; None if it has none.

    Raises:
        ValueError: the interpreter cannot be run.
    """
    try:
        asked = subprocess.run(  # noqa: S603 - an interpreter that was configured
            [python, "-I", "-c", ASK], capture_output=True, text=True, timeout=ASK_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as failure:
        raise ValueError(f"{python} cannot be run to find alibi-detect ({type(failure).__name__}): {REMEDY}") from None
    return asked.stdout.strip() or None
