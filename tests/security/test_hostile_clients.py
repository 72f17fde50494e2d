"""Hostile requests: each gets a bounded answer, and the server works on as before."""

import base64
import json
import socket
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any

import pytest
from example_folders import ALLOWED
from fresh_client import FRESH
from gateways import RawAnswer, read_answer

if TYPE_CHECKING:
    from gateways import Gateway

SLOWER = 4
"""How many times longer a busy machine may take."""
GROWTH = 500 * 1024 * 1024
"""What a dozen bodies of 16 MB may leave behind in the allocator; each of them, kept once, would be far more."""
POST = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
GOOD = json.dumps({"instances": [ALLOWED]}).encode()


@pytest.fixture(scope="module", autouse=True)
def unharmed(table: "Gateway", images: "Gateway") -> Iterator[None]:
    """Compare the servers after all of this with the servers before: answers, series, memory."""
    before = {gateway: (gateway.resident_bytes(), set(gateway.metrics())) for gateway in (table, images)}
    answer = table.post({"instances": [ALLOWED], "ids": ["a"]}).content
    yield
    assert table.post({"instances": [ALLOWED], "ids": ["a"]}).content == answer
    for gateway, (resident, series) in before.items():
        assert gateway.client.get("/readyz").status_code == 200
        assert set(gateway.metrics()) == series
        gateway.wait_for(lambda series: series["guardhouse_inflight_requests"] == 0)
        assert gateway.resident_bytes() - resident < GROWTH


def growth(gateway: "Gateway", act: Callable[[], None]) -> int:
    """Do something three times, and give the least growth of the server's memory in bytes.

    What an act leaves behind grows each time. The server's other work, such as a process that starts, grows once.
    """
    found = []
    for _ in range(3):
        before = gateway.resident_bytes()
        act()
        found.append(gateway.resident_bytes() - before)
    return min(found)


# Bodies


def _million(member: bytes) -> bytes:
    return b"{" + b",".join(member % i for i in range(1_000_000)) + b"}"


LARGE = {
    "brackets": (lambda: b"[" * (16 << 20), 400),
    "objects": (lambda: b'{"a":' * (3 << 20), 400),
    "closed brackets": (lambda: b"[" * (8 << 20) + b"]" * (8 << 20), 400),
    "a million keys and a duplicate": (lambda: _million(b'"%d":1')[:-1] + b',"5":1}', 400),
    "a million keys": (lambda: _million(b'"%d":1'), 422),
    "a million columns": (lambda: b'{"instances":[' + _million(b'"%d":1') + b"]}", 422),
    "a million groups": (lambda: GOOD[:-1] + b',"groups":' + _million(b'"%d":1') + b"}", 422),
    "a million instances": (lambda: b'{"instances":[' + b"1," * 3_000_000 + b"1]}", 422),
    "a million duplicates": (lambda: b"{" + b",".join([b'"a":1'] * 1_000_000) + b"}", 400),
    "a long number": (lambda: b'{"instances":[[' + b"9" * (15 << 20) + b"]]}", 422),
    "a long fraction": (lambda: b'{"instances":[[0.' + b"1" * (15 << 20) + b"]]}", 422),
    "a long exponent": (lambda: b'{"instances":[[1e' + b"9" * (15 << 20) + b"]]}", 422),
    "a long string": (lambda: b'{"instances":["' + b"a:" * (7 << 20) + b'"]}', 422),
    "colons in a string": (lambda: b'{"x":"' + b":" * (15 << 20) + b'"}', 422),
    "escapes": (lambda: b'["' + b"\\u0041" * (2 << 20) + b'"]', 422),
    "lone surrogates": (lambda: b'["' + b"\\ud800" * (2 << 20) + b'"]', 400),
    "spaces": (lambda: b" " * (16 << 20), 400),
    "quotes": (lambda: b'["' + b'\\"' * (7 << 20), 400),
    "bad UTF-8": (lambda: b'["' + b"\xff" * (15 << 20) + b'"]', 400),
}  # fmt: skip


@pytest.mark.parametrize("name", LARGE)
def test_large_bodies_are_answered_in_linear_time(table: "Gateway", name: str) -> None:
    """Sixteen megabytes of anything get their answer in seconds, and somebody else's request is answered meanwhile."""
    make, status = LARGE[name]
    body = make()
    assert len(body) <= 16 << 20
    with ThreadPoolExecutor(1) as pool:
        started = time.monotonic()
        running = pool.submit(
            FRESH.post, f"{table.url}/predict", content=body, headers={"Content-Type": "application/json"}
        )
        slowest = 0.0
        while not running.done():
            asked = time.monotonic()
            assert table.predict([ALLOWED])[0]["action"] == "allow"
            slowest = max(slowest, time.monotonic() - asked)
        took = time.monotonic() - started
    assert running.result().status_code == status, running.result().text
    table.check(running.result())
    assert len(running.result().content) < 20_000
    assert took < 25 * SLOWER  # what is not linear takes hours
    assert slowest < 10 * SLOWER


@pytest.mark.parametrize("depth", [10, 400, 900])
@pytest.mark.parametrize("place", ["instances", "row", "value", "ids", "groups", "parameters"])
def test_deep_values_are_faults(table: "Gateway", depth: int, place: str) -> None:
    """A value nested deeper than any row, but not too deep for JSON, is a fault with its place."""
    deep: Any = 1
    for _ in range(depth):
        deep = [deep]
    body: dict[str, Any] = {"instances": [ALLOWED]}
    if place == "value":
        body["instances"] = [ALLOWED | {"age": deep}]
    elif place == "row":
        body["instances"] = [deep]
    else:
        body[place] = deep
    response = table.post(body)
    assert response.status_code == 422
    assert len(response.content) < 2000


@pytest.mark.parametrize("shape", ["[" * 1100 + "]" * 1100, '{"a":' * 1100 + "1" + "}" * 1100, "[{" * 1100])
def test_nesting_at_the_parsers_limit_is_400(table: "Gateway", shape: str) -> None:
    """Just beyond what a parser takes is refused by it, whichever of them it is."""
    assert table.post(f'{{"instances": {shape}}}'.encode()).status_code == 400


def test_a_number_of_a_million_digits_is_a_fault(table: "Gateway") -> None:
    """Numbers are not made longer than a float64 can hold."""
    digits = "9" * 1_000_000
    (front,) = table.fronts
    for spelt in (digits, f"-{digits}", f"0.{digits}e{digits}", f"{digits}.5"):
        body = json.dumps({"instances": [ALLOWED | {"age": 0}]}).replace(": 0,", f": {spelt},")
        before = front.cpu_times().user
        response = table.post(body.encode())
        assert response.status_code == 422
        assert [error["loc"] for error in response.json()["errors"]] == [["instances", 0, "age"]]
        assert front.cpu_times().user - before < 4


# Images


def _png(width: int, height: int, rows: bytes) -> str:
    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    file = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")
    return base64.b64encode(file).decode()


@pytest.mark.parametrize(("width", "height"), [(5000, 5000), (60000, 60000), (2**31 - 1, 2**31 - 1), (8, 6)])
def test_a_decompression_bomb_does_not_go_off(images: "Gateway", width: int, height: int) -> None:
    """A small file that unpacks to much is refused by its header, or not unpacked beyond its pixels."""
    bomb = _png(width, height, bytes(30 * 1024 * 1024))
    assert len(bomb) < 65000

    def send() -> None:
        response = images.post({"instances": [{"b64": bomb}]})
        assert response.status_code in ({200, 422} if (width, height) == (8, 6) else {422})

    assert growth(images, send) < 60 * 1024 * 1024


# Heads

HEADS = {
    "nonsense": b"\x00\x01\x02\x03\r\n\r\n",
    "a TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a bad URL": b"GET http://[::1 HTTP/1.1\r\nHost: x\r\n\r\n",
    "a path of bytes": b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
    "no version": b"GET /livez HTTP/x\r\n\r\n",
    "an unknown method": b"BREW /livez HTTP/1.1\r\nHost: x\r\n\r\n",
    "a space in a name": b"GET /livez HTTP/1.1\r\nHost : x\r\n\r\n",
    "a NUL in a value": b"GET /livez HTTP/1.1\r\nHost: x\r\nX-A: a\x00b\r\n\r\n",
    "no name": b"GET /livez HTTP/1.1\r\n: x\r\n\r\n",
    "two lengths": POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "a length and chunks": POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a negative length": POST + b"Content-Length: -1\r\n\r\n",
    "a length of words": POST + b"Content-Length: many\r\n\r\n",
    "an odd chunk size": POST + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
    "an endless chunk size": POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 40 + b"\r\n",
    "an unknown coding": POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
}  # fmt: skip


@pytest.mark.parametrize("name", HEADS)
def test_what_is_no_http_is_a_problem(table: "Gateway", name: str) -> None:
    """Bytes that are no request get a problem document and the end of the connection."""
    answer = table.raw(HEADS[name])
    assert 400 <= answer.status < 500
    _is_problem(answer)
    assert answer.headers["connection"] == "close"


def _is_problem(answer: RawAnswer) -> None:
    assert answer.headers["content-type"] == "application/problem+json"
    problem = json.loads(answer.body)
    assert problem["status"] == answer.status
    assert problem["request_id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: x\r\nX-A: " + b"a" * 100_000 + b"\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X-%d: a\r\n" % i for i in range(10_000)) + b"\r\n",
        b"GET /livez HTTP/1.1\r\nHost: x\r\n" + b"X" * 100_000 + b": a\r\n\r\n",
    ],
    ids=["path", "value", "number", "name"],
)
def test_large_heads_are_refused(table: "Gateway", head: bytes) -> None:
    """A head has a bound, whatever it is made of."""
    answer = table.raw(head)
    assert answer.status == 431
    _is_problem(answer)


def test_a_head_that_never_ends_takes_no_memory(table: "Gateway") -> None:
    """An endless header is cut off before a hundredth of the sent bytes is kept."""

    def send() -> None:
        sent = 0
        with table.connect() as connection:
            connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\nX-A: ")
            with suppress(OSError):
                for _ in range(1000):
                    sent += connection.send(b"a" * 65536)
        assert sent < 20 * 1024 * 1024

    assert growth(table, send) < 20 * 1024 * 1024


@pytest.mark.parametrize(
    "headers",
    [
        b"X-Request-ID: a\r\nX-Request-ID: b\r\n",
        b"X-Request-ID: \xff\xfe\r\n",
        b"Content-Type: application/json\r\n",
        b"Accept: " + b"*/*," * 1000 + b"\r\n",
        b"X-Request-Timeout: 5\r\nX-Request-Timeout: 6\r\n",
        b"Cookie: " + b"\x80" * 100 + b"\r\n",
        b"Authorization: Bearer x\r\nX-API-Key: y\r\n",
        b"Upgrade: h2c\r\n",
        b"X-Forwarded-For: 1.2.3.4\r\nForwarded: for=x\r\nX-HTTP-Method-Override: GET\r\n",
    ],
)
def test_header_junk_changes_nothing(table: "Gateway", headers: bytes) -> None:
    """Headers that we do not read, or read twice, leave a good request a good request."""
    answer = table.raw(POST + headers + b"Content-Length: %d\r\n\r\n" % len(GOOD) + GOOD)
    assert answer.status == 200
    assert json.loads(answer.body)["predictions"][0]["action"] == "allow"


@pytest.mark.parametrize("path", [b"/nothing", b"/predict", b"/livez"])
def test_other_protocols_are_not_spoken(table: "Gateway", path: bytes) -> None:
    """Offers of a websocket and of HTTP/2 are ignored: the answer is the one without them, and no 101."""
    websocket = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    upgrade = b"GET " + path + b" HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: "
    for offer in (b"websocket\r\n" + websocket, b"h2c\r\nHTTP2-Settings: AAA\r\n\r\n"):
        assert table.raw(upgrade + offer).status == {b"/nothing": 404, b"/predict": 405, b"/livez": 200}[path]


OFFER = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
HIDDEN = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
LAST = b"GET /nothing HTTP/1.1\r\nHost: x\r\nX-Request-ID: last\r\nConnection: close\r\n\r\n"
"""A request after whose answer the server closes the connection."""


@pytest.mark.parametrize(
    "framing",
    [b"Content-Length: %d\r\n\r\n" % len(GOOD) + GOOD, CHUNKED + b"%x\r\n" % len(GOOD) + GOOD + b"\r\n0\r\n\r\n"],
    ids=["length", "chunks"],
)
@pytest.mark.parametrize("pause", [0.0, 0.1])
def test_a_body_behind_an_offer_is_read_as_a_body(table: "Gateway", framing: bytes, pause: float) -> None:
    """A request that offers to upgrade is predicted, in one segment or two, and the next one is answered after it."""
    head, _, body = framing.partition(b"\r\n\r\n")
    with table.connect() as connection:
        connection.sendall(POST + OFFER + head + b"\r\n\r\n")
        time.sleep(pause)
        connection.sendall(body + HIDDEN + LAST)
        received = _until_closed(connection)
    answers = received.split(b"HTTP/1.1 ")[1:]
    assert [answer[:3] for answer in answers] == [b"200", b"200", b"404"]
    assert b'"action":"allow"' in answers[0]
    assert b"alive" in answers[1]


@pytest.mark.parametrize("start", [b"POST /nothing", b"PUT /predict", b"GET /livez", b"POST /predict?" + b"a" * 10])
@pytest.mark.parametrize("offer", [b"", OFFER])
def test_a_body_that_is_refused_is_never_run(table: "Gateway", start: bytes, offer: bytes) -> None:
    """A body that looks like a request is not run as one, even if the answer leaves before the body has arrived."""
    with table.connect() as connection:
        connection.sendall(start + b" HTTP/1.1\r\nHost: x\r\n" + offer + b"Content-Length: %d\r\n\r\n" % len(HIDDEN))
        time.sleep(0.05)
        with suppress(OSError):
            connection.sendall(HIDDEN)
        received = connection.recv(65536)
        with suppress(OSError):
            connection.sendall(LAST)
        received += _until_closed(connection)
    (answer,) = (one for one in received.split(b"HTTP/1.1 ")[1:] if b"x-request-id: last" not in one)
    assert b"alive" not in answer or start == b"GET /livez"


def test_trailers_are_no_headers(table: "Gateway") -> None:
    """Trailers of a chunked body change neither that request nor the next one on its connection."""
    trailers = b"X-Request-ID: evil\r\nContent-Type: text/plain\r\nContent-Encoding: gzip\r\nX-Request-Timeout: x\r\n"
    body = CHUNKED + b"%x\r\n" % len(GOOD) + GOOD + b"\r\n0\r\n"
    with table.connect() as connection:
        for count in (4, 1):
            some = b"".join(trailers.splitlines(keepends=True)[:count])
            connection.sendall(POST + b"X-Request-ID: mine\r\n" + body + some + b"\r\n" + HIDDEN)
        connection.sendall(LAST)
        received = _until_closed(connection)
    assert received.count(b"HTTP/1.1 200") == 4
    assert received.count(b"x-request-id: mine") == 2
    assert b"evil" not in received


@pytest.mark.parametrize(
    ("begin", "more"),
    [(b"2\r\n{}\r\n0\r\nX: ", b"a" * 65536), (b"", b"1\r\n \r\n" * 10_000), (b"", b"1;" + b"a" * 8000 + b"\r\n \r\n")],
    ids=["a trailer", "bytes", "extensions"],
)
def test_framing_without_content_is_cut_off(table: "Gateway", begin: bytes, more: bytes) -> None:
    """A body that is all framing is refused within some megabytes, and neither memory nor neighbours suffer."""

    def send() -> None:
        sent, slowest = 0, 0.0
        with table.connect() as connection:
            connection.sendall(POST + CHUNKED + begin)
            with suppress(OSError):
                while sent < 64 * 1024 * 1024:
                    sent += connection.send(more)
                    if not sent % 8:
                        asked = time.monotonic()
                        table.client.get("/livez")
                        slowest = max(slowest, time.monotonic() - asked)
        assert sent < 32 * 1024 * 1024
        assert slowest < 15 * SLOWER

    assert growth(table, send) < 32 * 1024 * 1024


def _until_closed(connection: socket.socket) -> bytes:
    """Read until the server closes the connection."""
    received = b""
    with suppress(ConnectionError):
        while part := connection.recv(65536):
            received += part
    return received


def test_pipelined_requests_are_answered_in_order(table: "Gateway") -> None:
    """Several requests in one packet get their answers one after the other, each its own."""
    requests = b"".join(
        POST + b"X-Request-ID: p%d\r\nContent-Length: %d\r\n\r\n" % (i, len(body)) + body
        for i, body in enumerate([GOOD, b"{", GOOD, b"{}"])
    )
    with table.connect() as connection:
        connection.sendall(requests)
        received = b""
        while received.count(b"HTTP/1.1 ") < 4 or not received.endswith(b"}"):
            received += connection.recv(65536)
    answers = received.split(b"HTTP/1.1 ")[1:]
    assert [answer[:3] for answer in answers] == [b"200", b"400", b"200", b"422"]
    assert all(b"x-request-id: p%d\r\n" % i in answer for i, answer in enumerate(answers))


# Slowness


def test_a_slow_body_meets_the_deadline(table: "Gateway") -> None:
    """A client that sends its body too slowly is answered 504, and its connection ends."""
    with table.connect() as connection:
        connection.sendall(POST + b"X-Request-Timeout: 0.6\r\nContent-Length: 1000\r\n\r\n")
        started = time.monotonic()
        connection.settimeout(0.1)
        received = b""
        while not received:
            connection.sendall(b" ")
            try:
                received = connection.recv(65536)
            except TimeoutError:
                assert time.monotonic() - started < 25  # the server's own deadline is later
        assert time.monotonic() - started > 0.5
        assert received.startswith(b"HTTP/1.1 504")
        assert b"connection: close" in received
        connection.settimeout(120)
        with suppress(ConnectionResetError):
            while connection.recv(65536):
                pass


@pytest.fixture(scope="module", autouse=True)
def dribbled(table: "Gateway", unharmed: None) -> Iterator[Future[tuple[float, bytes, list[int]]]]:
    """Send a head byte by byte beside all the other tests, and keep hundreds of connections idle."""
    del unharmed
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(_dribble, table)


def _dribble(gateway: "Gateway") -> tuple[float, bytes, list[int]]:
    with ExitStack() as stack:
        idle = [stack.enter_context(gateway.connect()) for _ in range(200)]
        slow = stack.enter_context(gateway.connect())
        started = time.monotonic()
        slow.sendall(b"GET /livez HTTP/1.1\r\nX-A: ")
        slow.settimeout(0.2)
        received = b""
        while not received and time.monotonic() - started < 100:
            slow.sendall(b"a")
            with suppress(TimeoutError):
                received = slow.recv(65536)
        took = time.monotonic() - started
        return took, received, [read_answer(connection).status for connection in idle[:3]]


def test_a_client_that_does_not_read_is_no_burden(table: "Gateway") -> None:
    """Answers that a client does not read stay within the sockets' buffers while others are served."""
    many = json.dumps({"instances": [ALLOWED] * 1024, "parameters": {"detail": True}}).encode()
    resident = table.resident_bytes()
    with ExitStack() as stack:
        for _ in range(30):
            connection = stack.enter_context(table.connect())
            connection.sendall(POST + b"Content-Length: %d\r\n\r\n" % len(many) + many)
        assert table.predict([ALLOWED])[0]["action"] == "allow"
        time.sleep(0.5)
        assert table.resident_bytes() - resident < 200 * 1024 * 1024


def test_a_slow_head_is_cut_off(table: "Gateway", dribbled: Future[tuple[float, bytes, list[int]]]) -> None:
    """A client that dribbles its head gets a 408 in time, as idle connections do, and others are served meanwhile."""
    while not dribbled.done():
        assert table.predict([ALLOWED])[0]["action"] == "allow"
        time.sleep(0.05)
    seconds, received, idle = dribbled.result()
    assert received.startswith(b"HTTP/1.1 408")
    assert 9 < seconds < 100  # and not for as long as the client likes
    assert idle == [408] * 3
