"""The row socket's server: accepts a front, maps the memory that the front shares, and tells the batcher."""

import array
import logging
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

from service.engine.front_connection import Codes, FrontConnection
from service.messages.board import Board
from service.messages.slots import ACCEPTED, Layout, Slots

__all__ = ["RowServer"]

LOG = logging.getLogger("guardhouse")
HELLO_SECONDS = 5.0
"""How long a front may take to send the file descriptor of its shared memory."""
BACKLOG = 64


class RowServer:
    """A thread that accepts connections, so that the device's thread never waits for a connection."""

    def __init__(
        self, path: Path, layout: Layout, board: Board, codes: Codes, add: Callable[[FrontConnection], None]
    ) -> None:
        """Listen on a Unix socket. If an engine that ended left a socket at the path, replace that socket.

        Raises:
            OSError: the socket cannot be made.
        """
        self._layout, self._board, self._codes, self._add = layout, board, codes, add
        self._fronts: dict[int, FrontConnection] = {}
        """The last connection of each seat."""
        path.unlink(missing_ok=True)
        self._listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listening.bind(str(path))
        self._listening.listen(BACKLOG)
        threading.Thread(target=self._accept, name="rows", daemon=True).start()

    def close(self) -> None:
        """Accept no more."""
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:  # the listening socket was closed
                return
            try:
                self._greet(connection)
            except (OSError, ValueError) as fault:
                LOG.warning("a front's connection for rows failed: %s", type(fault).__name__)
                connection.close()

    def _greet(self, connection: socket.socket) -> None:
        connection.settimeout(HELLO_SECONDS)
        size = array.array("i").itemsize
        said, ancillary, _, _ = connection.recvmsg(1, socket.CMSG_LEN(size))
        descriptors = array.array("i")
        for level, kind, data in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                descriptors.frombytes(data[: len(data) - len(data) % size])
        if not said or not descriptors:
            raise ValueError("no memory was handed over")
        try:
            slots = Slots(self._layout, descriptors[0])
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        if (former := self._fronts.get(said[0])) is not None:
            former.replace()
        self._fronts[said[0]] = front = FrontConnection(connection, slots, self._board.seat(said[0]), self._codes)
        connection.send(ACCEPTED)
        self._add(front)
