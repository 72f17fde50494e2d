"""What a front's protocol needs of the application, without an application."""

from typing import Any

from service.front.connections import Connections
from service.front.dispatch import COMMON_CODES, UNMATCHED
from service.telemetry.metrics.front import FrontMetrics

__all__ = ["lifespan_state"]


def lifespan_state(*, read_seconds: float = 30.0, **more: Any) -> dict[str, Any]:
    """Make a lifespan state with connections that nothing else counts."""
    connections = Connections(FrontMetrics({UNMATCHED: COMMON_CODES}), read_seconds=read_seconds)
    return {"connections": connections, **more}
