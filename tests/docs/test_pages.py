"""Whatever a page names exists in the repository."""

import ast
import re
from typing import Any

import click
import pytest
import typer
from gateways import ROOT
from page_words import PAGES, anchors, command_lines, links, resolves, spans, text_of

from guards.config.config import Config
from service.cli.commands import app

FOLDERS = ("service", "guards", "tests", "docs", "benchmarks", "deploy", "examples", "tools", ".ci")
PATH = re.compile(rf"(?:{'|'.join(map(re.escape, FOLDERS))})/[\w./\-]*")
DOTTED = re.compile(r"(?:guards|service|benchmarks)(?:\.\w+)+")
RESOLVED = re.compile(r"((?:guards|service|benchmarks)(?:\.\w+)*):(\w+)")
MADE = re.compile(r"/build/|^bundles/|^benchmarks/NAME")
"""What only a command makes, or stands for a name."""
SECTIONS = ("model", "reference", "explain", "server", "store", "input")
EXTENSIONS = (".py", ".md", ".npz", ".csv", ".pt", ".pt2", ".safetensors", ".yaml", ".html", ".parquet")
KEY = re.compile(rf"({'|'.join(SECTIONS)})\.([a-z_]+)")
METRIC = re.compile(r"guardhouse_[a-z_]*[a-z]")
SUFFIX = re.compile(r"_(?:total|bucket|sum|count)$")
VARIABLE = re.compile(r"GUARDHOUSE_[A-Z_]*[A-Z]")
COMMANDS = typer.main.get_command(app)
NAMING = [page for page in PAGES if not page.startswith("examples/")]


def sources(*folders: str) -> str:
    """Read every Python file of some folders."""
    return "\n".join(
        file.read_text(encoding="utf-8") for folder in folders for file in sorted((ROOT / folder).rglob("*.py"))
    )


@pytest.fixture(scope="module")
def code() -> str:
    """Give the sources of library, server and benchmarks as one text."""
    return sources("guards", "service", "benchmarks")


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    """Every relative link of a page names a file, and its anchor is a heading of that file."""
    for link in links(page):
        name, _, anchor = link.partition("#")
        target = (ROOT / page).parent / name if name else ROOT / page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.resolve().relative_to(ROOT).as_posix()), link


@pytest.mark.parametrize("page", NAMING)
def test_paths_exist(page: str) -> None:
    """Every path of the repository that a page sets in code exists."""
    missing = [
        span
        for span in spans(page)
        if PATH.fullmatch(span) and not MADE.search(span) and not (ROOT / span.rstrip("/")).exists()
    ]
    assert not missing


@pytest.mark.parametrize("page", NAMING)
def test_names_resolve(page: str) -> None:
    """Every `package.module:name`, and every dotted name of ours, is in the sources."""
    missing = [":".join(found.groups()) for span in spans(page) if (found := RESOLVED.fullmatch(span))]
    missing = [name for name in missing if not resolves(name.replace(":", "."))]
    assert not missing
    assert not [span for span in spans(page) if DOTTED.fullmatch(span) and not resolves(span)]


@pytest.mark.parametrize("page", PAGES)
def test_make_targets_exist(page: str) -> None:
    """Every `make TARGET` is in the Makefile."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for line in command_lines(page):
        for called in re.findall(r"(?:^|&& )make ([a-z][a-z-]*)", line):
            assert re.search(rf"^{called}:", makefile, re.MULTILINE), line


@pytest.mark.parametrize("page", PAGES)
def test_commands_take_their_options(page: str) -> None:
    """Every `guardhouse COMMAND` is a command, and takes each option that a page gives it."""
    assert isinstance(COMMANDS, click.Group) or hasattr(COMMANDS, "commands")
    known: dict[str, Any] = COMMANDS.commands  # type: ignore[attr-defined]
    for line in command_lines(page):
        for called in re.findall(r"(?:^|&& )guardhouse ([^|&#]+)", line):
            name, *rest = called.split()
            assert name in known, line
            command = known[name]
            if hasattr(command, "commands"):  # a group: the next word is the command
                command = command.commands[rest.pop(0)]
            options = {option for parameter in command.params for option in parameter.opts} | {"--help"}
            given = {re.split(r"[=\]]", word)[0] for word in (word.lstrip("[") for word in rest) if word[:2] == "--"}
            assert given <= options, line


@pytest.mark.parametrize("page", PAGES)
def test_modules_that_are_run_exist(page: str) -> None:
    """Every `python -m MODULE` of ours is a module, every benchmark is one, and pytest is given paths that exist."""
    for line in command_lines(page):
        for module, rest in re.findall(r"python -m ([\w.]+)(.*)", line):
            if module == "benchmarks":
                benchmarks = [word for word in rest.split() if re.fullmatch(r"[a-z][a-z-]*", word)]
                found = " ".join(path.as_posix() for path in (ROOT / "benchmarks").rglob("*.py"))
                assert all(f"/{name.replace('-', '_')}.py" in found for name in benchmarks), line
            elif module == "pytest":
                paths = [word for word in rest.split() if word.startswith("tests/")]
                assert all((ROOT / path).exists() for path in paths), line
            elif module.split(".")[0] in ("service", "guards"):
                assert resolves(module), line


@pytest.mark.parametrize("page", PAGES)
def test_config_keys_exist(page: str) -> None:
    """Every `section.key` of the config is one of its keys."""
    for span in spans(page):
        found = KEY.match(span)
        if found is None or span.endswith(EXTENSIONS):
            continue
        section: Any = Config.model_fields[found[1]].annotation
        kinds = [section] if hasattr(section, "model_fields") else section.__args__
        assert any(found[2] in kind.model_fields for kind in kinds), span


@pytest.mark.parametrize("page", PAGES)
def test_variables_are_read(page: str, code: str) -> None:
    """Every `GUARDHOUSE_...` variable is read by the server, a test, the Makefile or a manifest."""
    others = [*(ROOT / "deploy").rglob("*.*"), *(ROOT / "tests").rglob("*.py")]
    read = code + "".join(path.read_text(encoding="utf-8") for path in others if path.suffix in (".py", ".yaml", ".sh"))
    assert not [name for name in VARIABLE.findall(text_of(page)) if name not in read]


def test_metrics_exist_and_are_all_described(code: str) -> None:
    """The page of metrics names no metric that the sources lack, and lacks none that a scrape is held against."""
    described = set(METRIC.findall(text_of("docs/metrics.md"))) - {"guardhouse_"}
    for name in described:
        stem = SUFFIX.sub("", name.removeprefix("guardhouse_"))
        assert re.search(rf'"{stem}(_total)?"', code), name
    held = ROOT / "tests" / "e2e" / "test_metrics.py"
    (types,) = (
        node.value
        for node in ast.parse(held.read_text(encoding="utf-8")).body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "TYPES"
    )
    scraped = {name for name in ast.literal_eval(types) if name.startswith("guardhouse_")}
    assert scraped <= {SUFFIX.sub("", name) for name in described}


@pytest.mark.parametrize("root", ["service", "guards"])
def test_the_code_map_has_every_package(root: str) -> None:
    """Every package has a row in the code map, which says what the package holds."""
    page = text_of("docs/architecture.md")
    packages = sorted(path.parent.relative_to(ROOT).as_posix() for path in (ROOT / root).rglob("__init__.py"))
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    versions = "service/store/migrations/versions"  # one file for each change of the tables
    missing = [
        package
        for package in packages
        if package not in (root, versions) and not any(f"`{package}/`" in row for row in rows)
    ]
    assert not missing


def test_the_readme_is_two_screens_and_leads_to_every_page() -> None:
    """The README has a hundred lines or so, and each page in docs/ is a link away."""
    assert len(text_of("README.md").splitlines()) <= 105
    linked = {link.partition("#")[0] for link in links("README.md")}
    assert {page for page in PAGES if page.startswith("docs/") and page.count("/") == 1} <= linked


@pytest.mark.parametrize("page", ["CONTRIBUTING.md"])
def test_recipes_have_eight_steps_at_most(page: str) -> None:
    """A recipe that needs more than eight steps says that the code needs fewer."""
    recipes = [part for part in text_of(page).split("\n## ") if part.startswith("A new ")]
    assert len(recipes) == 7
    for recipe in recipes:
        assert 1 <= len(re.findall(r"^\d+\. ", recipe, re.MULTILINE)) <= 8, recipe.partition("\n")[0]
