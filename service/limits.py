"""The outermost layer: every byte a client sends gets a bounded, clear and cheap answer, and nothing escapes."""

import asyncio
import logging
import traceback
from collections.abc import Callable, Mapping
from dataclasses import replace
from http import HTTPStatus
from typing import Any

from service.exchange import CLIENT_LEFT, CURRENT, Exchanges
from service.http import JSON, OCTETS, Call, Handler, Message, Receive, Reply, Route, Send
from service.protocols.problem import PROBLEM, Problem, deadline_passed, fault_of_ours
from service.request_id import known_or_new
from service.server_timing import ask, timing

__all__ = ["COMMON_CODES", "POST_CODES", "UNMATCHED", "Limits", "log_fault"]

LOG = logging.getLogger("guardhouse")
UNMATCHED = "unmatched"
COMMON_CODES = (404, 405, 500)
POST_CODES = (200, 400, 405, 413, 415, 422, 500, 503, 504)


class Incoming:
    """Receives a request, and knows whether any of its body may still come."""

    def __init__(self, receive: Receive, headers: Mapping[bytes, bytes]) -> None:
        self._receive = receive
        self.unread = b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0"

    async def __call__(self) -> Message:
        """Receive a part."""
        message = await self._receive()
        self.unread = bool(message.get("more_body"))
        return message


class Limits:
    """Finds the route, bounds the request, calls the handler, and writes the answer, whatever happens."""

    def __init__(
        self,
        routes: Mapping[str, Route],
        exchanges: Exchanges,
        *,
        max_body_bytes: int,
        timeout_seconds: float,
        closing: Callable[[], bool],
    ) -> None:
        """Serve ``routes`` by exact path, and those that end in ``/*`` for all that is in the folder.

        While ``closing`` says so, connections are not kept alive.
        """
        self.routes, self.exchanges, self.metrics, self.closing = routes, exchanges, exchanges.metrics, closing
        self.max_body_bytes, self.timeout_seconds = max_body_bytes, timeout_seconds

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one HTTP request.

        Raises:
            asyncio.CancelledError: the client left, or the server ends; there is nobody to answer.
        """
        headers: dict[bytes, bytes] = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"")
        request_id = known_or_new(given)
        route = self.routes.get(scope["path"]) or self.routes.get(f"{scope['path'].rpartition('/')[0]}/*")
        template = UNMATCHED if route is None else route.template
        incoming = Incoming(receive, headers)
        exchange = self.exchanges.begin(template, scope["method"], request_id, scope["headers"])
        timed = ask(exchange, headers)
        code = None
        try:
            reply = await self._reply(route, scope, headers, request_id, incoming)
            if timed:
                reply = replace(reply, headers={**reply.headers, "Server-Timing": timing(exchange)})
            # A body that nobody reads could go on for ever: its connection serves no other request.
            close = incoming.unread or self.closing()
            await self._write(reply, request_id, send, head=scope["method"] == "HEAD", close=close)
            code = int(reply.status)
        except asyncio.CancelledError:
            code = CLIENT_LEFT
            raise
        finally:
            self.exchanges.end(exchange, code)

    async def _reply(
        self,
        route: Route | None,
        scope: Mapping[str, Any],
        headers: dict[bytes, bytes],
        request_id: str,
        receive: Incoming,
    ) -> Reply:
        try:
            method = "GET" if scope["method"] == "HEAD" else scope["method"]
            handler, binary = _handler(route, method)
            deadline = asyncio.get_running_loop().time() + self._timeout(headers)
            client = (scope.get("client") or ("",))[0]
            query = scope.get("query_string", b"").decode("latin-1")
            call = Call(method, scope["path"], headers, request_id, deadline, query=query, client=client)
            async with asyncio.timeout_at(deadline):
                if method == "POST":
                    call.body = await self._body(headers, receive, binary=binary)
                return await handler(call)
        except Problem as problem:
            if problem.reason is not None:
                self.metrics.shed.add(problem.reason)
            return _problem(problem, request_id, scope["path"])
        except TimeoutError:
            return _problem(deadline_passed(), request_id, scope["path"])
        except Exception as fault:  # noqa: BLE001 - this is the layer that catches everything
            log_fault(fault, request_id)
            return _problem(fault_of_ours(), request_id, scope["path"])

    def _timeout(self, headers: Mapping[bytes, bytes]) -> float:
        given = headers.get(b"x-request-timeout")
        if given is None:
            return self.timeout_seconds
        try:
            seconds = float(given)
        except ValueError:
            seconds = -1.0
        if not seconds > 0:
            raise Problem(HTTPStatus.BAD_REQUEST, "the header X-Request-Timeout takes a positive number of seconds")
        return min(seconds, self.timeout_seconds)

    async def _body(self, headers: Mapping[bytes, bytes], receive: Receive, *, binary: bool) -> bytes:
        encoding = headers.get(b"content-encoding", b"identity").strip().lower()
        if encoding not in (b"identity", b""):
            raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "a body with a content encoding is not taken")
        kind, _, parameters = headers.get(b"content-type", JSON.encode()).lower().partition(b";")
        given = parameters.replace(b" ", b"").replace(b'"', b"").split(b";")
        charsets = {parameter for parameter in given if parameter.startswith(b"charset=")}
        octets = binary and kind.strip() == OCTETS.encode()
        if not octets and (kind.strip() != JSON.encode() or not charsets <= {b"charset=utf-8"}):
            what = f"{JSON} in UTF-8, or {OCTETS}," if binary else f"{JSON} in UTF-8,"
            raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"send {what} and say so in Content-Type")
        length = headers.get(b"content-length", b"0")
        if len(length) > 18 or not length.isdigit() or int(length) > self.max_body_bytes:  # noqa: PLR2004
            raise self._too_large()
        parts: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise asyncio.CancelledError  # as where the client leaves later
            part = message.get("body", b"")
            size += len(part)
            if size > self.max_body_bytes:
                raise self._too_large()
            parts.append(part)
            if not message.get("more_body"):
                return parts[0] if len(parts) == 1 else b"".join(parts)

    def _too_large(self) -> Problem:
        detail = f"the body is over the limit of {self.max_body_bytes} bytes"
        return Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail)

    async def _write(self, reply: Reply, request_id: str, send: Send, *, head: bool, close: bool) -> None:
        headers = [
            (b"content-type", reply.content_type.encode()),
            (b"content-length", str(len(reply.body)).encode()),
            (b"x-request-id", request_id.encode()),
            *((name.lower().encode(), value.encode()) for name, value in reply.headers.items()),
        ]
        if close:
            headers.append((b"connection", b"close"))
        start: Message = {"type": "http.response.start", "status": int(reply.status), "headers": headers}
        await send(start)
        await send({"type": "http.response.body", "body": b"" if head else reply.body})


def _handler(route: Route | None, method: str) -> tuple[Handler, bool]:
    if route is None:
        raise Problem(HTTPStatus.NOT_FOUND, "there is nothing at this path; /docs says what there is")
    handler = route.handlers.get(method)
    if handler is None:
        allowed = ", ".join(route.handlers).replace("GET", "GET, HEAD")
        raise Problem(HTTPStatus.METHOD_NOT_ALLOWED, f"use {allowed} here", headers={"Allow": allowed})
    return handler, route.binary


def _problem(problem: Problem, request_id: str, path: str) -> Reply:
    body = problem.body(request_id, error=path == "/v2" or path.startswith("/v2/"))
    return Reply(body, problem.status, PROBLEM, problem.headers)


def log_fault(fault: BaseException, request_id: str) -> None:
    """Log where a fault of ours came from, once, and without its message: that may quote the payload.

    That is the request's line in the log; it gets no other.
    """
    cause = fault.__cause__ or fault
    frames = "".join(traceback.format_tb(cause.__traceback__)[-4:])
    exchange = CURRENT.get()
    fields = {} if exchange is None else exchange.fields(int(HTTPStatus.INTERNAL_SERVER_ERROR))
    LOG.error("%s while answering request %s\n%s", type(cause).__name__, request_id, frames, extra={"fields": fields})
    if exchange is not None:
        exchange.told = True
