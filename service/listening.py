"""The listening socket that BentoML's supervisor opened, and how it is closed without losing a connection."""

import ctypes
import os
import socket
import struct
import sys

__all__ = ["inherited", "refuse", "take_no_more"]

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


def take_no_more(listening: socket.socket) -> None:
    """Let nobody new into the queue, while those in it are still accepted.

    Closing a listening socket resets every connection that waits in its queue, though the client has long been told
    that it is connected. So openings are dropped first, as if lost on the way: their clients ask again a second
    later, and are refused in good order (Linux; elsewhere the queue is made as short as it can be).
    """
    if sys.platform != LINUX:
        listening.listen(0)
        return
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in DROP_OPENINGS))
    listening.setsockopt(
        socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", len(DROP_OPENINGS), ctypes.addressof(program))
    )


def refuse(listening: socket.socket) -> None:
    """End the listening for every process that holds the socket: connections fail from here on, and do not hang."""
    with listening:
        listening.shutdown(socket.SHUT_RDWR)
