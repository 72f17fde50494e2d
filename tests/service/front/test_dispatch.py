"""The outermost layer: every request gets one bounded answer, and is counted once."""

import asyncio
import json
import logging
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.front.dispatch import COMMON_CODES, POST_CODES, UNMATCHED, Limits
from service.front.http import Call, Message, Reply, Route
from service.front.protocols.problem import unavailable
from service.telemetry.metrics.front import FrontMetrics
from service.telemetry.request_record import CLIENT_LEFT, Exchanges

Headers = Sequence[tuple[bytes, bytes]]
JSON_HEADERS: Headers = [(b"content-type", b"application/json")]


async def _echo(call: Call) -> Reply:
    return Reply(call.body, headers={"X-Seen": call.request_id})


async def _crash(_: Call) -> Reply:
    raise RuntimeError("PAYLOAD")


async def _sleep(_: Call) -> Reply:
    await asyncio.sleep(10)
    return Reply(b"")


async def _shed(_: Call) -> Reply:
    raise unavailable("busy", reason="queue_full", retry_after=3.6)


GET_CODES = (200, 400, 405, 500, 504)
ROUTES = {
    "/echo": Route("/echo", {"POST": _echo}, POST_CODES),
    "/get": Route("/get", {"GET": _echo}, GET_CODES),
    "/crash": Route("/crash", {"POST": _crash}, POST_CODES),
    "/sleep": Route("/sleep", {"GET": _sleep}, GET_CODES),
    "/shed": Route("/shed", {"POST": _shed}, POST_CODES),
}


class Wire:
    """The two ends of one request."""

    def __init__(self, chunks: Sequence[bytes], *, leaves: bool = False, stalls: bool = False) -> None:
        self.incoming: list[Message] = [
            {"type": "http.request", "body": chunk, "more_body": leaves or stalls or i < len(chunks) - 1}
            for i, chunk in enumerate(chunks)
        ]
        self.leaves = leaves
        self.sent: list[Message] = []

    async def receive(self) -> Message:
        if self.incoming:
            return self.incoming.pop(0)
        if self.leaves:
            return {"type": "http.disconnect"}
        await asyncio.sleep(60)
        raise AssertionError

    async def send(self, message: Message) -> None:
        self.sent.append(message)

    @property
    def status(self) -> int:
        assert [message["type"] for message in self.sent] == ["http.response.start", "http.response.body"]
        status: int = self.sent[0]["status"]
        return status

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.sent[0]["headers"])

    @property
    def document(self) -> Any:
        return json.loads(self.sent[1]["body"])


def make(*, closing: bool = False, seconds: float = 5.0) -> Limits:
    """Make limits of a hundred bytes."""
    codes = {route.template: (*route.codes, CLIENT_LEFT) for route in ROUTES.values()} | {UNMATCHED: COMMON_CODES}
    return Limits(
        ROUTES, Exchanges(FrontMetrics(codes)), max_body_bytes=100, timeout_seconds=seconds, closing=lambda: closing
    )


def ask(
    path: str,
    method: str = "POST",
    headers: Headers = JSON_HEADERS,
    chunks: Sequence[bytes] = (b"",),
    limits: Limits | None = None,
    **wire: bool,
) -> Wire:
    """Send one request."""
    limits = limits or make()
    ends = Wire(chunks, **wire)
    scope = {"type": "http", "method": method, "path": path, "headers": headers}
    left = False
    try:
        asyncio.run(limits(scope, ends.receive, ends.send))
    except asyncio.CancelledError:
        left = True
    assert limits.metrics.inflight == 0
    assert limits.metrics.requests.values.sum() == 1
    assert limits.metrics.duration.counts.sum() == 1
    assert left == (not ends.sent)
    if left:
        return ends
    assert ends.headers[b"content-length"] == str(len(ends.sent[1]["body"])).encode() or method == "HEAD"
    return ends


@pytest.mark.parametrize("chunks", [[b"x" * 100], [b"x"] * 100, [b"", b"x" * 60, b"", b"x" * 40, b""]])
def test_bodies_up_to_the_limit_are_joined(chunks: list[bytes]) -> None:
    """A body is what its chunks are together, up to the limit itself."""
    ends = ask("/echo", chunks=chunks)
    assert ends.status == 200
    assert ends.sent[1]["body"] == b"".join(chunks)


@pytest.mark.parametrize("chunks", [[b"x" * 101, b""], [b"x"] * 150])
def test_bodies_over_the_limit_are_cut_off(chunks: list[bytes]) -> None:
    """One byte more is answered 413, and if more bytes may come, the connection is not used again."""
    ends = ask("/echo", chunks=chunks)
    assert ends.status == 413
    assert ends.incoming
    assert ends.headers[b"connection"] == b"close"


@pytest.mark.parametrize(
    ("path", "method", "headers", "status"),
    [
        ("/nothing", "POST", [(b"content-length", b"5")], 404),
        ("/echo", "PUT", [(b"transfer-encoding", b"chunked")], 405),
        ("/get", "GET", [(b"content-length", b"5")], 200),
        ("/echo", "POST", [(b"content-type", b"text/plain"), (b"content-length", b"5")], 415),
        ("/echo", "POST", [(b"x-request-timeout", b"x"), (b"content-length", b"5")], 400),
    ],
)
def test_a_body_that_nobody_reads_ends_the_connection(path: str, method: str, headers: Headers, status: int) -> None:
    """An answer that did not need the body does not wait for it either: it may be endless."""
    ends = ask(path, method, headers, chunks=[b"12345"])
    assert ends.status == status
    assert ends.headers[b"connection"] == b"close"
    assert b"connection" not in ask(path, method, [*headers[:-1], (b"content-length", b"0")]).headers


@pytest.mark.parametrize("length", [b"101", b"9" * 30, b"-1", b"1_0", b"x"])
def test_lengths_are_read_before_the_body(length: bytes) -> None:
    """A declared length over the limit, or none at all, is refused without a byte read."""
    ends = ask("/echo", headers=[*JSON_HEADERS, (b"content-length", length)], chunks=[b"unread"])
    assert ends.status == 413
    assert len(ends.incoming) == 1
    assert ends.headers[b"connection"] == b"close"


def test_a_client_that_leaves_while_it_sends_is_a_499() -> None:
    """A request whose client leaves before its body has arrived gets no answer, and is counted as the client's."""
    limits = make()
    assert ask("/echo", chunks=[b"x"], limits=limits, leaves=True).sent == []
    assert limits.metrics.requests.values[limits.metrics.requests.index["/echo", "499"]] == 1


def test_a_request_that_is_cancelled_is_a_499() -> None:
    """A request whose task is cancelled, as it is when its client leaves, is counted as a client's and ends there."""
    limits = make()
    ends = Wire([b""])
    scope = {"type": "http", "method": "GET", "path": "/sleep", "headers": []}

    async def main() -> None:
        asking = asyncio.create_task(limits(scope, ends.receive, ends.send))
        await asyncio.sleep(0.01)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking

    asyncio.run(main())
    assert ends.sent == []
    assert limits.metrics.requests.values[limits.metrics.requests.index["/sleep", "499"]] == 1
    assert limits.metrics.inflight == 0


def test_a_body_that_stalls_is_a_504() -> None:
    """The deadline covers reading the body, and the connection is not used again: the rest of it may still come."""
    ends = ask("/echo", headers=[*JSON_HEADERS, (b"x-request-timeout", b"0.05")], chunks=[b"x"], stalls=True)
    assert ends.status == 504
    assert ends.headers[b"connection"] == b"close"


def test_a_slow_handler_is_a_504() -> None:
    """The server's own deadline holds without a header."""
    assert ask("/sleep", "GET", limits=make(seconds=0.05)).status == 504


def test_a_crash_is_a_500_without_its_message(caplog: pytest.LogCaptureFixture) -> None:
    """A crash is logged once with request id and place, never with its message, which may quote a payload."""
    with caplog.at_level(logging.ERROR, "guardhouse"):
        ends = ask("/crash", headers=[*JSON_HEADERS, (b"x-request-id", b"abc")])
    assert ends.status == 500
    assert ends.document["request_id"] == "abc"
    (record,) = caplog.records
    assert "abc" in record.getMessage()
    assert "_crash" in record.getMessage()
    assert "PAYLOAD" not in record.getMessage().replace('RuntimeError("PAYLOAD")', "")  # the source line
    assert "PAYLOAD" not in json.dumps(ends.document)


def test_shed_requests_are_counted_by_reason() -> None:
    """A refusal to protect the others says when to come again, and moves its own counter."""
    limits = make()
    ends = ask("/shed", limits=limits)
    assert ends.status == 503
    assert ends.headers[b"retry-after"] == b"4"
    assert limits.metrics.shed.values[limits.metrics.shed.index["queue_full",]] == 1


def test_draining_closes_connections() -> None:
    """While draining, answers ask the client to connect anew, elsewhere."""
    assert ask("/get", "GET", limits=make(closing=True)).headers[b"connection"] == b"close"
    assert b"connection" not in ask("/get", "GET").headers


def test_head_has_the_length_of_get() -> None:
    """HEAD is GET without its body, errors included."""
    for path, status in (("/get", 200), ("/nothing", 404)):
        ends = ask(path, "HEAD")
        assert ends.status == status
        assert ends.sent[1]["body"] == b""


names = st.sampled_from(
    [b"content-type", b"content-length", b"content-encoding", b"x-request-id", b"x-request-timeout", b"accept", b"x"]
)
likely = st.sampled_from(
    [
        b"application/json",
        b"application/json; charset=utf-8",
        b"",
        b"0",
        b"5",
        b"1e9",
        b"nan",
        b"inf",
        b"gzip",
        b";;=",
        b"\xff",
    ]
)


@given(
    method=st.sampled_from(["GET", "HEAD", "POST", "PUT", "x", ""]),
    path=st.sampled_from([*ROUTES, "/nothing", "", "/\x00", "/" + "é" * 9]).filter(lambda path: path != "/sleep"),
    headers=st.lists(st.tuples(names, st.binary(max_size=20) | likely), max_size=6),
    chunks=st.lists(st.binary(max_size=60), min_size=1, max_size=4),
    leaves=st.booleans(),
)
def test_every_request_gets_one_declared_answer(
    method: str, path: str, headers: Headers, chunks: list[bytes], leaves: bool
) -> None:
    """Whatever the method, path, headers and body: one answer, of a status the route declares, with a request id.

    There is none to a client that left before it was asked for.
    """
    limits = make()
    ends = ask(path, method, headers, chunks, limits, leaves=leaves)
    if leaves and not ends.sent:
        return
    route = ROUTES.get(path)
    assert ends.status in (route.codes if route else COMMON_CODES)
    assert ends.headers[b"x-request-id"]
    if ends.status >= 400:
        assert ends.headers[b"content-type"] == b"application/problem+json"
    if ends.status >= 400 and method != "HEAD":
        assert ends.document["request_id"].encode() == ends.headers[b"x-request-id"]
        assert ends.document["status"] == ends.status


@given(st.binary(max_size=140))
def test_request_ids_are_echoed_or_replaced(given_id: bytes) -> None:
    """A request id of printable ASCII comes back; any other is replaced by one that is safe in a header and a log."""
    told = ask("/get", "GET", [(b"x-request-id", given_id)]).headers[b"x-request-id"]
    printable = 1 <= len(given_id) <= 128 and all(0x21 <= byte <= 0x7E for byte in given_id)
    assert (told == given_id) == printable
    assert all(0x21 <= byte <= 0x7E for byte in told)
