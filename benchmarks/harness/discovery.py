"""The benchmarks, found without importing them: every module here that defines ``main(*, quick: bool, ...)``."""

import ast
import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Benchmark", "find"]

FOLDER = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Benchmark:
    """A benchmark: its name on the command line, its module, and which options its ``main`` takes beside ``quick``."""

    name: str
    module: str
    options: frozenset[str]

    def run(self, *, quick: bool, **options: Any) -> None:  # noqa: ANN401 - each option has a type of its own
        """Import the module and run the benchmark."""
        importlib.import_module(self.module).main(quick=quick, **options)


def find(folder: Path = FOLDER) -> dict[str, Benchmark]:
    """Return the benchmarks of a package's folder by name, sorted.

    Raises:
        ValueError: two modules of one name are benchmarks.
    """
    found: dict[str, Benchmark] = {}
    for path in sorted(folder.rglob("*.py"), key=lambda path: path.stem):
        options = _options(path)
        if options is None:
            continue
        if path.stem in found:
            raise ValueError(f"two benchmarks are called {path.stem!r}: rename one")
        module = ".".join(path.relative_to(folder.parent).with_suffix("").parts)
        found[path.stem] = Benchmark(path.stem, module, options)
    return found


def _options(path: Path) -> frozenset[str] | None:
    """Return the keywords of a module's ``main`` without ``quick``; None if the module is no benchmark."""
    for statement in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(statement, ast.FunctionDef) and statement.name == "main":
            keywords = frozenset(argument.arg for argument in statement.args.kwonlyargs)
            return keywords - {"quick"} if "quick" in keywords else None
    return None
