"""The page around the sections."""

import pytest
from page_parser import Page

from guards.cli.report.page import render
from guards.cli.report.sections.section import Finding, Grid, Remark, Section

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&"


def section(*findings: Finding, name: str = "data") -> Section:
    grid = Grid(HOSTILE, (HOSTILE, "n"), ((HOSTILE, "1"),))
    return Section(name, f"Title {HOSTILE}", findings, (grid, Remark(HOSTILE)))


@pytest.fixture
def page() -> str:
    """Write a page of two sections."""
    first = section(Finding("good", f"lead {HOSTILE}"), Finding("look", f"odd {HOSTILE}"))
    second = section(Finding("act", f"wrong {HOSTILE}"), name="fit")
    return render(f"a model {HOSTILE}", HOSTILE, [first, second])


def test_every_text_is_escaped(page: str) -> None:
    """Hostile names become text everywhere: there is no script, no image and no handler."""
    parsed = Page.of(page)
    assert not parsed.tags & {"script", "img", "iframe", "object", "embed", "link", "base", "form"}
    assert not [name for name in parsed.attributes if name.startswith("on")]
    assert parsed.text.count("<script>alert(1)</script>") >= 12


def test_nothing_is_fetched(page: str) -> None:
    """Links lead to sections of the page alone, and the page's policy forbids scripts and requests."""
    parsed = Page.of(page)
    assert parsed.links == {"#data", "#fit"}
    assert {link[1:] for link in parsed.links} <= parsed.ids
    assert "http:" not in page
    assert "https:" not in page
    assert "url(" not in page
    assert "default-src 'none'" in page


def test_the_worst_comes_first(page: str) -> None:
    """The summary lists what needs action, then what needs a look, and counts the rest; leads open the sections."""
    summary = page[page.index('id="summary"') : page.index("<nav")]
    assert summary.index("wrong") < summary.index("odd")
    assert "lead" not in summary
    assert "Of 3 findings 1 needs action, 1 needs a look, 1 is fine." in summary


def test_nothing_to_do() -> None:
    """If all is fine, the summary says so."""
    page = render("t", "s", [section(Finding("good", "lead"))])
    assert "Nothing that this page measures needs attention." in page
