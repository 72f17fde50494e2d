"""Head and body in one write: the bytes that uvicorn would write, in fewer writes."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from service.front.one_write import OneWrite

DEFAULTS = [(b"date", b"today"), (b"server", b"x")]


class Written(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.closed = False

    def write(self, data: Any) -> None:
        self.writes.append(bytes(data))

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


def answered(messages: list[Any], *, ours: bool, method: str = "POST", keep_alive: bool = True) -> dict[str, Any]:
    """Send messages through uvicorn's cycle, or through ours; give what became of the connection."""

    async def main() -> dict[str, Any]:
        transport, completed = Written(), []
        scope: Any = {"type": "http", "method": method, "http_version": "1.1"}
        cycle = RequestResponseCycle(
            scope=scope,
            transport=transport,
            flow=FlowControl(transport),
            logger=None,  # type: ignore[arg-type]
            access_logger=None,  # type: ignore[arg-type]
            access_log=False,
            default_headers=DEFAULTS,
            message_event=asyncio.Event(),
            expect_100_continue=False,
            keep_alive=keep_alive,
            on_response=lambda: completed.append(True),
        )
        send = OneWrite(cycle) if ours else cycle.send
        fault = None
        try:
            for message in messages:
                await send(message)
        except RuntimeError as wrong:
            fault = str(wrong)
        return {
            "bytes": b"".join(transport.writes),
            "writes": len(transport.writes),
            "closed": transport.closed,
            "complete": cycle.response_complete,
            "completed": completed,
            "keep_alive": cycle.keep_alive,
            "told": cycle.message_event.is_set(),
            "fault": fault,
        }

    return asyncio.run(main())


def messages(headers: list[tuple[bytes, bytes]], *bodies: bytes, status: int = 200) -> list[Any]:
    """Write an answer as ASGI messages, one for each part of the body."""
    parts = [
        {"type": "http.response.body", "body": body, "more_body": at < len(bodies) - 1}
        for at, body in enumerate(bodies)
    ]
    return [{"type": "http.response.start", "status": status, "headers": headers}, *parts]


names = st.sampled_from([b"content-type", b"X-Guardhouse-Action", b"connection", b"transfer-encoding", b"b\xe4d name"])
header_values = st.sampled_from([b"application/json", b"close", b"keep-alive", b"chunked", b"a\r\nb: c", b""])


@given(
    st.lists(st.tuples(names, header_values), max_size=3),
    st.lists(st.binary(max_size=5), min_size=1, max_size=3),
    st.sampled_from([None, 0, 1]),
    st.sampled_from(["GET", "POST", "HEAD"]),
    st.booleans(),
    st.sampled_from([200, 204, 422]),
)
def test_the_bytes_are_those_of_uvicorn(
    headers: list[tuple[bytes, bytes]],
    bodies: list[bytes],
    off: int | None,
    method: str,
    keep_alive: bool,
    status: int,
) -> None:
    """Any answer: the same bytes, the same end of the connection, the same errors."""
    length = [] if off is None else [(b"content-length", b"%d" % (len(b"".join(bodies)) + off))]
    sent = messages([*headers, *length], *bodies, status=status)
    theirs = answered(sent, ours=False, method=method, keep_alive=keep_alive)
    found = answered(sent, ours=True, method=method, keep_alive=keep_alive)
    assert found.pop("writes") <= theirs.pop("writes")
    assert found == theirs


@pytest.mark.parametrize("close", [False, True])
def test_a_whole_answer_is_one_write(close: bool) -> None:
    """Head and body leave together, with the server's own headers before the application's."""
    closing = [(b"connection", b"close")] if close else []
    found = answered(messages([(b"content-length", b"2"), *closing], b"{}"), ours=True)
    assert found["writes"] == 1
    assert found["bytes"].startswith(b"HTTP/1.1 200 OK\r\ndate: today\r\nserver: x\r\ncontent-length: 2\r\n")
    assert found["bytes"].endswith(b"\r\n\r\n{}")
    assert found["closed"] == close
    assert found["completed"] == [True]


def test_the_server_s_own_headers_may_change(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new list of default headers is written anew."""
    before = answered(messages([(b"content-length", b"0")], b""), ours=True)["bytes"]
    monkeypatch.setitem(globals(), "DEFAULTS", [(b"date", b"tomorrow")])
    after = answered(messages([(b"content-length", b"0")], b""), ours=True)["bytes"]
    assert b"date: today" in before
    assert b"date: tomorrow" in after
