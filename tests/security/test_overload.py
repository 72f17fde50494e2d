"""More requests than the server can answer: the rest is refused at once, and nobody is lost."""

import json
import select
import socket
import time
from contextlib import ExitStack
from math import ceil
from typing import TYPE_CHECKING

from example_folders import ALLOWED
from gateways import read_answer

from service.front.concurrency import FIRST, LEAST

if TYPE_CHECKING:
    from gateways import Gateway

ONE = json.dumps({"instances": [ALLOWED]}).encode()
PREDICT = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
    len(ONE), ONE,
)  # fmt: skip
CROWD = 600
REFUSED_SECONDS = 5.0
"""Far more than the refusals take, and less than an engine that stands still is left alone."""


def _readable(connections: list[socket.socket], count: int) -> list[socket.socket]:
    """Wait until so many connections have something to read, and return them."""
    deadline = time.monotonic() + REFUSED_SECONDS
    while True:
        readable, _, _ = select.select(connections, [], [], 0.1)
        if len(readable) >= count:
            return readable
        assert time.monotonic() < deadline, f"{len(readable)} of {count} requests were answered"


def test_a_crowd_beyond_the_limit_is_refused_at_once(table: "Gateway") -> None:
    """While the engine stands still, so many requests wait; each further one gets 503 and Retry-After at once.

    Afterwards everybody who waited is answered, and so is the next request of everybody who was refused.
    """
    before = table.metrics()
    taken = ceil(before["guardhouse_concurrency_limit"])
    assert LEAST <= taken <= FIRST
    with ExitStack() as stack:
        crowd = [stack.enter_context(table.connect()) for _ in range(CROWD)]
        table.engine.suspend()
        try:
            for connection in crowd:
                connection.send(PREDICT)
            refused = _readable(crowd, CROWD - taken)
        finally:
            table.engine.resume()
        assert len(refused) == CROWD - taken
        for answer in map(read_answer, refused):
            assert (answer.status, answer.headers["retry-after"]) == (503, "1")
            assert json.loads(answer.body)["status"] == 503
        assert {read_answer(connection).status for connection in crowd if connection not in refused} == {200}
        for connection in refused:
            connection.send(PREDICT)
            assert read_answer(connection).status == 200
    after = table.metrics()
    shed = 'guardhouse_shed_requests_total{reason="overload"}'
    code = 'guardhouse_requests_total{code="503",route="/predict"}'
    assert after[shed] - before[shed] == after[code] - before[code] == CROWD - taken


def test_long_requests_do_not_shut_out_short_ones(table: "Gateway") -> None:
    """While long requests fill the queue, so that one more is refused, a request of one row waits and is answered."""
    rows, queue = 1024, 8192
    long = json.dumps({"instances": [ALLOWED] * rows}).encode()
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    with ExitStack() as stack:
        crowd = [stack.enter_context(table.connect()) for _ in range(queue // rows + 1)]
        victim = stack.enter_context(table.connect())
        table.engine.suspend()
        try:
            for connection in crowd:
                connection.sendall(head % len(long) + long)
            (refused,) = _readable(crowd, 1)
            victim.sendall(PREDICT)
            assert not select.select([victim], [], [], 0.5)[0], "the short request was refused"
        finally:
            table.engine.resume()
        assert read_answer(refused).status == 503
        assert read_answer(victim).status == 200
        assert {read_answer(connection).status for connection in crowd if connection is not refused} == {200}
