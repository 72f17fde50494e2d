"""Every route of a deployment, the metrics that count them, and how many series that makes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from guards.bundle import Bundle
from guards.config import Config
from service.cors import PREFLIGHT, PREFLIGHT_CODES
from service.exchange import CLIENT_LEFT
from service.explaining import Explaining
from service.handlers import Handlers
from service.http import Route
from service.inference import InferenceService
from service.limits import COMMON_CODES, UNMATCHED
from service.metrics import Metrics, ModelMetrics, Promises
from service.openapi import pages
from service.settings import Deployment
from service.triton import Triton

if TYPE_CHECKING:
    from service.runtime import Runtime

__all__ = ["Routing", "count_series"]


@dataclass(frozen=True, slots=True, eq=False)
class Routing:
    """What answers which path, and counts it."""

    handlers: Handlers
    inference: InferenceService
    explaining: Explaining
    routes: Mapping[str, Route]
    metrics: Metrics

    @classmethod
    def of(
        cls, deployment: Deployment, *, runtime: "Callable[[], Runtime | None]", trouble: Callable[[], str | None]
    ) -> Self:
        """Lay out every route; ``runtime`` gives None until it is loaded, ``trouble`` says why it is not ready."""
        config = deployment.config
        handlers = Handlers(config, runtime=runtime, trouble=trouble, pages=pages(deployment))
        inference = InferenceService(deployment, runtime=runtime, trouble=trouble)
        explaining = Explaining(config, deployment.schema, runtime=runtime, trouble=trouble)
        routes = {**Triton(inference).routes(), **handlers.routes(), **inference.routes(), **explaining.routes()}
        metrics = Metrics(_codes(routes, config), list(config.explain.allowed))
        handlers.metrics = inference.metrics = explaining.metrics = metrics
        return cls(handlers, inference, explaining, routes, metrics)


def _codes(routes: Mapping[str, Route], config: Config) -> dict[str, tuple[int, ...]]:
    codes = {route.template: (*route.codes, CLIENT_LEFT) for route in routes.values()}
    codes[UNMATCHED] = (*COMMON_CODES, CLIENT_LEFT)
    if config.server.cors is not None:
        codes[PREFLIGHT] = PREFLIGHT_CODES
    if config.server.grpc_port is not None:
        from service.rpc import RPC_ROUTES  # noqa: PLC0415 - needs grpcio, which HTTP does not

        codes |= RPC_ROUTES
    return codes


def count_series(bundle: Bundle) -> int:
    """Count the series that a server of a bundle shows from its start to its end, on a CPU, its process' own aside."""
    deployment = Deployment(bundle.config, None, bundle.schema, bundle.classes)
    metrics = Routing.of(deployment, runtime=lambda: None, trouble=lambda: None).metrics
    guards = [guard.name for guard in bundle.config.guards]
    metrics.model = ModelMetrics(
        guards,
        lambda: [series for monitor in bundle.monitors for series in monitor.series()],
        "cpu",
        {"version": "", "model": "", "model_version": "", "bundle": ""},
        promises=Promises(0, 0, (0.0,) * len(guards)),
        states=lambda: {monitor.name: (monitor.kind, monitor.state()) for monitor in bundle.monitors},
    )
    return sum(len(family.samples) for family in metrics.collect())
