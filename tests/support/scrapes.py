"""Renders a scrape of an engine whose parts a test made itself."""

from collections.abc import Sequence
from typing import Any

from service.telemetry.metrics.engine import EngineMetrics
from service.telemetry.metrics.engine_families import EngineFamilies
from service.telemetry.metrics.exposition import metric_families, write
from service.telemetry.metrics.front import FrontMetrics
from service.telemetry.metrics.server_counts import ServerCounts

__all__ = ["scrape_of"]


def scrape_of(guards: Sequence[str] = (), *, device: str = "cpu", accept: str = "", **sources: Any) -> str:
    """Render the metrics of a front that counted nothing, and of an engine with the families of ``sources``."""
    counts = ServerCounts(FrontMetrics({"/predict": (200, 500)}), EngineMetrics(guards, ["integrated_gradients"]))
    sources = {"series": list, "info": {"version": "1", "model": "x"}} | sources
    engine = EngineFamilies(counts=counts.engine, device=device, **sources)
    return write(metric_families(counts, engine.families(), passed=True), accept)[0].decode()
