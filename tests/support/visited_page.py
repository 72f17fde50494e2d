"""Visits a page of a server in Chromium: waits for what the page does, types, clicks, and chooses files."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import pytest
from chromium import Chromium, chromium
from waiting import until

__all__ = ["SIZES", "Visit", "visit"]

SIZES: list[tuple[int, Literal["light", "dark"]]] = [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")]
"""The width of a desk's and of a phone's window, each in both colour schemes."""


class Visit(Chromium):
    """A tab with a page of a server. Elements are named by CSS selectors."""

    def go(self, url: str, *, width: int = 1280, scheme: Literal["light", "dark"] = "light") -> None:
        """Load an address in a window of so many pixels."""
        self.events.clear()
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600
        )
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.call("Page.navigate", url="about:blank")  # else another fragment of the same address loads nothing
        self.call("Page.navigate", url=url)

    def settled(self, expression: str) -> Any:
        """Evaluate JavaScript that gives a promise, and give the promise's value."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, expression: str) -> Any:
        """Wait until JavaScript gives something true, and give it."""
        return until(lambda: self._quiet_value(expression), pause=0.05)

    def _quiet_value(self, expression: str) -> Any:
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        return None if "exceptionDetails" in answer else answer["result"].get("value")

    def text(self, selector: str) -> str:
        """Give the text of the first such element; an empty string if there is none."""
        found: str = self.value(f"document.querySelector({json.dumps(selector)})?.textContent ?? ''")
        return found

    def wait_text(self, selector: str, accept: Callable[[str], bool]) -> str:
        """Wait until the text of an element is accepted, and give the text."""
        return until(lambda: text if accept(text := self.text(selector)) else "", pause=0.05)

    def click(self, selector: str) -> None:
        """Click the first such element."""
        self.wait(f"!!document.querySelector({json.dumps(selector)})")
        self.value(f"document.querySelector({json.dumps(selector)}).click() ?? true")

    def type(self, selector: str, text: str) -> None:
        """Set the value of a control, as typing, choosing or dragging does."""
        self.wait(f"!!document.querySelector({json.dumps(selector)})")
        self.value(
            f"{{ const control = document.querySelector({json.dumps(selector)}); control.value = {json.dumps(text)};"
            " control.dispatchEvent(new Event('input', { bubbles: true })); true }"
        )

    def upload(self, selector: str, files: Sequence[Path]) -> None:
        """Choose files in a file field."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(path) for path in files])


@contextmanager
def visit(profile: Path) -> Iterator[Visit]:
    """Start Chromium, or skip the test if Chromium is not installed."""
    program = chromium()
    if program is None:
        pytest.skip("Chromium is not installed (Debian: apt-get install chromium)")
    with Visit(program, profile) as page:
        yield page
