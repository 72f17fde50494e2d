"""The blocks of pages about the demo run as they are, and give the output that the page shows."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from followed_pages import Block, Newcomer, blocks_of
from gateways import ROOT

CONFIG, BUNDLE = "examples/digits/gateway.yaml", "bundles/digits"
PAGES = (
    "README.md",
    "docs/attacks.md",
    "docs/batch.md",
    "docs/choosing-guards.md",
    "docs/report.md",
    "docs/monitors.md",
    "docs/metrics.md",
    "docs/feedback.md",
    "docs/explanations.md",
)
LAST = "docs/operations.md"
"""Its last command stops the server."""
PNG = b"\x89PNG\r\n\x1a\n"


def blocks_to_run(page: str) -> list[Block]:
    """Find the commands of a page, each with the answer that follows it; other blocks are only shown."""
    blocks = blocks_of((ROOT / page).read_text(encoding="utf-8"))
    before = [None, *blocks]
    return [
        block
        for previous, block in zip(before, blocks, strict=False)
        if block.kind == "sh" or (previous is not None and previous.kind == "sh" and block.kind in ("json", "text"))
    ]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory, trained_digits: tuple[Path, str]) -> Iterator[Newcomer]:
    """Make the demo as `make demo` does, in a copy of the example, and serve it as `make serve` does."""
    folder = tmp_path_factory.mktemp("checkout")
    here, there = (root / "examples" / "digits" for root in (ROOT, folder))
    shutil.copytree(here, there, ignore=shutil.ignore_patterns("build"))
    trained, _ = trained_digits
    shutil.copytree(trained, there / "build")
    newcomer = Newcomer(folder)
    newcomer.run(f"guardhouse fit {CONFIG} --out {BUNDLE}\n")
    newcomer.check_status("")
    newcomer.serve(BUNDLE, CONFIG)
    yield newcomer
    newcomer.leave()


def test_the_pages_work_as_they_stand(demo: Newcomer) -> None:
    """A reader of the README who goes on to the pages behind it gets the answers that the pages quote."""
    for page in (*PAGES, LAST):
        for block in blocks_to_run(page):
            demo.follow(block)
        demo.check_status("")
    written = {path.name: path.read_bytes() for path in demo.folder.iterdir() if path.suffix in (".png", ".yaml")}
    assert written.keys() == {"why.png", "why-too.png", "drift.rules.yaml"}
    assert all(written[name].startswith(PNG) for name in written if name.endswith(".png"))
    assert (demo.folder / "replayed" / "replay.html").is_file()


def test_each_page_has_something_to_run() -> None:
    """No page is on the list in vain, and the README asks a server and evaluates."""
    commands = {page: "".join(block.text for block in blocks_to_run(page)) for page in (*PAGES, LAST)}
    assert all(commands.values())
    assert "curl" in commands["README.md"]
    assert "guardhouse evaluate" in commands["README.md"]
    assert "--stop" in commands[LAST]
