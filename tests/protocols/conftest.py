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
def numbers(bundles: Any) -> "Iterator[Speaker]":
    """Serve a regression model that sleeps on command."""
    from oip import speak

    yield from speak(bundles, "values")
