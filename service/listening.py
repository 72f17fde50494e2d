"""The listening socket that BentoML's supervisor opened, and how it is closed without losing a connection."""

import asyncio
import contextlib
import ctypes
import os
import select
import socket
import struct
import sys

__all__ = ["inherited", "listen", "withdraw"]

QUEUE_SECONDS = 0.1
"""How long connections in the queue have to be taken, before nobody listens any more."""

SO_ATTACH_FILTER = getattr(socket, "SO_ATTACH_FILTER", 26)
LINUX = "linux"
# Classic BPF on the TCP header: of the flags (byte 13), SYN without ACK opens a connection, and is dropped.
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
    """Copy the socket that was handed down, or None where there was none."""
    if "--fd" not in sys.argv:
        return None
    return socket.socket(fileno=os.dup(int(sys.argv[sys.argv.index("--fd") + 1])))


def listen() -> None:
    """Begin to listen on the socket that was handed down, which the supervisor only bound.

    Raises:
        OSError: another server, which was started at the same time, listens there.
    """
    if (bound := inherited()) is not None:
        with bound:
            bound.listen()


async def withdraw(listening: socket.socket) -> None:
    """End the listening for every process that holds the socket: connections fail from here on, and do not hang.

    Closing a listening socket resets every connection that waits in its queue, though the client has long been told
    that it is connected. So if the kernel lets us, openings are dropped first, as if lost on the way: their clients
    ask again a second later, and are refused in good order. That takes CAP_NET_ADMIN on recent kernels. Without it,
    connections are taken until there is a moment in which none waits.
    """
    with listening:
        try:
            _drop_openings(listening)
        except OSError:
            await _until_empty(listening)
        else:
            await asyncio.sleep(QUEUE_SECONDS)
        with contextlib.suppress(OSError):  # it is closed already
            listening.shutdown(socket.SHUT_RDWR)


def _drop_openings(listening: socket.socket) -> None:
    """Let nobody new into the queue, while those in it are still accepted.

    Raises:
        OSError: the kernel has no such filter, or not for us.
    """
    if sys.platform != LINUX:
        raise OSError
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in DROP_OPENINGS))
    listening.setsockopt(
        socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", len(DROP_OPENINGS), ctypes.addressof(program))
    )


async def _until_empty(listening: socket.socket) -> None:
    """Wait, for a bounded time, until the event loop has taken every connection that waits."""
    loop = asyncio.get_running_loop()
    end = loop.time() + QUEUE_SECONDS
    waiting = select.poll()
    waiting.register(listening, select.POLLIN)
    while waiting.poll(0) and loop.time() < end:  # noqa: ASYNC110 - nobody tells of an empty queue
        await asyncio.sleep(0)
