"""Servers of the chaos tests."""

import signal
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import Bundles
    from gateways import Gateway


@pytest.fixture(scope="package", autouse=True)
def as_in_a_terminal() -> None:
    """Start servers that Ctrl-C can end. A shell starts background jobs with SIGINT ignored, and children inherit that.

    A signal that has a handler here has its default meaning in a child process.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def serve(bundles: "Bundles") -> Iterator[Callable[..., "Gateway"]]:
    """Start servers that are stopped at the end, in order, whatever happened."""
    started: list[Gateway] = []

    def start(name: str, **options: Any) -> "Gateway":
        started.append(bundles.serve(name, **options))
        return started[-1]

    yield start
    for gateway in started:
        gateway.stop()
