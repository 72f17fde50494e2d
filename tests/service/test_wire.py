"""uvicorn's protocol as ours: how a connection ends when the server does."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from uvicorn import Config
from uvicorn.server import ServerState

from service.wire import StrictProtocol

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
Scenario = Callable[[StrictProtocol, socket.socket], Awaitable[None]]


async def _app(scope: Any, _: Any, send: Any) -> None:
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 204, "headers": [(b"connection", b"close")]})
        await send({"type": "http.response.body", "body": b""})


def connected(scenario: Scenario, *, before: bytes = b"") -> None:
    """Run a scenario with a connection's two ends, once the server has got what was sent before."""

    async def main() -> None:
        config = Config(_app, log_config=None)
        config.load()
        client, server = socket.socketpair()
        client.setblocking(False)
        loop = asyncio.get_running_loop()
        with client:
            client.send(before)
            _, protocol = await loop.connect_accepted_socket(
                lambda: StrictProtocol(config=config, server_state=ServerState(), app_state={}, _loop=loop), server
            )
            for _ in range(100):
                await asyncio.sleep(0)
            assert protocol._in_head == bool(before)
            await asyncio.wait_for(scenario(protocol, client), 10)
            protocol.transport.close()
            await asyncio.sleep(0)

    asyncio.run(main())


async def _read(client: socket.socket) -> bytes:
    return await asyncio.get_running_loop().sock_recv(client, 65536)


@pytest.mark.parametrize("cut", [0, 10])
def test_a_request_that_has_arrived_is_answered_first(cut: int) -> None:
    """A server that ends closes no connection whose request is in its buffer, whole, or begun and read in part."""

    async def scenario(protocol: StrictProtocol, client: socket.socket) -> None:
        client.send(REQUEST[cut:])
        protocol.shutdown()
        assert (await _read(client)).startswith(b"HTTP/1.1 204")
        assert await _read(client) == b""

    connected(scenario, before=REQUEST[:cut])


def test_an_idle_connection_is_closed_at_once() -> None:
    """Where nothing has arrived there is nothing to wait for."""

    async def scenario(protocol: StrictProtocol, client: socket.socket) -> None:
        protocol.shutdown()
        assert protocol.transport.is_closing()
        assert await _read(client) == b""

    connected(scenario)


def test_bytes_that_never_become_a_request_end_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was waited for has as long as any head has, and is refused then."""
    monkeypatch.setattr("service.wire.HEADER_SECONDS", 0.05)

    async def scenario(protocol: StrictProtocol, client: socket.socket) -> None:
        client.send(b"\r\n")
        protocol.shutdown()
        assert (await _read(client)).startswith(b"HTTP/1.1 408")
        assert await _read(client) == b""

    connected(scenario)
