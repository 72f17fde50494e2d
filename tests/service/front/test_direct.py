"""The direct way: which requests take it, and that its answers are those of the general way, byte for byte."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

import pytest
from front_connections import lifespan_state
from uvicorn import Config
from uvicorn.server import ServerState

from service.front.direct import Direct, DirectCycle
from service.front.dispatch import COMMON_CODES, POST_CODES, UNMATCHED, Limits
from service.front.http import Call, Reply, Route
from service.front.protocols.problem import unprocessable
from service.front.uvicorn_protocol import StrictProtocol
from service.messages.refused import Refused
from service.telemetry.metrics.front import FrontMetrics
from service.telemetry.request_record import Exchanges

CODES = (*POST_CODES, 499)
NONSENSE = b"nonsense\r\n\r\n"
"""Bytes that are no request: the server answers 400."""
Scenario = Callable[[socket.socket], Awaitable[None]]


class Server:
    """Routes of the direct way and of the general way, and one connection to them."""

    def __init__(self, *, direct: bool = True, closing: bool = False) -> None:
        routes = {
            path: Route(path, {"POST": handler}, CODES, direct=path != "/general")
            for path, handler in {
                "/echo": self._echo, "/general": self._echo, "/refuse": self._refuse, "/wrong": self._wrong,
                "/broken": self._broken, "/wait": self._wait, "/unsound": self._unsound,
            }.items()
        }  # fmt: skip
        codes = dict.fromkeys(routes, CODES) | {UNMATCHED: COMMON_CODES}
        self.metrics = FrontMetrics(codes)
        self.limits = Limits(
            routes, Exchanges(self.metrics), max_body_bytes=100_000, timeout_seconds=60, closing=lambda: closing
        )
        self.state = lifespan_state(**({"direct": Direct(self.limits)} if direct else {}))
        self.ways: list[bool] = []
        """Whether each request took the direct way."""
        self.waiting = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.uvicorn = ServerState()
        self.uvicorn.default_headers = [(b"date", b"today")]

    async def _echo(self, call: Call) -> Reply:
        assert isinstance(call.body, bytes)
        return Reply(call.body, headers={"X-Guardhouse-Action": call.method})

    async def _refuse(self, _: Call) -> Reply:
        raise Refused("queue_full", "the queue is full", retry_after=3)

    async def _wrong(self, _: Call) -> Reply:
        raise unprocessable([(("instances",), "missing")])

    async def _broken(self, _: Call) -> Reply:
        raise ZeroDivisionError

    async def _wait(self, _: Call) -> Reply:
        self.waiting.set()
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return Reply(b"late", HTTPStatus.OK)

    async def _unsound(self, _: Call) -> Reply:
        return Reply(b"", headers={"X-Guardhouse-Action": "allow\r\nX-More: 1"})

    def connected(self, scenario: Scenario) -> None:
        """Run a scenario with a client's end of a connection."""

        async def main() -> None:
            config = Config(self.limits, log_config=None, access_log=False)
            config.load()
            loop = asyncio.get_running_loop()

            def protocol() -> StrictProtocol:
                made = StrictProtocol(config=config, server_state=self.uvicorn, app_state=dict(self.state), _loop=loop)
                start = made._start_asgi_task

                def watched(cycle: Any, app: Any) -> None:
                    self.ways.append(isinstance(cycle, DirectCycle))
                    start(cycle, app)

                made._start_asgi_task = watched  # type: ignore[method-assign]
                return made

            client, server = socket.socketpair()
            client.setblocking(False)
            with client:
                transport, _ = await loop.connect_accepted_socket(protocol, server)
                await asyncio.wait_for(scenario(client), 120)
                transport.abort()
                await asyncio.sleep(0.01)

        asyncio.run(main())

    def answers(self, *segments: bytes) -> bytes:
        """Send segments one after the other, and return all that the server answers."""
        found = b""
        wanted = sum(segment.count(b" HTTP/1.") + segment.count(NONSENSE) for segment in segments)

        async def scenario(client: socket.socket) -> None:
            nonlocal found
            loop = asyncio.get_running_loop()
            for segment in segments:
                await loop.sock_sendall(client, segment)
                await asyncio.sleep(0.02)
            while True:
                if found.count(b"HTTP/1.1 ") < wanted:
                    part = await loop.sock_recv(client, 1 << 20)
                else:  # nothing more should come, but the connection may be closed, within some turns of the loop
                    for _ in range(50):
                        await asyncio.sleep(0.002)
                    try:
                        part = client.recv(1 << 20)
                    except BlockingIOError:
                        return
                if not part:
                    found += b"<closed>"
                    return
                found += part

        self.connected(scenario)
        return found


def request(path: str, body: bytes = b"{}", *fields: str, method: str = "POST", version: str = "1.1") -> bytes:
    """Write a request with a body of a stated length."""
    lines = [f"{method} {path} HTTP/{version}", "Host: x", "X-Request-ID: one", f"Content-Length: {len(body)}", *fields]
    return "\r\n".join([*lines, "", ""]).encode() + body


REQUESTS = {
    "echo": request("/echo", b'{"instances": []}', "Content-Type: application/json"),
    "a refusal with Retry-After": request("/refuse"),
    "a problem": request("/wrong"),
    "a fault": request("/broken"),
    "a body at the limit": request("/echo", b"1" * 100_000),
    "the last request": request("/echo", b"{}", "Connection: close"),
    "a timeout that is none": request("/echo", b"{}", "X-Request-Timeout: soon"),
    "a timeout that passes": request("/wait", b"{}", "X-Request-Timeout: 0.05"),
    "two, one after the other": request("/echo", b"first") + request("/echo", b"second"),
    "bytes behind the last": request("/echo", b"{}", "Connection: close") + b"more",
    "no request behind it": request("/echo") + NONSENSE,
}


@pytest.mark.parametrize("closing", [False, True], ids=["open", "draining"])
@pytest.mark.parametrize("sent", REQUESTS.values(), ids=REQUESTS)
def test_both_ways_give_the_same_bytes(sent: bytes, closing: bool) -> None:
    """Whatever the answer is, the direct way writes the bytes that the general way writes."""
    direct, general = Server(closing=closing), Server(direct=False, closing=closing)
    general.uvicorn.default_headers = direct.uvicorn.default_headers
    found = direct.answers(sent)
    assert direct.ways[0]
    assert _without_ids(found) == _without_ids(general.answers(sent))
    assert not any(general.ways)
    assert direct.metrics.inflight == general.metrics.inflight == 0
    assert direct.metrics.requests.values.tolist() == general.metrics.requests.values.tolist()


UNREAD = {
    "the wrong type": request("/echo", b"{}", "Content-Type: text/plain"),
    "a coding": request("/echo", b"{}", "Content-Encoding: gzip"),
    "a body over the limit": request("/echo", b"1" * 100_001),
}


@pytest.mark.parametrize("sent", UNREAD.values(), ids=UNREAD)
def test_the_connection_outlives_a_refused_body_that_has_arrived(sent: bytes) -> None:
    """The general way closes the connection, because it does not know whether the refused body ends."""
    found, general = Server().answers(sent), Server(direct=False).answers(sent)
    assert general.endswith(b"<closed>")
    assert found == general.replace(b"connection: close\r\n", b"").removesuffix(b"<closed>")


def test_a_header_that_must_not_be_sent_is_a_fault_of_the_server() -> None:
    """An answer whose header holds a line break never reaches the client; the client gets a 500."""
    found = Server().answers(request("/unsound"))
    assert found.startswith(b"HTTP/1.1 500 ")
    assert b"X-More" not in found
    assert found.endswith(b"<closed>")


def _without_ids(answer: bytes) -> bytes:
    """Leave out the only part that may differ: the id of a refusal that belongs to no request."""
    head, _, rest = answer.partition(b"HTTP/1.1 400")
    return head + (b"HTTP/1.1 400" if rest else b"")


GENERAL = {
    "another route": [request("/general")],
    "no route": [request("/nowhere")],
    "another method": [request("/echo", method="PUT")],
    "a query": [request("/echo?a=1")],
    "an escaped path": [request("/%65cho")],
    "an expectation": [request("/echo", b"{}", "Expect: 100-continue")],
    "an old version": [request("/echo", version="1.0")],
    "an empty body": [request("/echo", b"")],
    "chunks": [b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"],
    "two segments": [request("/echo")[:-1], request("/echo")[-1:]],
}


@pytest.mark.parametrize("segments", GENERAL.values(), ids=GENERAL)
def test_every_other_request_goes_the_general_way(segments: list[bytes]) -> None:
    """A request that needs more than its body, or has not arrived whole, is answered by the ASGI application."""
    server = Server()
    assert server.answers(*segments).startswith(b"HTTP/1.1 ")
    assert server.ways == [False]


def test_a_pipelined_request_waits_for_its_turn() -> None:
    """If an earlier request is still being answered, the next one waits, and the answers come in order."""
    server = Server()
    found = server.answers(request("/echo", b"first") + request("/echo", b"second") + request("/refuse"))
    assert [found.find(each) for each in (b"first", b"second", b"503 ")] == sorted(
        found.find(each) for each in (b"first", b"second", b"503 ")
    )
    assert found.count(b"HTTP/1.1 ") == 3
    assert server.ways == [True, False, False]


def test_a_connection_is_kept_for_many_direct_requests() -> None:
    """One request after the other on one connection: each goes the direct way, and is answered with its own body."""
    server = Server()
    found = server.answers(*[request("/echo", b"%03d" % number) for number in range(30)])
    assert [b"\r\n\r\n%03d" % number in found for number in range(30)] == [True] * 30
    assert server.ways == [True] * 30


def test_a_client_that_leaves_is_counted_and_its_request_cancelled() -> None:
    """If the client of a direct request leaves, the request is cancelled and counted as 499."""
    server = Server()

    async def scenario(client: socket.socket) -> None:
        await asyncio.get_running_loop().sock_sendall(client, request("/wait"))
        await server.waiting.wait()
        client.close()
        await server.cancelled.wait()

    server.connected(scenario)
    assert server.ways == [True]
    assert server.metrics.requests.total("/wait", "499") == 1
    assert server.metrics.inflight == 0


def test_a_client_that_only_stops_sending_is_answered() -> None:
    """A client may close its sending side behind its request, and still reads the answer."""
    server = Server()
    found = b""

    async def scenario(client: socket.socket) -> None:
        nonlocal found
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(client, request("/wait", b"{}", "X-Request-Timeout: 0.2"))
        client.shutdown(socket.SHUT_WR)
        while part := await loop.sock_recv(client, 65536):
            found += part

    server.connected(scenario)
    assert found.startswith(b"HTTP/1.1 504")
    assert server.ways == [True]


def test_a_client_that_reads_slowly_holds_its_answers_back() -> None:
    """If the connection's buffer is full, the next direct answer waits until the client reads."""
    server = Server()
    body = b"1" * 100_000
    asked = request("/echo", body)

    async def scenario(client: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        found = 0
        for _ in range(20):
            await loop.sock_sendall(client, asked)
            await asyncio.sleep(0.005)
        while found < 20 * len(body):
            found += len(await loop.sock_recv(client, 1 << 20))

    server.connected(scenario)
    assert server.metrics.requests.total("/echo", "200") == 20
