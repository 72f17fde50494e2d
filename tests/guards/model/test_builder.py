"""Builders: what is called, which module is taken out of a wrapper, and what is refused."""

import sys
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from torch import nn

from guards import Mistake
from guards.model.builder import call_builder
from guards.notices import Notices


def test_builder_beside_the_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A builder is imported from the config's folder, which goes to the end of the import path."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "beside_the_config.py").write_text("from torch import nn\ndef build(): return nn.Linear(3, 2)\n")
    (tmp_path / "json.py").write_text("raise RuntimeError('a module of the user shadows an installed one')\n")
    assert isinstance(call_builder("beside_the_config:build", tmp_path), nn.Linear)
    assert sys.path[-1] == str(tmp_path)
    call_builder("beside_the_config:build", tmp_path)
    assert sys.path.count(str(tmp_path)) == 1


@pytest.mark.parametrize(
    ("builder", "sentence"),
    [
        (
            "no_such_module:build",
            "model.builder: cannot import 'no_such_module:build' (No module named 'no_such_module')",
        ),
        ("tiny_models:no_such_function", "model.builder: module 'tiny_models' has no 'no_such_function'"),
        ("tiny_models:not_a_net", "model.builder: tiny_models:not_a_net returned a str, not a torch.nn.Module"),
    ],
)
@pytest.mark.parametrize("folder", [None, Path("somewhere")])
def test_builder_is_refused(builder: str, sentence: str, folder: Path | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A builder that does not exist or gives no module is refused, and the error says where it was searched."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    with pytest.raises(Mistake) as refused:
        call_builder(builder, folder)
    said = str(refused.value)
    assert said.startswith(sentence)
    if "no_such_module" in builder:
        assert ("GUARDHOUSE_CONFIG" in said) == (folder is None)
        assert ("looked in somewhere" in said) == (folder is not None)


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Write a module of user code, whose name is used once, and give the builder in it."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])

    def write(text: str) -> str:
        name = f"user_{uuid.uuid4().hex}"
        (tmp_path / f"{name}.py").write_text(f"import torch\nfrom torch import nn\n{text}\n")
        return f"{name}:build"

    return write


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("def build(width, depth=2): ...", r"build\(width, depth=2\) needs 'width', and a builder is called without"),
        ("def build(): raise KeyError('no file')", r"build failed: KeyError: 'no file' \(.*user_\w+.py:3 build\)"),
        ("def build(): exit(3)", r"build failed: SystemExit: 3"),
        ("def build(): return nn.ReLU", r"returned the class ReLU, not a module: return ReLU\(\)"),
        ("def build(): return nn.ReLU(), {}", r"returned a tuple \(ReLU, dict\): return the module alone"),
        ("def build(): nn.ReLU()", r"returned a NoneType, not a torch.nn.Module: its last line must be `return"),
        ("build = nn.Linear(2, 2)", r"build is a module, not a function: write `def build\(\): return build`"),
        ("build = 3", r"build is a int, not a function"),
        ("import no_such_package", r"imports 'no_such_package', which cannot be found \(.*.py:3 <module>\): install"),
        ("def build(:", r"user_\w+.py:3: not valid Python \("),
        ("raise ValueError('of the file')", r"cannot import 'user_\w+': ValueError: of the file \(.*.py:3 <module>\)"),
        ("import sys\nsys.exit('usage')", r"cannot import 'user_\w+': SystemExit: usage .*: put what the file runs as"),
        ("def make(): ...", r"has no 'build' \(imported from .*user_\w+.py\)"),
    ],
)
def test_user_code_is_refused_in_a_sentence(text: str, sentence: str, code: Callable[[str], str]) -> None:
    """Every error of the user's code is reported with its name, its reason and its line."""
    with pytest.raises(Mistake, match=sentence):
        call_builder(code(text), None)


def test_what_a_builder_prints(code: Callable[[str], str], capsys: pytest.CaptureFixture[str]) -> None:
    """The text of a builder goes to standard error, since standard output may be a JSON document."""
    call_builder(code("print('imported')\ndef build(*layers):\n    print('built')\n    return nn.ReLU()"), None)
    assert capsys.readouterr() == ("", "imported\nbuilt\n")


def test_a_name_that_is_taken_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If another module of the same name was imported, the error says from which file."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "tiny_models.py").write_text("def my_own(): ...\n")
    with pytest.raises(
        Mistake, match=r"imported from .*support.*tiny_models.py, which hides the file beside the config"
    ):
        call_builder("tiny_models:my_own", tmp_path)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize(
    ("wrap", "note"),
    [
        (
            "torch.compile(nn.Linear(3, 2))",
            "a OptimizedModule; the module inside was taken, and `model.compile",
        ),
        ("nn.DataParallel(nn.Linear(3, 2))", "returned a DataParallel; the module inside was taken"),
    ],
)
def test_wrappers_are_taken_off(wrap: str, note: str, code: Callable[[str], str]) -> None:
    """The module inside a training wrapper is taken, with a note."""
    notices = Notices()
    assert isinstance(call_builder(code(f"def build(): return {wrap}"), None, notices), nn.Linear)
    assert note in notices.notes[0]


def test_a_layer_without_a_size_is_refused(code: Callable[[str], str]) -> None:
    """A lazy layer that never ran is refused with its name."""
    with pytest.raises(Mistake, match=r"whose layer '0' \(LazyLinear\) has no size yet: run the module once on a row"):
        call_builder(code("def build(): return nn.Sequential(nn.LazyLinear(2))"), None)


def test_a_quantised_module_is_refused(code: Callable[[str], str]) -> None:
    """A module whose state is more than plain tensors is refused before anything is fitted."""
    text = (
        "class Packed(nn.Linear):\n    def get_extra_state(self): return {'scale': 3}\n"
        "def build(): return nn.Sequential(Packed(3, 2))"
    )
    with pytest.raises(Mistake, match=r"whose state '0._extra_state' is a dict, which a bundle cannot keep"):
        call_builder(code(text), None)
