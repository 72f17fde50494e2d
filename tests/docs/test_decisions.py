"""The pages of decisions have one style, and one index lists them all."""

import re
from pathlib import Path

import pytest
from gateways import ROOT

FOLDER = ROOT / "docs" / "decisions"
DECISIONS = sorted(FOLDER.glob("0*.md"))
PARTS = ("Status", "Context", "Decision", "Consequences")
STATUS = re.compile(r"\*\*Status\.\*\* (Proposed|Accepted|Superseded), \d{4}-\d{2}-\d{2}\.")


@pytest.mark.parametrize("path", DECISIONS, ids=lambda path: path.stem)
def test_a_decision_has_its_parts_in_order(path: Path) -> None:
    """A page has its number and a title, then status with a date, context, decision and consequences."""
    text = path.read_text(encoding="utf-8")
    assert re.match(rf"# {path.name[:4]}: [A-Za-z]", text)
    assert [part for part in re.findall(r"^\*\*(\w+)\.\*\*", text, re.MULTILINE) if part in PARTS] == list(PARTS)
    assert STATUS.search(text)


def test_the_index_has_every_decision_by_its_title() -> None:
    """The index lists each page once, in order, under the title that the page has."""
    index = (FOLDER / "README.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| \[(\d{4})\]\(([\w-]+\.md)\) \| (.+) \|$", index, re.MULTILINE)
    titles = [path.read_text(encoding="utf-8").partition("\n")[0][8:] for path in DECISIONS]
    assert listed == [(path.name[:4], path.name, title) for path, title in zip(DECISIONS, titles, strict=True)]
