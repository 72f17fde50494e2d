"""The listening socket at the end of a server: no accepted connection is reset."""

import asyncio
import socket
from errno import EPERM
from typing import Any

import pytest
import uvloop

from service.lifecycle import listening_socket as listening
from service.lifecycle.listening_socket import withdraw

CLIENTS = 100


async def _answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"a")
    await writer.drain()
    writer.close()


async def _withdraw_under_clients(bound: socket.socket) -> list[bytes]:
    """Withdraw while a queue full of clients has not been accepted yet; return what each of them receives."""
    server = await asyncio.start_server(_answer, sock=bound, backlog=2 * CLIENTS)
    clients = [socket.create_connection(bound.getsockname(), timeout=30) for _ in range(CLIENTS)]
    await withdraw(bound.dup())
    with pytest.raises(OSError, match=r"refused|timed out"):
        socket.create_connection(bound.getsockname(), timeout=2)
    try:
        return [await asyncio.to_thread(client.recv, 1) for client in clients]
    finally:
        for client in clients:
            client.close()
        server.close()


@pytest.mark.parametrize("privileged", [True, False])
def test_connections_in_the_queue_are_answered(privileged: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Connected clients get an answer, and later clients are refused: with the packet filter, and without it."""
    if not privileged:
        monkeypatch.setattr(listening, "_drop_openings", _refused)
    bound = socket.create_server(("127.0.0.1", 0))
    assert uvloop.run(_withdraw_under_clients(bound)) == [b"a"] * CLIENTS


def _refused(_: object) -> Any:
    raise PermissionError(EPERM, "Operation not permitted")


def test_a_socket_that_is_closed_already_is_no_failure() -> None:
    """A socket that does not listen is what was wanted."""
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    asyncio.run(withdraw(bound))
    assert bound.fileno() == -1


def test_of_two_servers_on_a_port_the_second_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both servers could bind before either listened; the second fails when it begins to listen."""
    first, second = socket.socket(), socket.socket()
    with first, second:
        for one in (first, second):
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        first.bind(("127.0.0.1", 0))
        second.bind(first.getsockname())
        for one in (first, second):
            monkeypatch.setattr("sys.argv", ["worker", "--fd", str(one.fileno())])
            if one is first:
                listening.listen()
            else:
                with pytest.raises(OSError, match="in use"):
                    listening.listen()
