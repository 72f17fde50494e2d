"""The interpreter that has alibi-detect is found, or a sentence says how to get one."""

import re
import sys
from pathlib import Path

import pytest
import tiny_models

from guards import Mistake
from guards.config.config import parse
from guards.monitors.alibi import interpreter as finding
from guards.monitors.alibi.interpreter import VARIABLE, alibi_python


@pytest.fixture(autouse=True)
def _nothing_configured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Run in an environment that has no other one beside it, and no alibi-detect."""
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / ".venv"))
    monkeypatch.setattr(finding, "_own_version", lambda: None)


def interpreter(path: Path, answer: str) -> Path:
    """Make a program that answers every question like an interpreter that has this version, or that lacks it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{f'echo {answer}' if answer else 'exit 1'}\n")
    path.chmod(0o755)
    return path


def test_an_environment_beside_this_one_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`.venv-alibi` goes before this interpreter, and the interpreter that the variable names goes before both."""
    monkeypatch.setattr(finding, "_own_version", lambda: "0.13.0")
    assert alibi_python() == sys.executable
    beside = interpreter(tmp_path / ".venv-alibi" / "bin" / "python", "0.13.0")
    assert alibi_python() == str(beside)
    named = interpreter(tmp_path / "named", "0.13.0")
    monkeypatch.setenv(VARIABLE, str(named))
    assert alibi_python() == str(named)
    monkeypatch.setenv(VARIABLE, "")
    assert alibi_python() == str(beside)


def test_an_interpreter_without_it_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A configured monitor is never skipped: the error names the interpreter, and what is wrong with it."""
    lacks, old = interpreter(tmp_path / "lacks", ""), interpreter(tmp_path / "old", "0.12.0")
    remedy = "`pip install 'guardhouse[alibi]'` (under the Business Source License 1.1; for Python 3.11 and 3.12)"
    with pytest.raises(ValueError, match=re.escape(f"alibi-detect is not installed here: {remedy}")):
        alibi_python()
    for python, said in (
        (lacks, f"alibi-detect is not installed in {VARIABLE}={lacks}: {remedy}"),
        (old, f"alibi-detect 0.12.0 is installed in {VARIABLE}={old}, and 0.13.0 is needed: {remedy}"),
        (tmp_path / "no", f"{tmp_path / 'no'} cannot be run to find alibi-detect (FileNotFoundError): {remedy}"),
    ):
        monkeypatch.setenv(VARIABLE, str(python))
        with pytest.raises(ValueError, match=re.escape(said)):
            alibi_python()


def test_without_alibi_detect_its_kinds_are_refused() -> None:
    """One sentence says what to install, and under which licence; other monitors still work."""
    document = tiny_models.document("tabular", monitors=[{"name": "drift", "kind": "alibi_ks"}])
    with pytest.raises(Mistake) as refused:
        parse(document)
    (sentence,) = refused.value.sentences
    remedy = (
        "`pip install 'guardhouse[alibi]'` (under the Business Source License 1.1; for Python 3.11 and 3.12), into an "
        f"environment of its own whose interpreter {VARIABLE} names, or leave this monitor out"
    )
    assert sentence == f"monitors.0.alibi_ks: alibi-detect is not installed here: {remedy}"
    parse(tiny_models.document("tabular"))
