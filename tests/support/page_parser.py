"""Reads an HTML page as a browser would: its tags, attributes, links, ids and text."""

from html.parser import HTMLParser
from typing import Self

__all__ = ["Page"]

VOID = {"meta", "link", "img", "br", "hr", "input"}
FETCHING = {"src", "href", "srcset", "data", "action", "poster", "background", "xlink:href"}


class Page(HTMLParser):
    """Collects what a page holds; a tag that is closed without having been opened is an error."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.links: set[str] = set()
        self.ids: set[str] = set()
        self.text = ""
        self.open: list[str] = []

    @classmethod
    def of(cls, page: str) -> Self:
        """Parse a whole page."""
        parser = cls()
        parser.feed(page)
        parser.close()
        assert not parser.open, parser.open
        return parser

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.links |= {value or "" for name, value in attrs if name in FETCHING and tag != "use"}
        ids = [value for name, value in attrs if name == "id"]
        assert not self.ids & set(ids), ids
        self.ids |= {value for value in ids if value}
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        self.text += data
