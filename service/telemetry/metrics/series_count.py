"""Counts the Prometheus series that a server of a bundle will have, before the server is started."""

from collections.abc import Mapping, Sequence

from guards.bundle.bundle import Bundle
from guards.monitors.optional_methods import series_of
from service.telemetry.metrics.engine import EngineMetrics
from service.telemetry.metrics.engine_families import EngineFamilies, Promises
from service.telemetry.metrics.exposition import metric_families
from service.telemetry.metrics.front import FrontMetrics
from service.telemetry.metrics.server_counts import ServerCounts

__all__ = ["count_series"]


def count_series(bundle: Bundle, routes: Mapping[str, Sequence[int]]) -> int:
    """Count the series of a server of a bundle on a CPU, without the series of its processes' own figures.

    ``routes`` maps each route's template to its possible codes.
    """
    guards, methods = [guard.name for guard in bundle.config.judges], list(bundle.config.explain.allowed)
    monitors = [params.name for params in bundle.config.all_monitors]
    counts = ServerCounts(FrontMetrics(routes), EngineMetrics(guards, methods, monitors=monitors))
    engine = EngineFamilies(
        counts=counts.engine,
        device="cpu",
        info=dict.fromkeys(("version", "model", "model_version", "bundle"), ""),
        series=lambda: [series for monitor in bundle.monitors for series in series_of(monitor)],
        states=lambda: {monitor.name: (monitor.kind, monitor.state()) for monitor in bundle.monitors},
        promises=Promises(0, 0, (0.0,) * len(guards)),
    )
    return sum(len(family.samples) for family in metric_families(counts, engine.families()))
