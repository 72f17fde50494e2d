"""The files of the console's page: read once, when the front starts."""

from collections.abc import Mapping
from pathlib import Path

__all__ = ["CONSOLE", "HEADERS", "PREFIX", "page_files"]

CONSOLE, PREFIX = "/console", "/console/"
PAGE = Path(__file__).parent / "page"
INDEX = "index.html"
MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    "": "text/plain; charset=utf-8",
}
"""The media type of a file by its suffix; other files are not served."""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
"""The headers of the page and of its files: the page may load files of this server alone, and nobody may frame it."""


def page_files() -> dict[str, tuple[bytes, str]]:
    """Read every file of the page; gives content and media type by path."""
    found = {}
    for file in sorted(PAGE.rglob("*")):
        if file.is_file() and file.suffix in MEDIA_TYPES:
            name = file.relative_to(PAGE).as_posix()
            path = CONSOLE if name == INDEX else PREFIX + name
            found[path] = (file.read_bytes(), MEDIA_TYPES[file.suffix])
    return found
