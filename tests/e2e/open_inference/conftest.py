"""A server of a model with many labels."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from v2_client import Speaker


@pytest.fixture(scope="session")
def wide(bundles: Any) -> "Iterator[Speaker]":
    """Serve a classifier of 2,000 labels, of which all are about equally likely."""
    import example_folders
    from gateways import fit_all
    from v2_client import speak

    config = example_folders.write_wide(bundles.folder / "wide", 2000)
    fit_all({config: config.parent / "bundle"})
    yield from speak(bundles, "wide")
