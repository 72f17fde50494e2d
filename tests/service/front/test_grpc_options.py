"""The bounds that gRPC's core keeps: how many connections there may be, and for how long one may say nothing."""

import asyncio
import socket
from contextlib import ExitStack

import grpc
import pytest
from waiting import until_in_loop

from guards.config.server import ServerConfig
from service.front import grpc_options as options


def closed(connection: socket.socket) -> bool:
    """Tell whether the server has closed a connection."""
    connection.setblocking(False)
    try:
        while connection.recv(1000):
            pass
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def test_connections_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the files that the process may open, a quarter may be gRPC's connections; further ones are closed at once."""
    monkeypatch.setattr(options, "most_files", lambda: 80)

    async def main() -> None:
        server = grpc.aio.server(options=options.grpc_options(ServerConfig(), share_port=False))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        with ExitStack() as stack:
            made = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(50)]
            await until_in_loop(lambda: sum(map(closed, made)) == 30)
        await server.stop(0)

    asyncio.run(main())


def test_a_connection_that_says_nothing_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that never begins HTTP/2 is closed after the time that a head of HTTP/1.1 has."""
    monkeypatch.setattr(options, "HEADER_SECONDS", 0.2)

    async def main() -> None:
        server = grpc.aio.server(options=options.grpc_options(ServerConfig(), share_port=False))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        with socket.create_connection(("127.0.0.1", port)) as silent:
            await until_in_loop(lambda: closed(silent))
        await server.stop(0)

    asyncio.run(main())
