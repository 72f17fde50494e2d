"""The record of one request over HTTP or gRPC, by which the request is counted, logged once and, if asked, traced."""

import time
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from guards.actions import Action
from service.keys.principal import Principal
from service.messages.stage import Stage
from service.quotas.budget import Budget
from service.telemetry.access_log import AccessLog
from service.telemetry.metrics.front import FrontMetrics
from service.telemetry.trace_context import Headers, trace_id_of

if TYPE_CHECKING:
    from opentelemetry.trace import Span


__all__ = ["CLIENT_LEFT", "CURRENT", "PROBES", "Exchange", "Exchanges", "StageTimes", "current_owner", "took"]

CLIENT_LEFT = 499
"""The code of a request whose client left before the answer. HTTP has no code for this; proxies use this number."""
SCRAPE = "/metrics"
"""Scrapes are not counted as in flight. Otherwise an idle server would never report 0."""
PROBES = frozenset({"/livez", "/readyz", "/healthz", SCRAPE, "/v2/health/live", "/v2/health/ready"}) | frozenset(
    {"grpc:ServerLive", "grpc:ServerReady", "grpc:HealthCheck"}
)
"""Routes that Kubernetes and Prometheus call every few seconds; they have no lines in the access log."""


@dataclass(slots=True, eq=False)
class Exchange:
    """What is recorded of a request: everything but its content."""

    route: str
    """The route's template, never the path, because a client can write anything into the path."""
    method: str
    request_id: str
    headers: Headers
    started: float = field(default_factory=time.perf_counter)
    rows: int = 0
    actions: npt.NDArray[np.integer[Any]] | None = None
    """The action on each row (n,); None until the actions are known."""
    span: "Span | None" = None
    wall: int = 0
    """The time since the epoch in nanoseconds at which ``time.perf_counter`` was 0; set if the request is traced."""
    stages: list[Stage] | None = None
    """The stages of the request if it is traced; otherwise None."""
    told: bool = False
    """Whether the access log already has a line of this request."""
    principal: Principal | None = None
    """Who asks; None if the server has no keys, or the route needs none."""
    budget: Budget | None = None
    """What the principal may use; None if nothing bounds it."""
    ends_connection: bool = False
    """Whether the connection is closed after the answer."""
    client: str = ""
    """The client's address; empty if the server does not know the address."""
    waited: float = 0.0
    """How many seconds the request waited before the server read it."""

    def on_the_wall(self, moment: float) -> int:
        """Convert a time of ``time.perf_counter`` to nanoseconds since the epoch."""
        return self.wall + round(moment * 1e9)

    def fields(self, code: int) -> dict[str, str | int]:
        """Give the fields of every log line about the request. Of what the client sent, only its trace is in them."""
        trace = trace_id_of(self.span, self.headers)
        told: dict[str, str | int] = {"method": self.method, "route": self.route, "code": code}
        if self.principal is not None:
            told["principal"] = self.principal.name
        return told if trace is None else {**told, "trace_id": trace}

    @property
    def owner(self) -> str | None:
        """The name of the principal, to whom the request's ids belong; None without a principal."""
        return None if self.principal is None else self.principal.name

    @property
    def caller(self) -> str:
        """For whom the request counts where callers share: its principal, or, without keys, its address."""
        return self.client if self.principal is None else self.principal.name

    @property
    def arrived(self) -> float:
        """When the request arrived, by ``time.perf_counter``."""
        return self.started - self.waited

    @property
    def action(self) -> str | None:
        """The strictest action on any row, including actions of guards that answers do not show."""
        return None if self.actions is None or not self.actions.size else Action(int(self.actions.max())).label


CURRENT: ContextVar[Exchange | None] = ContextVar("exchange", default=None)
"""The exchange that the current task answers; None in code that serves several requests at once."""


def current_owner() -> str | None:
    """Give the name of the principal that the current task answers; None without a principal."""
    exchange = CURRENT.get()
    return None if exchange is None else exchange.owner


class Spans(Protocol):
    """Makes a span of each exchange; :class:`service.telemetry.tracing.Tracing` implements this protocol."""

    def begin(self, exchange: Exchange) -> None:
        """Begin the span of an exchange."""

    def end(self, exchange: Exchange, code: int | None, ended: float) -> None:
        """End the span at ``ended`` by ``time.perf_counter``; ``code`` is None if no answer was written."""


class Exchanges:
    """Begins and ends every exchange of a server."""

    def __init__(self, metrics: FrontMetrics, tracing: Spans | None = None) -> None:
        self.metrics, self.tracing = metrics, tracing
        self.log = AccessLog()

    def begin(self, route: str, method: str, request_id: str, headers: Headers) -> Exchange:
        """Record that a request has begun, and make it the exchange of the current task."""
        exchange = Exchange(route, method, request_id, headers)
        CURRENT.set(exchange)
        if route != SCRAPE:
            self.metrics.arrive()
        if self.tracing is not None and route not in PROBES:
            self.tracing.begin(exchange)
        return exchange

    def refused(self, exchange: Exchange, code: int) -> None:
        """Record a request that was refused before it began."""
        self.metrics.requests.add(exchange.route, str(code))
        ended = time.perf_counter()
        self.metrics.duration.observe(ended - exchange.started, exchange.route)
        self._tell(exchange, code, ended)

    def end(self, exchange: Exchange, code: int | None) -> None:
        """Record that a request has ended; ``code`` is None if no answer was written."""
        ended = time.perf_counter()
        if code is not None:
            self.metrics.requests.add(exchange.route, str(code))
        self.metrics.duration.observe(ended - exchange.started, exchange.route)
        if exchange.route != SCRAPE:
            self.metrics.leave()
        if exchange.route in PROBES:
            return
        if self.tracing is not None:
            self.tracing.end(exchange, code, ended)
        if code is not None:
            self._tell(exchange, code, ended)

    def _tell(self, exchange: Exchange, code: int, ended: float) -> None:
        """Write the request's line into the access log, if the log has room."""
        if not exchange.told and (dropped := self.log.room(code)) is not None:
            more = {"request_id": exchange.request_id, "duration_seconds": round(ended - exchange.started, 6)}
            if exchange.rows:
                more["rows"] = exchange.rows
            if exchange.action is not None:
                more["action"] = exchange.action
            self.log.write({**exchange.fields(code), **more}, dropped)


class StageTimes(Protocol):
    """Counts how long stages took."""

    def observe(self, value: float, *labels: str) -> None:
        """Add one duration in seconds; the label is the stage's name."""
        ...


def took(times: StageTimes, stage: str, started: float) -> None:
    """Count a stage that began at ``started`` and ends now, and note it in the current request if that is traced."""
    ended = time.perf_counter()
    times.observe(ended - started, stage)
    exchange = CURRENT.get()
    if exchange is not None and exchange.stages is not None:
        exchange.stages.append(Stage(stage, started, ended))
