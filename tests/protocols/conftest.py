"""Servers that speak gRPC beside HTTP: the made-up models, with a port more."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from oip import Speaker


@pytest.fixture(scope="session")
def loans(bundles: Any) -> "Iterator[Speaker]":
    """Serve a classifier of a table: categories, missing values, guards of every action, one of them invisible."""
    from oip import speak

    yield from speak(bundles, "table")


@pytest.fixture(scope="session")
def colours(bundles: Any) -> "Iterator[Speaker]":
    """Serve a classifier of images."""
    from oip import speak

    yield from speak(bundles, "images")


@pytest.fixture(scope="session")
def wide(bundles: Any) -> "Iterator[Speaker]":
    """Serve a classifier of 2,000 labels, of which all are about equally likely."""
    import made_up
    from gateways import fit_all
    from oip import speak

    config = made_up.write_wide(bundles.folder / "wide", 2000)
    fit_all({config: config.parent / "bundle"})
    yield from speak(bundles, "wide")


@pytest.fixture(scope="session")
def numbers(bundles: Any) -> "Iterator[Speaker]":
    """Serve a regression model that sleeps on command."""
    from oip import speak

    yield from speak(bundles, "values")
