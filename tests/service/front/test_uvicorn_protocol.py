"""The changes to uvicorn's protocol: how a connection ends when the server ends."""

import asyncio
import contextlib
import json
import re
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvloop
from front_connections import lifespan_state
from uvicorn import Config
from uvicorn.server import ServerState
from waiting import until_in_loop

from service.front.answer_writer import LINGER_BYTES
from service.front.connections import Place
from service.front.protocols.problem import Problem
from service.front.request_reader import MAX_WAITING
from service.front.uvicorn_protocol import StrictProtocol

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
Loop = Callable[[], asyncio.AbstractEventLoop]
Scenario = Callable[[StrictProtocol, socket.socket], Awaitable[None]]


async def _app(scope: Any, _: Any, send: Any) -> None:
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 204, "headers": [(b"connection", b"close")]})
        await send({"type": "http.response.body", "body": b""})


async def _echo(scope: Any, receive: Any, send: Any) -> None:
    """Answer with what was understood; a body that the protocol refuses is answered with its problem."""
    body, more, status = b"", True, 200
    try:
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
    except Problem as problem:
        status = int(problem.status)
    names = [name.decode() for name, _ in scope["headers"]]
    heard = json.dumps([scope["method"], scope["path"], names, body.decode()]).encode()
    headers = [(b"content-length", str(len(heard)).encode()), *([(b"connection", b"close")] if status > 200 else [])]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": heard})


def connected(
    scenario: Scenario,
    *,
    before: bytes = b"",
    app: Any = _app,
    state: dict[str, Any] | None = None,
    factory: Loop = asyncio.new_event_loop,
) -> None:
    """Run a scenario with a connection's two ends, once the server has got what was sent before."""

    async def main() -> None:
        config = Config(app, log_config=None, timeout_keep_alive=1000)
        config.load()
        client, server = socket.socketpair()
        client.setblocking(False)
        loop = asyncio.get_running_loop()
        with client:
            client.send(before)
            _, protocol = await loop.connect_accepted_socket(
                lambda: StrictProtocol(
                    config=config, server_state=ServerState(), app_state=lifespan_state(**(state or {})), _loop=loop
                ),
                server,
            )
            for _ in range(100):
                await asyncio.sleep(0)
            assert protocol._in_head == bool(before)
            await asyncio.wait_for(scenario(protocol, client), 200)
            protocol.transport.close()
            await asyncio.sleep(0)

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())


async def _read(client: socket.socket) -> bytes:
    return await asyncio.get_running_loop().sock_recv(client, 65536)


@pytest.mark.parametrize("cut", [0, 10])
def test_a_request_that_has_arrived_is_answered_first(cut: int) -> None:
    """A server that ends closes no connection whose request is in its buffer, whole, or begun and read in part."""

    async def scenario(protocol: StrictProtocol, client: socket.socket) -> None:
        client.send(REQUEST[cut:])
        protocol.shutdown()
        assert (await _read(client)).startswith(b"HTTP/1.1 204")
        assert await _read(client) == b""

    connected(scenario, before=REQUEST[:cut])


def test_an_idle_connection_is_closed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """If nothing has arrived for a while, there is nothing to wait for."""
    monkeypatch.setattr("service.front.uvicorn_protocol.FRESH_SECONDS", 0.0)

    async def scenario(protocol: StrictProtocol, client: socket.socket) -> None:
        protocol.shutdown()
        assert protocol.transport.is_closing()
        assert await _read(client) == b""

    connected(scenario)


def test_a_new_connection_gets_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the server leaves, a connection that was just made is closed only if its request does not follow soon."""
    monkeypatch.setattr("service.front.uvicorn_protocol.FRESH_SECONDS", 0.1)

    async def scenario(protocol: StrictProtocol, client: socket.socket) -> None:
        protocol.shutdown()
        assert not protocol.transport.is_closing()
        assert await _read(client) == b""

    connected(scenario)


def test_bytes_that_never_become_a_request_end_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes that never become a request are refused after the time that any head has."""
    monkeypatch.setattr("service.front.request_reader.HEADER_SECONDS", 0.05)

    async def scenario(protocol: StrictProtocol, client: socket.socket) -> None:
        client.send(b"\r\n")
        protocol.shutdown()
        assert (await _read(client)).startswith(b"HTTP/1.1 408")
        assert await _read(client) == b""

    connected(scenario)


@pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_a_connection_that_is_lost_already_does_not_keep_the_server(factory: Loop) -> None:
    """Uvicorn ends connections one after the other: an exception in one would leave all others open."""

    async def scenario(protocol: StrictProtocol, _: socket.socket) -> None:
        protocol.transport.abort()
        await asyncio.sleep(0.01)
        protocol.shutdown()

    connected(scenario, factory=factory)


POST = b"POST /%s HTTP/1.1\r\nHost: x\r\n"
OFFER = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n"
LENGTH = b"Content-Length: %d\r\n\r\n" % len(HIDDEN)
CHUNKS = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(HIDDEN) + HIDDEN + b"\r\n0\r\n"
LAST = b"GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
FOUND = [["POST", "/a", HIDDEN.decode()], ["GET", "/last", ""]]
TAKEN = {
    "a length": POST % b"a" + LENGTH + HIDDEN,
    "spaces around a length": POST % b"a" + b"Content-Length: \t %d \t\r\n\r\n" % len(HIDDEN) + HIDDEN,
    "chunks": POST % b"a" + CHUNKS + b"\r\n",
    "chunks, spelt otherwise": POST % b"a" + CHUNKS.replace(b"chunked", b"CHUNKED") + b"\r\n",
    "an offer and a length": POST % b"a" + OFFER + LENGTH + HIDDEN,
    "an offer and chunks": POST % b"a" + OFFER + CHUNKS + b"\r\n",
    "an offer of a websocket": POST % b"a" + OFFER.replace(b"h2c", b"websocket") + LENGTH + HIDDEN,
    "trailers": POST % b"a" + CHUNKS + b"X-Request-ID: evil\r\nHost: evil\r\n\r\n",
    "one trailer": POST % b"a" + CHUNKS + b"X-Request-ID: evil\r\n\r\n",
    "empty lines before a request": b"\r\n\r\n" + POST % b"a" + LENGTH + HIDDEN + b"\r\n",
}


def segments(data: bytes, how: str) -> list[bytes]:
    """Cut what is sent: not at all, behind the first head, or behind every byte."""
    if how == "one":
        return [data]
    if how == "bytes":
        return [data[i : i + 1] for i in range(len(data))]
    end = data.find(b"\r\n\r\n", 4) + 4
    return [data[:end], data[end:]]


def converse(pieces: list[bytes], **kwargs: Any) -> list[tuple[int, Any]]:
    """Send segments, and read answers to the end of the connection: the status and document of each."""
    answers: list[tuple[int, Any]] = []

    async def scenario(_: StrictProtocol, client: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        for piece in pieces:
            with contextlib.suppress(OSError):  # refused, and closed
                await loop.sock_sendall(client, piece)
            for _ in range(5):
                await asyncio.sleep(0)
        received = b""
        with contextlib.suppress(ConnectionResetError):
            while part := await _read(client):
                received += part
        found = re.finditer(rb"HTTP/1\.1 (\d+) .*?\r\n\r\n([\[{].*?[\]}](?=HTTP|$))?", received, re.DOTALL)
        answers.extend((int(one[1]), json.loads(one[2] or b"null")) for one in found)

    connected(scenario, **{"app": _echo, **kwargs})
    return answers


@pytest.mark.parametrize("how", ["one", "two", "bytes"])
@pytest.mark.parametrize("name", TAKEN)
def test_a_body_ends_where_its_head_says(name: str, how: str) -> None:
    """A body is never run as a request, its trailers are no headers, and the next request is answered."""
    answers = converse(segments(TAKEN[name] + LAST, how))
    assert [status for status, _ in answers] == [200, 200]
    assert [[method, path, body] for _, (method, path, _, body) in answers] == FOUND
    assert all("x-request-id" not in names and names.count("host") == 1 for _, (_, _, names, _) in answers)


@pytest.mark.parametrize("name", ["an offer and a length", "one trailer"])
def test_no_cut_between_segments_changes_a_request(name: str) -> None:
    """Wherever two segments meet, the requests in them are the same."""
    whole = TAKEN[name] + LAST
    for cut in range(1, len(whole)):
        answers = converse([whole[:cut], whole[cut:]])
        assert [[method, path, body] for _, (method, path, _, body) in answers] == FOUND, cut


REFUSED = {
    "two lengths": POST % b"a" + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    "a list of lengths": POST % b"a" + b"Content-Length: 3, 3\r\n\r\nabc",
    "a signed length": POST % b"a" + b"Content-Length: +3\r\n\r\nabc",
    "an empty length": POST % b"a" + b"Content-Length:\r\n\r\nabc",
    "a length that overflows": POST % b"a" + b"Content-Length: 18446744073709551619\r\n\r\nabc",
    "a length and chunks": POST % b"a" + b"Content-Length: 3\r\n" + CHUNKS + b"\r\n",
    "chunks and a length": POST % b"a" + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
    "chunks within gzip": POST % b"a" + CHUNKS.replace(b"chunked", b"gzip, chunked") + b"\r\n",
    "two codings": POST % b"a" + b"Transfer-Encoding: identity\r\n" + CHUNKS + b"\r\n",
    "identity": POST % b"a" + b"Transfer-Encoding: identity\r\n\r\n" + HIDDEN,
    "an offer and identity": POST % b"a" + OFFER + b"Transfer-Encoding: identity\r\n\r\n" + HIDDEN,
    "a vertical tab": POST % b"a" + CHUNKS.replace(b": chunked", b": \x0bchunked") + b"\r\n",
    "chunks in HTTP/1.0": POST.replace(b"1.1", b"1.0") % b"a" + CHUNKS + b"\r\n",
    "no version": b"GET /a\r\n\r\n",
    "HTTP/0.9": b"GET /a HTTP/0.9\r\n\r\n",
    "HTTP/2.0": b"GET /a HTTP/2.0\r\n\r\n",
    "a folded header": POST % b"a" + b"X: a\r\n b\r\n" + LENGTH + HIDDEN,
    "a folded coding": POST % b"a" + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "bare line feeds": b"POST /a HTTP/1.1\nHost: x\nContent-Length: 3\n\nabc",
    "a bare carriage return": POST % b"a" + b"X: a\rContent-Length: 3\r\n\r\nabc",
    "a space before a colon": POST % b"a" + b"Content-Length : 3\r\n\r\nabc",
    "an odd chunk": POST % b"a" + b"Transfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("how", ["one", "two", "bytes"])
@pytest.mark.parametrize("name", REFUSED)
def test_what_can_be_read_in_two_ways_is_refused(name: str, how: str) -> None:
    """The one answer is 400, and what follows is never run as a request."""
    assert [status for status, _ in converse(segments(REFUSED[name] + LAST, how))] == [400]


@pytest.mark.parametrize("how", ["one", "bytes"])
@pytest.mark.parametrize("bad", [b"NONSENSE\r\n\r\n", REFUSED["an odd chunk"]], ids=["a head", "a body"])
def test_a_refusal_waits_for_the_answers_before_it(bad: bytes, how: str) -> None:
    """Answers come in the order of their requests, so that no refusal is taken for another answer."""
    answers = converse(segments(REQUEST + REQUEST + bad + LAST, how))
    assert [status for status, _ in answers] == [200, 200, 400]


def test_a_request_to_be_a_proxy_is_refused() -> None:
    """CONNECT is answered 405 at any address, and its tunnel is never read as requests."""
    assert [status for status, _ in converse([b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n" + LAST])] == [405]


@pytest.mark.parametrize(("version", "statuses"), [(b"1.1", [100, 200]), (b"1.0", [200])])
def test_a_client_that_waits_to_send_is_told_to(version: bytes, statuses: list[int]) -> None:
    """`Expect: 100-continue` is answered with 100 if the version has it, and then with the answer."""
    request = (
        POST.replace(b"1.1", version) % b"a" + b"Connection: close\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
    )
    assert [status for status, _ in converse([request, b"{}"])] == statuses


def test_requests_sent_ahead_are_all_answered() -> None:
    """A client may send more requests ahead than are read at once, and close its sending side behind them."""
    count = 5 * MAX_WAITING
    answers = converse([b"".join(REQUEST.replace(b" / ", b" /%d " % i) for i in range(count)) + LAST])
    assert [document[1] for _, document in answers] == [*(f"/{i}" for i in range(count)), "/last"]


def test_nothing_is_read_behind_the_last_request() -> None:
    """Bytes that follow a request which ends the connection are dropped."""
    assert [status for status, _ in converse([LAST + REQUEST])] == [200]


# Clients that leave


class Slow:
    """An application that takes its time, and remembers how it ended."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.ends = seconds, list[str]()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.ends.append("begun")
        try:
            while (await receive()).get("more_body"):
                pass
            await asyncio.sleep(self.seconds)
            await _app(scope, receive, send)
        except asyncio.CancelledError:
            self.ends[-1] = "cancelled"
            raise
        self.ends[-1] = "answered"


WHOLE = POST % b"a" + b"Content-Length: 2\r\n\r\n{}"


@pytest.mark.parametrize(
    "sent", [WHOLE, WHOLE[:-1], WHOLE + REQUEST, POST % b"a" + b"Content-Length: 100000\r\n\r\n" + b"x" * 100_000]
)
def test_a_client_that_closes_is_noticed(sent: bytes) -> None:
    """A request whose client has closed its connection is cancelled, whole or not, and whatever was sent after it."""
    app = Slow(600)

    async def scenario(_: StrictProtocol, client: socket.socket) -> None:
        await asyncio.get_running_loop().sock_sendall(client, sent)
        await asyncio.sleep(0.05)
        client.close()
        await until_in_loop(lambda: app.ends == ["cancelled"])

    connected(scenario, app=app)
    assert app.ends == ["cancelled"]


@pytest.mark.parametrize("seconds", [0.0, 0.4])
@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
def test_a_half_closed_client_gets_its_answer(seconds: float, version: bytes) -> None:
    """A client that closes its sending side alone is answered to the byte, soon or late, and then closed."""
    app = Slow(seconds)

    async def scenario(_: StrictProtocol, client: socket.socket) -> None:
        client.send(WHOLE.replace(b"1.1", version))
        client.shutdown(socket.SHUT_WR)
        received = b""
        while part := await _read(client):
            received += part
        assert re.fullmatch(rb"HTTP/1\.1 204 No Content\r\n(.+\r\n)*\r\n", received)

    connected(scenario, app=app)
    assert app.ends == ["answered"]


def test_a_half_closed_client_gets_all_its_answers() -> None:
    """Every complete request gets its answer; an unfinished request is left out."""

    async def scenario(_: StrictProtocol, client: socket.socket) -> None:
        client.send(REQUEST * 30 + WHOLE[:-1])
        client.shutdown(socket.SHUT_WR)
        received = b""
        while part := await _read(client):
            received += part
        assert received.count(b"HTTP/1.1 200") == 30

    connected(scenario, app=_echo)


# Keeping connections


def test_a_connection_is_kept_as_long_as_it_was_set() -> None:
    """The time that an idle connection stays open is what the application's lifespan says."""

    async def scenario(_: StrictProtocol, client: socket.socket) -> None:
        client.send(REQUEST)
        await _read(client)
        began = asyncio.get_running_loop().time()
        assert await _read(client) == b""
        assert 0.25 < asyncio.get_running_loop().time() - began < 100

    connected(scenario, app=_echo, state={"keep_alive_seconds": 0.3})


def test_a_server_knows_its_connections() -> None:
    """Connections are among those of the lifespan's state as long as they are open."""
    state = lifespan_state()
    connections = state["connections"]

    async def scenario(protocol: StrictProtocol, client: socket.socket) -> None:
        assert list(connections) == [protocol]
        client.close()
        await until_in_loop(lambda: not connections)

    connected(scenario, state=state)


async def _kept(scope: Any, _: Any, send: Any) -> None:
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"{}"})


@pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_a_connection_is_kept_as_long_as_requests_come(factory: Loop) -> None:
    """The time of idleness begins again with every answer; then the connection is closed, and not before."""
    seconds = 0.5

    async def scenario(_: StrictProtocol, client: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(3):
            client.send(REQUEST)
            assert (await _read(client)).startswith(b"HTTP/1.1 200")
            last = loop.time()
            await asyncio.sleep(0.6 * seconds)
            if loop.time() - last >= seconds:
                break  # this process has stalled: the connection may be closed
        assert await _read(client) == b""
        assert loop.time() - last >= seconds - 0.002  # the clock of uvloop's loop has milliseconds

    connected(scenario, app=_kept, state={"keep_alive_seconds": seconds}, factory=factory)


# Clients that do not read, and connections that are too many

BIG = 8 << 20


async def _big(scope: Any, _: Any, send: Any) -> None:
    if scope["type"] == "http":
        scope["state"]["begun"].append(scope["path"])
        headers = [(b"content-length", b"%d" % BIG)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": bytes(BIG)})


LOOPS = pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])


@LOOPS
def test_a_client_that_does_not_read_is_given_up(factory: Loop) -> None:
    """A client has a deadline to read an answer, however many it has asked for; no further request is begun."""
    begun: list[str] = []
    state = lifespan_state(read_seconds=0.3, begun=begun)

    async def scenario(protocol: StrictProtocol, client: socket.socket) -> None:
        client.send(REQUEST * 10)
        await until_in_loop(lambda: protocol.flow.write_paused)
        assert protocol.transport.get_write_buffer_size() <= BIG + 1000
        await until_in_loop(lambda: not state["connections"])
        assert begun == ["/"]
        assert state["connections"]._unread_bytes == 0

    connected(scenario, app=_big, state=state, factory=factory)


@LOOPS
def test_a_client_that_reads_gets_every_answer(factory: Loop) -> None:
    """A client that reads what it has asked for ahead gets it all, one answer after the other."""
    state = lifespan_state(begun=[])

    async def scenario(_: StrictProtocol, client: socket.socket) -> None:
        client.send(REQUEST * 3)
        received = 0
        while received < 3 * BIG:
            received += len(await asyncio.get_running_loop().sock_recv(client, 1 << 20))
        assert state["connections"]._unread_bytes == 0

    connected(scenario, app=_big, state=state, factory=factory)
    assert len(state["begun"]) == 3


@LOOPS
def test_a_server_that_ends_waits_little_for_a_client_to_read(factory: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the server ends, a client has less time to read an answer, written before or after."""
    monkeypatch.setattr("service.front.answer_writer.LAST_READ_SECONDS", 0.2)
    state = lifespan_state(read_seconds=3600, begun=[])

    async def scenario(protocol: StrictProtocol, client: socket.socket) -> None:
        client.send(REQUEST * 3)
        await until_in_loop(lambda: protocol.flow.write_paused)
        protocol.shutdown()
        await until_in_loop(lambda: not state["connections"])

    connected(scenario, app=_big, state=state, factory=factory)


@LOOPS
def test_a_client_that_still_sends_gets_its_last_answer(factory: Loop) -> None:
    """An answer to a request whose body has not ended reaches a client that goes on sending; the rest is dropped."""

    async def too_large(scope: Any, _: Any, send: Any) -> None:
        if scope["type"] == "http":
            headers = [(b"content-length", b"0"), (b"connection", b"close")]
            await send({"type": "http.response.start", "status": 413, "headers": headers})
            await send({"type": "http.response.body", "body": b""})

    async def scenario(protocol: StrictProtocol, client: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(client, POST % b"a" + b"Content-Length: 100000000\r\n\r\n")
        await until_in_loop(lambda: protocol._lingers)
        for _ in range(100):
            await loop.sock_sendall(client, bytes(100_000))
        assert (await _read(client)).startswith(b"HTTP/1.1 413")
        assert await _read(client) == b""
        client.close()
        await until_in_loop(protocol.transport.is_closing)

    connected(scenario, app=too_large, factory=factory)


def test_a_client_that_never_stops_sending_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What follows a refused head is dropped for a while, and then the connection is closed."""
    monkeypatch.setattr("service.front.answer_writer.LINGER_SECONDS", 0.2)

    async def scenario(protocol: StrictProtocol, client: socket.socket) -> None:
        client.send(b"nonsense\r\n\r\n")
        assert (await _read(client)).startswith(b"HTTP/1.1 400")
        assert not protocol.transport.is_closing()
        client.send(REQUEST)
        await until_in_loop(protocol.transport.is_closing)

    connected(scenario)


def test_a_server_that_ends_does_not_wait_for_senders() -> None:
    """A client that has its last answer does not keep a server that ends."""

    async def scenario(protocol: StrictProtocol, client: socket.socket) -> None:
        client.send(b"nonsense\r\n\r\n")
        await until_in_loop(lambda: protocol._lingers)
        protocol.shutdown()
        assert protocol.transport.is_closing()

    connected(scenario)


def test_little_of_what_follows_a_refused_head_is_read() -> None:
    """A client that sends on and on after its last answer is closed before its time is over."""

    async def scenario(protocol: StrictProtocol, client: socket.socket) -> None:
        client.send(b"nonsense\r\n\r\n")
        assert (await _read(client)).startswith(b"HTTP/1.1 400")
        with contextlib.suppress(OSError):
            await asyncio.get_running_loop().sock_sendall(client, bytes(4 * LINGER_BYTES))
        await until_in_loop(protocol.transport.is_closing, 3)

    connected(scenario)


def _placed(place: Place, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    state = lifespan_state()
    monkeypatch.setattr(type(state["connections"]), "admit", lambda *_: place)
    return state


def test_a_connection_without_a_place_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One connection too many gets 503 with Retry-After before it sends anything, and is counted."""
    state = _placed(Place.NONE, monkeypatch)

    async def scenario(_: StrictProtocol, client: socket.socket) -> None:
        answer = await _read(client)
        assert answer.startswith(b"HTTP/1.1 503")
        assert b"\r\nRetry-After: 1\r\n" in answer
        assert await _read(client) == b""

    connected(scenario, state=state)
    metrics = state["connections"]._metrics
    assert (metrics.shed.total("connections"), metrics.requests.total("unmatched", "503")) == (1, 1)


@pytest.mark.parametrize(("path", "status"), [(b"/readyz", 200), (b"/metrics?x=1", 200), (b"/predict", 503)])
def test_a_place_for_probes_answers_one_probe(path: bytes, status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that is kept for probes answers one of them, and nothing else; then it is closed."""

    async def scenario(_: StrictProtocol, client: socket.socket) -> None:
        client.send(REQUEST.replace(b"/", path, 1))
        answer = await _read(client)
        assert answer.startswith(b"HTTP/1.1 %d" % status)
        assert b"\r\nconnection: close\r\n" in answer
        assert await _read(client) == b""

    connected(scenario, app=_echo, state=_placed(Place.PROBES, monkeypatch))


def test_a_connection_may_end_if_no_request_is_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection makes room once it has waited a moment, and not while bytes of a request have arrived unread."""
    monkeypatch.setattr("service.front.bounded_connection.FRESH_SECONDS", 0.05)

    async def scenario(protocol: StrictProtocol, client: socket.socket) -> None:
        assert not protocol.may_end()
        client.send(REQUEST)
        await _read(client)
        assert not protocol.may_end()
        await until_in_loop(protocol.may_end)
        client.send(REQUEST)
        assert not protocol.may_end()
        await _read(client)
        await until_in_loop(protocol.may_end)
        client.send(REQUEST[:10])
        await until_in_loop(lambda: protocol._in_head)
        await until_in_loop(protocol.may_end)  # a head that does not arrive is no request
        protocol.make_room()
        assert (await _read(client)).startswith(b"HTTP/1.1 503")
        assert await _read(client) == b""

    connected(scenario, app=_kept)
