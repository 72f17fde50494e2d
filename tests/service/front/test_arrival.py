"""How long a request has waited before it is read, as the system knows."""

import socket
import time

from service.front.arrival import seconds_since_arrival

WAIT = 0.2


def test_time_in_the_buffer_is_seen() -> None:
    """Bytes that nobody reads for a while have waited that long, even if the connection was not accepted yet."""
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.create_connection(listening.getsockname()) as sent:
        sent.send(b"x")
        time.sleep(WAIT)
        accepted, _ = listening.accept()
        with accepted:
            assert WAIT * 0.8 < seconds_since_arrival(accepted.fileno()) < WAIT + 5
            sent.send(b"y")
            accepted.recv(1)
            accepted.recv(1)
            assert seconds_since_arrival(accepted.fileno()) < WAIT


def test_other_descriptors_have_waited_for_nothing() -> None:
    """A connection of the same machine without TCP, and a closed one, give 0."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert seconds_since_arrival(ours.fileno()) == 0
    assert seconds_since_arrival(-1) == 0
