"""Servers of the chaos tests."""

import signal
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from v2_client import speak

if TYPE_CHECKING:
    from conftest import Bundles
    from gateways import Gateway
    from v2_client import Speaker


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


@pytest.fixture(scope="module")
def two_fronts(bundles: "Bundles", request: pytest.FixtureRequest) -> Iterator["Speaker"]:
    """Serve the values by two fronts, over HTTP and gRPC; each test leaves a server that serves.

    The module names the other keys of the section ``server`` in ``SERVER``, and log lines to expect in ``EXPECTED``.
    """
    for speaker in speak(bundles, "values", fronts=2, **request.module.SERVER):
        speaker.gateway.expected += request.module.EXPECTED
        yield speaker


@pytest.fixture
def gateway(two_fronts: "Speaker") -> "Gateway":
    """Give the server of two fronts once both of them listen."""
    two_fronts.gateway.wait_fronts(2)
    return two_fronts.gateway.wait_ready()
