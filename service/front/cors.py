"""Cross-origin requests from pages of the configured origins (the CORS protocol of the Fetch standard)."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from guards.config.server import CorsConfig
from service.front.dispatch import Limits
from service.front.http import Message, Receive, Send
from service.front.protocols.problem import PROBLEM, Problem
from service.front.request_id import known_or_new
from service.telemetry.request_record import Exchanges

__all__ = ["PREFLIGHT", "PREFLIGHT_CODES", "Cors"]

PREFLIGHT, PREFLIGHT_CODES = "preflight", (204, 403)
REFUSED = "pages of this origin may not ask: `server.cors.origins` in the config does not name it"
ANY = "*"
METHODS = b"GET, HEAD, POST"
HEADERS = (
    "Content-Type", "Authorization", "X-API-Key", "X-Request-ID", "X-Request-Timeout", "X-Server-Timing", "Prefer",
    "Inference-Header-Content-Length", "traceparent", "tracestate",
)  # fmt: skip
"""The request headers that this server reads. A browser asks in a preflight whether it may send them."""
EXPOSED = (
    "X-Request-ID", "X-Guardhouse-Action", "X-Guardhouse-Skipped", "Inference-Header-Content-Length", "Location",
    "Retry-After", "Preference-Applied", "Server-Timing",
)  # fmt: skip
VARY = (b"vary", b"Origin")


class Cors:
    """Answers preflight requests, and adds the headers that let pages of the listed origins read other answers."""

    def __init__(self, limits: Limits, config: CorsConfig, exchanges: Exchanges) -> None:
        self.limits, self.config, self.exchanges = limits, config, exchanges
        self._origins = frozenset(origin.encode() for origin in config.origins)
        self._any = ANY in config.origins
        asked = [(b"access-control-allow-methods", METHODS)]
        asked += [(b"access-control-allow-headers", ", ".join((*HEADERS, *config.headers)).encode())]
        asked += [(b"access-control-max-age", str(config.max_age_seconds).encode())]
        self._preflight = asked

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        headers: Mapping[bytes, bytes] = dict(scope["headers"])
        origin = headers.get(b"origin")
        bodiless = b"transfer-encoding" not in headers and headers.get(b"content-length", b"0") == b"0"
        if scope["method"] == "OPTIONS" and bodiless and origin and b"access-control-request-method" in headers:
            await self._answer(scope, headers, origin, send)
            return
        allowed = [*self._allowed(origin)]
        if origin is not None and allowed[1:]:
            allowed.append((b"access-control-expose-headers", ", ".join(EXPOSED).encode()))

        async def send_allowed(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *allowed]}
            await send(message)

        await self.limits(scope, receive, send_allowed)

    async def _answer(
        self, scope: Mapping[str, Any], headers: Mapping[bytes, bytes], origin: bytes, send: Send
    ) -> None:
        """Answer a preflight: which requests a page of this origin may send. The path is not checked here."""
        request_id = known_or_new(headers.get(b"x-request-id", b""))
        exchange = self.exchanges.begin(PREFLIGHT, "OPTIONS", request_id, scope["headers"])
        written, body, code = self._allowed(origin), b"", HTTPStatus.NO_CONTENT
        if len(written) > 1:
            written += self._preflight
        else:
            code = HTTPStatus.FORBIDDEN
            body = Problem(code, REFUSED).body(request_id, error=scope["path"].startswith("/v2"))
            written += [(b"content-type", PROBLEM.encode()), (b"content-length", str(len(body)).encode())]
        written.append((b"x-request-id", request_id.encode()))
        if self.limits.closing():
            written.append((b"connection", b"close"))
        try:
            await send({"type": "http.response.start", "status": int(code), "headers": written})
            await send({"type": "http.response.body", "body": body})
        finally:
            self.exchanges.end(exchange, int(code))

    def _allowed(self, origin: bytes | None) -> list[tuple[bytes, bytes]]:
        """Return the headers that let a page of ``origin`` read the answer; `Vary` alone if it is not allowed to."""
        if origin is None or not (self._any or origin in self._origins):
            return [VARY]
        allowed = [VARY, (b"access-control-allow-origin", ANY.encode() if self._any else origin)]
        if self.config.credentials:
            allowed.append((b"access-control-allow-credentials", b"true"))
        return allowed
