"""The browser in which the console is visited."""

from collections.abc import Iterator

import pytest
from visited_page import Visit, visit


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Visit]:
    """Open a browser, which every test of a module loads anew."""
    with visit(tmp_path_factory.mktemp("chromium")) as opened:
        yield opened
