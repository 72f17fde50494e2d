"""The outermost layer of HTTP: finds the route, enforces limits and deadlines, and turns exceptions into answers."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import lru_cache
from http import HTTPStatus
from typing import Any

from service.front.admission import Admission, Needs, need
from service.front.concurrency import OVERLOAD, ConcurrencyLimit
from service.front.deadlines import Deadlines
from service.front.faults import problem_of
from service.front.http import Call, Handler, Head, Message, Receive, Reply, Route, Send, Write
from service.front.incoming import Incoming, check_head
from service.front.protocols.problem import PROBLEM, Problem, unavailable
from service.front.request_id import known_or_new
from service.front.server_timing import ask, timing
from service.front.trusted_proxies import TrustedProxies
from service.telemetry.request_record import CLIENT_LEFT, Exchange, Exchanges

__all__ = ["COMMON_CODES", "CONNECTION", "POST_CODES", "UNMATCHED", "WAITED", "Limits"]

UNMATCHED = "unmatched"
COMMON_CODES = (400, 404, 405, 408, 431, 500, 503)
"""The codes of answers to requests that match no route, or whose head was refused."""
WAITED = "guardhouse.waited"
"""The key of the scope that holds how many seconds the request waited before it was read."""
TURNED_AWAY = unavailable(OVERLOAD, reason="overload")
CONNECTION = "guardhouse.connection"
"""The key of the scope that holds the connection."""
POST_CODES = (200, 400, 405, 413, 415, 422, 500, 503, 504)


class Limits:
    """Finds the route, enforces the limits, calls the handler, and writes an answer even if the handler raises."""

    def __init__(  # noqa: PLR0913 - every limit of a request
        self,
        routes: Mapping[str, Route],
        exchanges: Exchanges,
        *,
        max_body_bytes: int,
        timeout_seconds: float,
        closing: Callable[[], bool],
        admission: Admission | None = None,
        trusted_proxies: Iterable[str] = (),
        concurrency: ConcurrencyLimit | None = None,
    ) -> None:
        """Serve ``routes`` by exact path; a route that ends in ``/*`` serves every path directly below it.

        While ``closing`` returns true, connections are not kept alive. Without ``admission`` every caller may enter.
        ``trusted_proxies`` are the networks of the proxies that may say who their client is. With ``concurrency``,
        :meth:`turn_away` refuses predictions early.
        """
        self.routes, self.exchanges, self.metrics, self.closing = routes, exchanges, exchanges.metrics, closing
        self.max_body_bytes, self.timeout_seconds = max_body_bytes, timeout_seconds
        self._deadlines, self._admission, self._concurrency = Deadlines(), admission, concurrency
        self._proxies = TrustedProxies(trusted_proxies)

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one HTTP request as an ASGI application.

        Raises:
            asyncio.CancelledError: the client has left, or the server stops; nobody waits for an answer.
        """
        client = (scope.get("client") or ("",))[0]
        query = scope.get("query_string", b"").decode("latin-1")
        head = Head(
            scope["method"],
            scope["path"],
            scope["headers"],
            query,
            client,
            scope.get(CONNECTION),
            scope.get(WAITED, 0.0),
        )

        async def write(reply: Reply, request_id: str, close: bool) -> None:
            await _send(reply, request_id, send, head=head.method == "HEAD", close=close)

        route = self.routes.get(head.path) or self.routes.get(f"{head.path.rpartition('/')[0]}/*")
        await self.answer(route, head, Incoming(receive, head.fields), write)

    async def answer(self, route: Route | None, head: Head, body: bytes | Incoming, write: Write) -> None:
        """Answer one request whose body has arrived or still arrives; ``route`` is None if the path has no route.

        Raises:
            asyncio.CancelledError: the client has left, or the server stops; nobody waits for an answer.
        """
        headers: dict[bytes, bytes] = dict(head.fields)
        request_id = known_or_new(headers.get(b"x-request-id"))
        template = UNMATCHED if route is None else route.template
        exchange = self.exchanges.begin(template, head.method, request_id, head.fields)
        exchange.client, exchange.waited = self._proxies.client(head.client, head.fields), head.waited
        timed = ask(exchange, headers)
        code = None
        try:
            reply = await self._reply(route, head, headers, exchange, body)
            if timed:
                reply = replace(reply, headers={**reply.headers, "Server-Timing": timing(exchange)})
            # If the body was not read to its end, the rest may be endless. So the connection serves no other request.
            unread = isinstance(body, Incoming) and body.unread
            await write(reply, request_id, unread or exchange.ends_connection or self.closing())
            code = int(reply.status)
        except asyncio.CancelledError:
            code = CLIENT_LEFT
            raise
        finally:
            if isinstance(body, Incoming):
                body.release()
            self.exchanges.end(exchange, code)

    def turn_away(self, route: Route, head: Head) -> tuple[Reply, str] | None:
        """Return a refusal and the request's id if the caller of a prediction is at the limit.

        :meth:`answer` would refuse the request as well, at several times the cost. None is returned if the request may
        enter, is refused for another reason, or is traced.
        """
        limit = self._concurrency
        if limit is None or not limit.is_reached or self.exchanges.tracing is not None:
            return None
        client = self._proxies.client(head.client, head.fields)
        principal = None
        if self._admission is not None:
            try:
                principal = self._admission.caller(head.fields, route.needs)
                need(principal, route.needs)
            except Problem:
                return None
        if limit.admits(client if principal is None else principal.name):
            return None
        request_id = known_or_new(next((value for name, value in head.fields if name == b"x-request-id"), None))
        exchange = Exchange(route.template, head.method, request_id, head.fields, principal=principal)
        self.metrics.shed.add("overload")
        self.exchanges.refused(exchange, int(HTTPStatus.SERVICE_UNAVAILABLE))
        return _problem(TURNED_AWAY, request_id, head.path), request_id

    def left(self, route: Route, head: Head) -> None:
        """Record a request whose client left before the request began."""
        self.exchanges.refused(Exchange(route.template, head.method, known_or_new(None), head.fields), CLIENT_LEFT)

    def sees_waiting(self) -> bool:
        """Return whether it is worth asking how long a request has waited in the system."""
        return self._concurrency is not None and self._concurrency.is_busy

    async def _reply(
        self, route: Route | None, head: Head, headers: dict[bytes, bytes], exchange: Exchange, body: bytes | Incoming
    ) -> Reply:
        request_id = exchange.request_id
        try:
            if self._admission is not None:
                needs: Needs = "a key" if route is None else route.needs
                exchange.principal = self._admission.caller(head.fields, needs)
                need(exchange.principal, needs)
            method = "GET" if head.method == "HEAD" else head.method
            handler, binary = _handler(route, method)
            deadline = asyncio.get_running_loop().time() - head.waited + self._timeout(headers)
            call = Call(method, head.path, headers, request_id, deadline, query=head.query, client=exchange.client)
            with self._deadlines.until(deadline):
                if self._admission is not None:
                    await self._admission.charge(exchange, head.connection)
                    if isinstance(body, Incoming):
                        body.budget = exchange.budget
                if method == "POST":
                    check_head(headers, self.max_body_bytes, binary=binary)
                    call.body = body if isinstance(body, bytes) else await body.read(self.max_body_bytes)
                return await handler(call)
        except Exception as fault:  # noqa: BLE001 - this is the layer that catches everything
            problem = problem_of(fault, request_id)
            if problem.reason is not None:
                self.metrics.shed.add(problem.reason)
            return _problem(problem, request_id, head.path)

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


async def _send(reply: Reply, request_id: str, send: Send, *, head: bool, close: bool) -> None:
    """Send a reply as ASGI messages; without its body if ``head`` is true."""
    headers = [
        (b"content-type", reply.content_type.encode()),
        (b"content-length", b"%d" % len(reply.body)),
        (b"x-request-id", request_id.encode()),
        *[(_lower(name), value.encode()) for name, value in reply.headers.items()],
    ]
    if close:
        headers.append((b"connection", b"close"))
    start: Message = {"type": "http.response.start", "status": int(reply.status), "headers": headers}
    await send(start)
    await send({"type": "http.response.body", "body": b"" if head else reply.body})


@lru_cache(64)
def _lower(name: str) -> bytes:
    """Return a header name in lower case. Only names of this server come here, so the cache stays small."""
    return name.lower().encode()


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
