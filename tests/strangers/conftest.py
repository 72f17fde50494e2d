"""Strangers' files and models, each modelled on a kind of public bug report: what does a newcomer get to see?

Every test writes a folder (model code, weights, data files, config) whose true accuracy is known, and types
``guardhouse fit``. The folder must be *read rightly* (the served accuracy is the model's own), or *refused* (status 2,
no traceback, the words that a newcomer can act on), or *warned of* (and then refused with ``--strict``). Silence about
a misreading is what fails: its message begins with ``SILENT, MISREAD``. The other beginnings are ``TRACEBACK``,
``REFUSED`` (it can be read), ``WORDLESS`` (the cause is not named), ``UNSAID``, ``FALSE WARNING`` (on sound data) and
``NOT STRICT``.

The tests know the commands and the contract alone. Helpers are in ``tests/support/newcomers.py``.
"""

from pathlib import Path

import pytest
import torch
from newcomers import Newcomer, command_line

torch.set_num_threads(1)


@pytest.fixture
def newcomer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Newcomer:
    """Give an empty folder, and the commands."""
    return Newcomer(tmp_path, command_line(monkeypatch, capsys))
