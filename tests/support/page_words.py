"""Finds the links, paths, modules and commands that pages of the documentation name, and whether they exist."""

import ast
import re
from functools import cache
from pathlib import Path

from gateways import ROOT

PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "deploy").rglob("*.md"),
        *(ROOT / "examples").rglob("*.md"),
    )
)
FENCED = re.compile(r"^```\w*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


@cache
def text_of(page: str) -> str:
    """Read a page."""
    return (ROOT / page).read_text(encoding="utf-8")


def spans(page: str) -> list[str]:
    """Find the code spans in the sentences of a page."""
    return SPAN.findall(FENCED.sub("", text_of(page)))


def command_lines(page: str) -> list[str]:
    """Find the text of a page that may be commands: the lines of fenced blocks, and the code spans in sentences."""
    fenced = "\n".join(FENCED.findall(text_of(page))).replace("\\\n", " ").splitlines()
    return [line.strip() for line in (*fenced, *spans(page))]


def links(page: str) -> list[str]:
    """Find the targets of a page's links within the repository."""
    outside = ("http://", "https://", "mailto:")
    return [link for link in LINK.findall(FENCED.sub("", text_of(page))) if not link.startswith(outside)]


def anchors(page: str) -> set[str]:
    """Make the anchors of a page's headings, as sites such as GitHub do."""
    words = (re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower()) for heading in HEADING.findall(text_of(page)))
    return {heading.strip().replace(" ", "-") for heading in words}


def resolves(dotted: str) -> bool:
    """Tell, without importing it, whether a dotted name is a module of this repository, or a name in a module."""
    parts = dotted.split(".")
    for cut in range(len(parts), 0, -1):
        place = ROOT.joinpath(*parts[:cut])
        file = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
        if file.is_file():
            return _has(file, parts[cut:])
    return False


def _has(file: Path, names: list[str]) -> bool:
    body: list[ast.stmt] = ast.parse(file.read_text(encoding="utf-8")).body
    for name in names:
        found = [node for node in body if name in _names_of(node)]
        if not found:
            return False
        body = list(getattr(found[-1], "body", ()))
    return True


def _names_of(node: ast.stmt) -> set[str]:
    match node:
        case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
            return {node.name}
        case ast.Import() | ast.ImportFrom():
            return {alias.asname or alias.name for alias in node.names}
        case ast.Assign(targets=[ast.Name(id="__all__")], value=ast.List(elts=listed)):
            return {"__all__", *(str(name.value) for name in listed if isinstance(name, ast.Constant))}
        case ast.Assign():
            return {target.id for target in node.targets if isinstance(target, ast.Name)}
        case ast.AnnAssign(target=ast.Name(id=name)):
            return {name}
    return set()
