"""The supervisor's listening socket: how fronts share its port, and how it is closed without losing requests."""

import asyncio
import contextlib
import ctypes
import os
import select
import socket
import struct
import sys

__all__ = ["inherited", "internet_address", "listen", "share_port", "take_own_port", "withdraw"]

INTERNET = (socket.AF_INET, socket.AF_INET6)

QUEUE_SECONDS = 0.1
"""How long, at the end, the event loop has to accept the connections that wait in the socket's queue."""

SO_ATTACH_FILTER = getattr(socket, "SO_ATTACH_FILTER", 26)
LINUX = "linux"
# A classic BPF program for the TCP header. It reads the flags (byte 13) and drops every segment with SYN and without
# ACK: such a segment opens a new connection.
LOAD_BYTE, AND, JUMP_IF_EQUAL, RETURN = 0x30, 0x54, 0x15, 0x06
FLAGS, SYN, SYN_ACK = 13, 0x02, 0x12
DROP_OPENINGS = (
    (LOAD_BYTE, 0, 0, FLAGS),
    (AND, 0, 0, SYN_ACK),
    (JUMP_IF_EQUAL, 1, 0, SYN),
    (RETURN, 0, 0, 0xFFFFFFFF),
    (RETURN, 0, 0, 0),
)


def inherited() -> socket.socket | None:
    """Copy the socket that the supervisor handed to this process; None if there is no such socket."""
    if "--fd" not in sys.argv:
        return None
    return socket.socket(fileno=os.dup(_number()))


def internet_address() -> tuple[str, int] | None:
    """Return the host and port of HTTP; None if this process inherited no socket with a port."""
    listening = inherited()
    if listening is None:
        return None
    with listening:
        if listening.family not in INTERNET:
            return None
        host, port, *_ = listening.getsockname()
        return str(host), int(port)


def listen() -> None:
    """Begin to listen on the socket that the supervisor bound and handed to this process.

    Raises:
        OSError: another server, which was started at the same time, listens on the port.
    """
    if (bound := inherited()) is not None:
        with bound:
            bound.listen()


def share_port(bound_later: socket.socket, fronts: int) -> None:
    """Let every front bind its own socket to the port, so that the kernel spreads connections evenly over the fronts.

    If all fronts inherited one socket, the front that wakes up first would take most connections. With SO_REUSEPORT,
    the kernel lets any program of the same user bind to the port, so this function checks first that the port is free.

    Raises:
        OSError: the port is taken.
    """
    if fronts > 1 and bound_later.family in INTERNET:
        port = int(getattr(bound_later, "port", 0))
        with socket.socket(bound_later.family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((getattr(bound_later, "host", ""), port))
        bound_later.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)


def take_own_port() -> None:
    """Replace the inherited socket by a socket of this front's own, if the fronts share the port.

    Raises:
        OSError: the port cannot be bound.
    """
    handed = inherited()
    if handed is None:
        return
    with handed:
        if handed.family not in INTERNET or not handed.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT):
            return
        with socket.socket(handed.family, socket.SOCK_STREAM) as own:
            for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
                own.setsockopt(socket.SOL_SOCKET, option, 1)
            own.bind(handed.getsockname())
            os.dup2(own.fileno(), _number(), inheritable=False)


def _number() -> int:
    return int(sys.argv[sys.argv.index("--fd") + 1])


async def withdraw(listening: socket.socket) -> None:
    """Stop listening, for every process that holds the socket. From then on, new connections fail and do not hang.

    Closing a listening socket resets every connection in its queue, although the client's connect call has succeeded.
    So the opening segments of new connections are dropped first, as if the network had lost them. Their clients send
    the segment again a second later, and the kernel then refuses the connection. This filter needs CAP_NET_ADMIN on
    recent kernels. Without that capability, connections are accepted until the queue is empty for a moment.
    """
    with listening:
        try:
            _drop_openings(listening)
        except OSError:
            await _until_empty(listening)
        else:
            await asyncio.sleep(QUEUE_SECONDS)
        with contextlib.suppress(OSError):  # the socket is closed already
            listening.shutdown(socket.SHUT_RDWR)


def _drop_openings(listening: socket.socket) -> None:
    """Keep new connections out of the queue, while the connections in the queue can still be accepted.

    Raises:
        OSError: the kernel has no such filter, or does not allow this process to set the filter.
    """
    if sys.platform != LINUX:
        raise OSError
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in DROP_OPENINGS))
    listening.setsockopt(
        socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", len(DROP_OPENINGS), ctypes.addressof(program))
    )


async def _until_empty(listening: socket.socket) -> None:
    """Wait, at most ``QUEUE_SECONDS``, until the event loop has accepted every connection in the queue."""
    loop = asyncio.get_running_loop()
    end = loop.time() + QUEUE_SECONDS
    waiting = select.poll()
    waiting.register(listening, select.POLLIN)
    while waiting.poll(0) and loop.time() < end:  # noqa: ASYNC110 - no event signals an empty queue
        await asyncio.sleep(0)
