"""How long a request has waited in the system before this process reads it.

While a front is busy, requests wait in the system's buffers, where no clock of the front sees them. The system knows
when a connection's last bytes arrived (``tcpi_last_data_recv`` of Linux's ``struct tcp_info``, in milliseconds).
"""

import ctypes
import socket

__all__ = ["seconds_since_arrival"]

LAST_DATA_RECEIVED = 13
"""Which 32-bit number of ``struct tcp_info`` it is."""
# The event loop's sockets duplicate the descriptor for each call of getsockopt. PyDLL keeps the interpreter's lock,
# because the call takes less than a microsecond.
LIBC = ctypes.PyDLL(None)
INFO = (ctypes.c_uint32 * (LAST_DATA_RECEIVED + 1))()
SIZE = ctypes.c_uint32()


def seconds_since_arrival(descriptor: int) -> float:
    """Return how long ago the last bytes of a connection arrived; 0 if it is no TCP connection or is closed.

    Only the event loop's thread may call this function.
    """
    SIZE.value = ctypes.sizeof(INFO)
    failed = LIBC.getsockopt(descriptor, socket.IPPROTO_TCP, socket.TCP_INFO, INFO, ctypes.byref(SIZE))
    if failed or SIZE.value < ctypes.sizeof(INFO):
        return 0.0
    return INFO[LAST_DATA_RECEIVED] / 1000
