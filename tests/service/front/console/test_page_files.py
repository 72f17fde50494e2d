"""The files of the console's page."""

import hashlib
import re
from pathlib import Path
from runpy import run_path

import pytest

from service.front.console.page_files import CONSOLE, HEADERS, page_files

ROOT = Path(__file__).parents[4]
OURS = {path: body.decode() for path, (body, _) in page_files().items() if "/vendor/" not in path}
INDEX = OURS[CONSOLE]


def test_every_file_has_a_media_type() -> None:
    """Browsers load a module or a style sheet only with its media type, because of nosniff."""
    kinds = {path.rpartition(".")[2]: kind.split(";")[0] for path, (_, kind) in page_files().items()}
    assert (kinds["js"], kinds["css"]) == ("text/javascript", "text/css")
    assert page_files()[CONSOLE][1] == "text/html; charset=utf-8"
    assert {"/console/app.js", "/console/tabs/now.js", "/console/vendor/LICENSE"} <= page_files().keys()


def test_no_other_host_and_nothing_inline() -> None:
    """No file of ours names another host (save SVG's name), and the page has no script and no style of its own."""
    assert not [path for path, text in OURS.items() if re.search(r"https?://(?!www\.w3\.org/)", text)]
    assert re.findall(r"<script[^>]*>", INDEX) == ['<script type="module" src="console/app.js">']
    assert not re.search(r"<style|\sstyle=|\son\w+=", INDEX)
    assert "default-src 'none'" in HEADERS["Content-Security-Policy"]
    assert "unsafe" not in HEADERS["Content-Security-Policy"]


@pytest.mark.parametrize("path", sorted(OURS))
def test_what_the_server_says_is_never_taken_for_html(path: str) -> None:
    """Texts are put in with textContent."""
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", OURS[path])


def test_the_vendored_files_are_the_registrys() -> None:
    """The files of uPlot are those of the npm package, unchanged."""
    sums = run_path(str(ROOT / "tools" / "vendor_uplot.py"))["SHA256"]
    found = {name: hashlib.sha256(page_files()[f"/console/vendor/{Path(name).name}"][0]).hexdigest() for name in sums}
    assert found == sums


def test_the_page_works_under_a_prefix() -> None:
    """The page's own addresses are relative, so a proxy may serve the gateway under a path."""
    assert not re.search(r"(href|src)=\"/", INDEX)
    assert not [path for path, text in OURS.items() if re.search(r"(from|import\() ?[\"'`]/", text)]
