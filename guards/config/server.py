"""The ``server`` section of a config: the server's bounds, and the web pages that may send requests; needs no torch."""

import ipaddress
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from guards.config.base import Section

__all__ = ["CorsConfig", "ServerConfig"]


class CorsConfig(Section):
    """Which web pages of other origins may send requests from a browser; by default none may."""

    origins: tuple[Annotated[str, Field(pattern=r"^(\*|[a-z][a-z0-9+.-]*://[A-Za-z0-9.\[\]:_-]+)$")], ...] = Field(
        min_length=1,
        max_length=1000,
        description='origins whose pages may send requests, such as "https://app.example"; "*": any origin',
    )
    credentials: bool = Field(default=False, description="true: pages may send the browser's cookies and logins")
    headers: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,64}$")], ...] = Field(
        default=(),
        max_length=100,
        description="headers that a page may send, in addition to the headers that the server reads",
    )
    max_age_seconds: int = Field(
        default=600, ge=0, le=86400, description="seconds for which a browser may remember the permission"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.credentials and "*" in self.origins:
            raise ValueError("credentials for every origin would let any page act as its visitor: name the origins")
        return self


def _network(text: str) -> str:
    """Check an address or a network, and write it as a network.

    Raises:
        ValueError: the text is neither, or it is every address.
    """
    try:
        network = ipaddress.ip_network(text)
    except ValueError as wrong:
        raise ValueError(f"{wrong}; write an address (192.0.2.7) or a network (10.0.0.0/8)") from None
    if not network.prefixlen:
        raise ValueError(f"{text} trusts everybody, so any client could choose its address: name the proxies' networks")
    return str(network)


class ServerConfig(Section):
    """The server's bounds, processes and ports."""

    max_batch_rows: int = Field(default=64, ge=1, le=65536, description="the most rows that the model gets at once")
    max_queue_rows: int = Field(
        default=1024,
        ge=1,
        description="the most rows that wait for the model; further requests are answered 503, but short requests (at "
        "most a quarter of a batch) have a quarter more room",
    )
    max_rows_per_request: int = Field(default=1024, ge=1, description="the most rows of one request")
    max_body_bytes: int = Field(
        default=16 * 1024 * 1024,
        ge=1024,
        description="the most bytes of a request's body; a longer body is answered 413",
    )
    timeout_seconds: float = Field(
        default=30,
        gt=0,
        le=55,
        description="seconds until a request is answered 504; BentoML ends any request after 60 seconds",
    )
    keep_alive_seconds: float = Field(
        default=75,
        gt=0,
        le=3600,
        description="seconds for which a connection without a request stays open; choose more than the load balancer's",
    )
    fronts: Literal["auto"] | Annotated[int, Field(ge=1, le=64)] = Field(
        default="auto",
        description="number of processes that speak HTTP; auto: one for every four cores, at least 1, at most 8",
    )
    grpc_port: int | None = Field(
        default=None,
        ge=1,
        le=65535,
        description="port of the Open Inference Protocol over gRPC; default: no gRPC",
    )
    metrics_port: int | None = Field(
        default=None,
        ge=1,
        le=65535,
        description="port of /metrics and the probes; /metrics is then no path of the server's own port; default: none",
    )
    client_header: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,64}$")] | None = Field(
        default=None,
        description="the header that names the client to guards with memory if the server has no keys; your proxy must "
        "set it, because a client could write anything into it; default: the client's address",
    )
    trusted_proxies: tuple[Annotated[str, AfterValidator(_network)], ...] = Field(
        default=(),
        max_length=1000,
        description="addresses and networks of the proxies whose X-Forwarded-For is believed; default: none",
    )
    smallest_count: int | None = Field(
        default=None,
        ge=1,
        le=1000,
        description="figures of rows in metrics and monitors change by at least so many rows at once, and reports hide "
        "figures of fewer rows; default: 10 if the server has keys, otherwise 1",
    )
    console: bool | None = Field(
        default=None,
        description="true: browsers find the console at /console; default: only if the server listens on a loopback "
        "address",
    )
    cors: CorsConfig | None = Field(
        default=None, description="web pages of other origins that may send requests; default: none"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.max_queue_rows < self.max_rows_per_request:
            raise ValueError("max_queue_rows is below max_rows_per_request: such a request could never be queued")
        if self.metrics_port is not None and self.metrics_port == self.grpc_port:
            raise ValueError("metrics_port and grpc_port are the same port: name two ports")
        return self
