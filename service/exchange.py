"""One request from its first byte to its last, by whatever transport: counted, logged once, and traced if asked to."""

import time
from collections.abc import Iterable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from guards.types import Action
from service.access import AccessLog
from service.metrics import Metrics
from service.tracing import trace_id_of

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from service.tracing import Tracing

__all__ = ["CLIENT_LEFT", "CURRENT", "Exchange", "Exchanges", "Stage", "took"]

Headers = Iterable[tuple[bytes | str, bytes | str]]
CLIENT_LEFT = 499
"""The code of a request whose client left before it was answered; HTTP has none for it, and proxies use this one."""
SCRAPE = "/metrics"
"""Not in flight: a scrape would else find itself, and an idle server never say 0."""
PROBES = frozenset({"/livez", "/readyz", "/healthz", SCRAPE, "/v2/health/live", "/v2/health/ready"}) | frozenset(
    {"grpc:ServerLive", "grpc:ServerReady", "grpc:HealthCheck"}
)
"""Routes that Kubernetes and Prometheus ask every few seconds: nobody reads of them in a log."""


class Stage(NamedTuple):
    """A stage of a request, from ``start`` to ``end`` by ``time.perf_counter``; of a shared batch, how many rows."""

    name: str
    start: float
    end: float
    batch_rows: int | None = None


@dataclass(slots=True, eq=False)
class Exchange:
    """What is known of a request besides what it holds."""

    route: str
    """The template, never the path: that is the client's."""
    method: str
    request_id: str
    headers: Headers
    started: float = field(default_factory=time.perf_counter)
    rows: int = 0
    actions: npt.NDArray[np.integer[Any]] | None = None
    """What was done to each row (n,), once it is known."""
    span: "Span | None" = None
    wall: int = 0
    """What the clock on the wall said, in nanoseconds, when that of durations was at 0; set where it is traced."""
    stages: list[Stage] | None = None
    """Filled where the request is traced; None where nobody asks."""
    told: bool = False
    """Whether the log has a line of it already."""

    def on_the_wall(self, moment: float) -> int:
        """Give a moment by ``time.perf_counter`` in nanoseconds since the epoch."""
        return self.wall + round(moment * 1e9)

    def fields(self, code: int) -> dict[str, str | int]:
        """Give what every line about it says: nothing that the client sent but its trace."""
        trace = trace_id_of(self)
        told: dict[str, str | int] = {"method": self.method, "route": self.route, "code": code}
        return told if trace is None else {**told, "trace_id": trace}

    @property
    def action(self) -> str | None:
        """The strictest action on a row, as it is counted: also by a guard that no answer shows."""
        return None if self.actions is None or not self.actions.size else Action(int(self.actions.max())).label


CURRENT: ContextVar[Exchange | None] = ContextVar("exchange", default=None)
"""The exchange that this task answers; code that serves a batch of several has none."""


class Exchanges:
    """Begins and ends every exchange of a server."""

    def __init__(self, metrics: Metrics, tracing: "Tracing | None" = None) -> None:
        self.metrics, self.tracing = metrics, tracing
        self.log = AccessLog()

    def begin(self, route: str, method: str, request_id: str, headers: Headers) -> Exchange:
        """Count a request in, and make it the current task's."""
        exchange = Exchange(route, method, request_id, headers)
        CURRENT.set(exchange)
        self.metrics.inflight += route != SCRAPE
        if self.tracing is not None and route not in PROBES:
            self.tracing.begin(exchange)
        return exchange

    def end(self, exchange: Exchange, code: int | None) -> None:
        """Count a request out; ``code`` is None where no answer was written."""
        ended = time.perf_counter()
        seconds = ended - exchange.started
        if code is not None:
            self.metrics.requests.add(exchange.route, str(code))
        self.metrics.duration.observe(seconds, exchange.route)
        self.metrics.inflight -= exchange.route != SCRAPE
        if exchange.route in PROBES:
            return
        if self.tracing is not None:
            self.tracing.end(exchange, code, ended)
        if code is not None and not exchange.told and (dropped := self.log.room(code)) is not None:
            more = {"request_id": exchange.request_id, "duration_seconds": round(seconds, 6)}
            if exchange.rows:
                more["rows"] = exchange.rows
            if exchange.action is not None:
                more["action"] = exchange.action
            self.log.write({**exchange.fields(code), **more}, dropped)


def took(metrics: Metrics, stage: str, started: float) -> None:
    """Count a stage of the current exchange that began at ``started`` and ends now."""
    ended = time.perf_counter()
    metrics.stages.observe(ended - started, stage)
    exchange = CURRENT.get()
    if exchange is not None and exchange.stages is not None:
        exchange.stages.append(Stage(stage, started, ended))
