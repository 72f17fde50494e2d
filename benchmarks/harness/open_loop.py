"""An open-loop client: requests are sent when they are due, whether or not earlier requests have been answered.

A closed-loop client waits for an answer before its next request. Such a client slows down with the server, and so it
leaves out the very requests that would have waited longest (coordinated omission). Here the latency of a request counts
from the moment at which the request was due. A request waits for a free connection if all connections are in use.

The client is a process of its own: ``python -m benchmarks.harness.open_loop`` reads a plan from standard input and
writes what happened as an npz file to standard output.
"""

import io
import json
import select
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["Answers", "Phase", "Plan", "play"]

READ_BYTES = 1 << 18
END_OF_HEAD, LENGTH, CLOSE = b"\r\n\r\n", b"content-length: ", b"connection: close"
NO_ANSWER = 0
SWEEP_SECONDS = 0.25
"""How often the client looks for requests that have waited for longer than a client waits."""


class Phase(NamedTuple):
    """So many requests a second, at random moments (a Poisson process), for some seconds."""

    rate: float
    seconds: float


@dataclass(frozen=True)
class Plan:
    """What to send, where, when, and how long to wait for an answer.

    Without phases, each connection sends its next request as soon as its last request is answered (a closed loop), for
    ``closed_seconds``.
    """

    port: int
    request: str
    """A whole HTTP/1.1 request, one character for each byte."""
    connections: int
    phases: Sequence[tuple[float, float]] = ()
    closed_seconds: float = 0.0
    patience_seconds: float = 5.0
    seed: int = 0


@dataclass(frozen=True)
class Answers:
    """What happened to each request, in the order in which the requests were due; arrays (n,).

    ``due`` is in seconds since the start, ``seconds`` from then until the answer was complete, ``own_seconds`` the same
    since the request was written to its connection. ``code`` is 0 if there was no answer.
    """

    due: npt.NDArray[np.float64]
    seconds: npt.NDArray[np.float64]
    own_seconds: npt.NDArray[np.float64]
    code: npt.NDArray[np.int64]

    def between(self, start: float, stop: float) -> "Answers":
        """Return the requests that were due in a period."""
        chosen = (self.due >= start) & (self.due < stop)
        return Answers(self.due[chosen], self.seconds[chosen], self.own_seconds[chosen], self.code[chosen])


def play(plan: Plan) -> Answers:
    """Run the client in a process of its own.

    Raises:
        subprocess.CalledProcessError: the client failed.
    """
    command = [sys.executable, "-m", "benchmarks.harness.open_loop"]
    done = subprocess.run(command, input=json.dumps(asdict(plan)).encode(), stdout=subprocess.PIPE, check=True)
    with np.load(io.BytesIO(done.stdout)) as file:
        return Answers(**dict(file))


class Connection:
    """One connection, and the request that it waits for: its number, and when it was written."""

    __slots__ = ("number", "received", "socket", "written")

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.received, self.number, self.written = b"", -1, 0.0


class Client:
    """The client's loop."""

    def __init__(self, plan: Plan) -> None:
        self._plan, self._request = plan, plan.request.encode("latin-1")
        self._poll = select.epoll()
        self._connections: dict[int, Connection] = {}
        self._idle: deque[Connection] = deque()
        self._overdue: deque[int] = deque()
        self._due: list[float] = []
        self._seconds: list[float] = []
        self._own: list[float] = []
        self._code: list[int] = []

    def run(self) -> Answers:
        """Send everything, and wait for the answers."""
        plan, started = self._plan, time.perf_counter() + 0.05
        arrivals = _arrivals(plan)
        end = started + plan.closed_seconds
        place, swept = 0, started
        while True:
            now = time.perf_counter()
            if not plan.phases and now < end:
                while self._is_free():
                    self._begin(now, now)
            while place < len(arrivals) and started + arrivals[place] <= now:
                self._begin(started + arrivals[place], now)
                place += 1
            if now - swept > SWEEP_SECONDS:
                swept = now
                self._give_up(now)
            if (
                place == len(arrivals)
                and now >= end
                and not self._overdue
                and len(self._idle) == len(self._connections)
            ):
                break
            wait = started + arrivals[place] - now if place < len(arrivals) else SWEEP_SECONDS
            for descriptor, _ in self._poll.poll(max(0.0, min(wait, SWEEP_SECONDS))):
                if descriptor in self._connections:  # otherwise the connection was closed for an earlier event
                    self._read(self._connections[descriptor])
        due = np.asarray(self._due) - started
        return Answers(due, np.asarray(self._seconds), np.asarray(self._own), np.asarray(self._code))

    def _is_free(self) -> bool:
        return bool(self._idle) or len(self._connections) < self._plan.connections

    def _free(self) -> Connection:
        """Take the connection that has been idle for longest; open one if none is idle."""
        if self._idle:
            return self._idle.popleft()
        connection = Connection(self._plan.port)
        self._connections[connection.socket.fileno()] = connection
        self._poll.register(connection.socket, select.EPOLLIN)
        return connection

    def _close(self, connection: Connection) -> None:
        self._poll.unregister(connection.socket)
        del self._connections[connection.socket.fileno()]
        connection.socket.close()

    def _begin(self, due: float, now: float) -> None:
        self._due.append(due)
        for values in (self._seconds, self._own):
            values.append(np.nan)
        self._code.append(NO_ANSWER)
        if self._is_free():
            self._send(self._free(), len(self._due) - 1, now)
        else:
            self._overdue.append(len(self._due) - 1)

    def _send(self, connection: Connection, number: int, now: float) -> None:
        connection.number, connection.written, connection.received = number, now, b""
        try:
            connection.socket.sendall(self._request)
        except OSError:
            self._lost(connection)

    def _lost(self, connection: Connection) -> None:
        """Forget a connection that the server has closed; its request has no answer."""
        self._close(connection)
        if connection.number < 0:
            self._idle.remove(connection)

    def _read(self, connection: Connection) -> None:
        try:
            data = connection.socket.recv(READ_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data or connection.number < 0:  # what comes without a request says that the server closes
            self._lost(connection)
            return
        received = connection.received = connection.received + data
        head = received.find(END_OF_HEAD)
        if head < 0:
            return
        at = received.find(LENGTH, 0, head) + len(LENGTH)
        if len(received) < head + len(END_OF_HEAD) + int(received[at : received.find(b"\r", at)]):
            return
        now, number = time.perf_counter(), connection.number
        self._seconds[number] = now - self._due[number]
        self._own[number] = now - connection.written
        self._code[number] = int(received[9:12])
        connection.number = -1
        if CLOSE in received[:head]:
            self._close(connection)
        else:
            self._idle.append(connection)
        while self._overdue and self._is_free():
            self._send(self._free(), self._overdue.popleft(), now)

    def _give_up(self, now: float) -> None:
        """Stop waiting for answers that took too long, and for connections that never became free."""
        latest = now - self._plan.patience_seconds
        while self._overdue and self._due[self._overdue[0]] < latest:
            self._overdue.popleft()
        for connection in list(self._connections.values()):
            if connection.number >= 0 and connection.written < latest:
                self._lost(connection)


def _arrivals(plan: Plan) -> npt.NDArray[np.float64]:
    """Draw the moments of a Poisson process whose rate changes from phase to phase."""
    random, start, moments = np.random.default_rng(plan.seed), 0.0, [np.empty(0)]
    for rate, seconds in plan.phases:
        count = random.poisson(rate * seconds)
        moments.append(start + np.sort(random.uniform(0, seconds, count)))
        start += seconds
    return np.concatenate(moments)


def _main() -> None:
    plan: dict[str, Any] = json.load(sys.stdin)
    answers = Client(Plan(**plan)).run()
    np.savez(sys.stdout.buffer, **asdict(answers))


if __name__ == "__main__":
    _main()
