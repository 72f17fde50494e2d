"""The page "your own model": every block runs as a newcomer would run it, and gives the output that the page shows."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from followed_pages import STATUS, Newcomer, blocks_of
from gateways import ROOT

PAGE = ROOT / "docs" / "your-own-model.md"
SECTIONS = {
    section.partition("\n")[0]: blocks_of(section) for section in PAGE.read_text(encoding="utf-8").split("\n## ")[1:]
}

QUICK = "An MLP on a table"
"""The section that is followed every time. It says, as the others do, how to check, fit, serve and ask."""


@pytest.fixture
def newcomer(tmp_path: Path) -> Iterator[Newcomer]:
    """Give an empty folder, and end what was started in it."""
    one = Newcomer(tmp_path)
    yield one
    one.leave()


@pytest.mark.parametrize(
    "section", [pytest.param(name, marks=[] if name == QUICK else [pytest.mark.slow]) for name in SECTIONS]
)
def test_a_section_works_as_it_stands(newcomer: Newcomer, section: str) -> None:
    """The blocks of a section run one after another, with the exit statuses and the sentences that the page quotes."""
    for block in SECTIONS[section]:
        newcomer.follow(block)
    newcomer.check_status("")


def test_the_page_has_something_to_run() -> None:
    """Each of the three sections writes a model and a config, checks, fits, serves, asks, and makes mistakes."""
    assert len(SECTIONS) == 3
    assert QUICK in SECTIONS
    for blocks in SECTIONS.values():
        commands = "\n".join(block.text for block in blocks if block.kind == "sh")
        assert len([block for block in blocks if block.title]) == 3
        assert all(f"guardhouse {name} " in commands for name in ("check", "fit", "serve"))
        assert "curl" in commands
        assert sum(bool(STATUS.search(block.text)) or "warning:" in block.text for block in blocks) >= 2
