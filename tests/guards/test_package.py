"""The library as a package: its dependencies, the examples in its docstrings, and its public names."""

import doctest
import importlib
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import guards

# Keeps every package out of a process but the four that the library needs.
WITHOUT_EXTRAS = """
import sys

class Blocked:
    allowed = {"torch", "numpy", "pydantic", "pydantic_core", "safetensors", "guards"}
    # What those four bring with them: their own dependencies, and what is compiled beside them.
    brought = {"typing_extensions", "annotated_types", "typing_inspection", "sympy", "mpmath", "networkx", "filelock",
               "jinja2", "markupsafe", "fsspec", "functorch", "torchgen", "setuptools", "optree"}

    def find_spec(self, name, path=None, target=None):
        first = name.partition(".")[0]
        known = first in sys.stdlib_module_names or first in self.allowed | self.brought or first.startswith("_")
        if not known:
            raise ModuleNotFoundError(f"No module named {name!r} (blocked)", name=name)

sys.meta_path.insert(0, Blocked())
"""

FIT = """
import torch
from torch import nn
from guards import Batch, Bundle, Rows, TorchModel, fit_rows
from guards.config.config import parse
from guards.input.schema import InputSchema
from guards.testing import detector_checks
from guards.config.plugins import registered
from pathlib import Path

torch.manual_seed(0)
schema = InputSchema(kind="tensor", shape=(4,))
config = parse({
    "name": "bare", "model": {"builder": "collections:OrderedDict", "device": "cpu"},
    "input": {"kind": "tensor", "shape": [4]}, "reference": {"path": "-"}, "false_alarm_budget": 0.05,
    "guards": [{"name": kind, "detector": {"kind": kind}} for kind in ("ranges", "mahalanobis", "confidence")],
    "monitors": [{"name": "streams", "kind": "bins"}],
})
model = TorchModel(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)), example=torch.rand(4, 4), outputs=3)
parts = [Rows(torch.randn(300, 4), torch.randint(3, (300,))) for _ in range(2)]
fitted = fit_rows(config, schema=schema, classes=("a", "b", "c"), model=model, train=parts[0], heldout=parts[1])
fitted.bundle.save(Path(OUT))
outcome = fitted.bundle.pipeline()(Batch(10 * torch.randn(5, 4)))
assert outcome.verdict.flagged.any(), outcome.verdict.p_value
for check in detector_checks(registered("detectors")["ranges"], kind="tabular").values():
    check()
print("fitted")
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_library_needs_no_extra(tmp_path: Path) -> None:
    """With torch, numpy, pydantic and safetensors alone, guards is imported, fits, saves, judges and checks."""
    done = run(WITHOUT_EXTRAS + f"OUT = {str(tmp_path / 'b')!r}\n" + FIT)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "fitted\n"
    assert (tmp_path / "b" / "manifest.json").is_file()


def test_blocking_blocks() -> None:
    """The hook of the test above does keep other packages out."""
    for name in ("pandas", "yaml", "captum", "scipy", "bentoml", "service", "pytest"):
        done = run(WITHOUT_EXTRAS + f"import {name}")
        assert f"No module named '{name}" in done.stderr


def test_explainer_asks_for_its_extra() -> None:
    """Without captum only explaining fails, and by captum's name."""
    code = "import torch, guards.explainers.deep_lift as m\nfrom guards import TorchModel, InputSchema\n"
    code += "from guards.explainers.explained_function import Subject\n"
    code += "model = TorchModel(torch.nn.Linear(2, 2), example=torch.rand(2, 2), outputs=2)\n"
    code += "s = Subject(model, InputSchema(kind='tensor', shape=(2,)))\n"
    code += "m.DeepLift(m.DeepLiftParams(), s).explain(torch.rand(1, 2), torch.tensor([0]))\n"
    done = run(WITHOUT_EXTRAS + code)
    assert "No module named 'captum" in done.stderr


def modules() -> list[str]:
    return [info.name for info in pkgutil.walk_packages(guards.__path__, "guards.")]


@pytest.mark.parametrize("name", ["guards", *modules()])
def test_doctests(name: str) -> None:
    """The examples in docstrings give what they say."""
    import torch

    module = importlib.import_module(name)
    failed, _ = doctest.testmod(module, extraglobs={"torch": torch})
    assert failed == 0


def test_doctests_are_found() -> None:
    """There are such examples."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = [test for name in modules() for test in finder.find(importlib.import_module(name)) if test.examples]
    assert len(found) >= 3


@pytest.mark.parametrize("name", ["guards", *modules()])
def test_exported_names_are_there(name: str) -> None:
    """Every name that a module lists as exported is in the module, and is listed once."""
    module = importlib.import_module(name)
    exported = getattr(module, "__all__", [])
    assert [each for each in exported if not hasattr(module, each)] == []
    assert len(set(exported)) == len(exported)


def test_version_is_the_distributions() -> None:
    """The version in the package is the version in the project's metadata."""
    import tomllib

    project = tomllib.loads((Path(guards.__file__).parents[1] / "pyproject.toml").read_text())["project"]
    assert guards.__version__ == project["version"]


def test_names_of_the_package_are_those_of_their_modules() -> None:
    """Every name of the package is the object that its own module defines, and `dir` lists it."""
    for name, home in guards.HOMES.items():
        module = importlib.import_module(f"guards.{home}")
        assert getattr(guards, name) is getattr(module, guards.OLD_NAMES.get(name, name))
    assert {*guards.__all__} == {*guards.HOMES, "__version__"} - {*guards.OLD_NAMES}
    assert {*guards.__all__} <= {*dir(guards)}


def test_an_old_name_is_accepted() -> None:
    """The former name of the pipeline's result can still be imported."""
    from guards import Outcome, Result  # type: ignore[attr-defined]

    assert Outcome is Result


def test_an_unknown_name_is_an_error() -> None:
    """A name that the package does not have is an ImportError that names it."""
    with pytest.raises(ImportError, match="cannot import name 'Nonsense' from 'guards'"):
        from guards import Nonsense  # type: ignore[attr-defined]  # noqa: F401


def test_the_package_is_imported_without_torch() -> None:
    """Importing the package loads no torch; asking for a name that needs torch does."""
    done = run("import sys, guards; print('torch' in sys.modules); guards.Batch; print('torch' in sys.modules)")
    assert done.stdout.split() == ["False", "True"], done.stderr
