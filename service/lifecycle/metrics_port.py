"""A port of its own for metrics and probes, so that no way to the server's port leads to the metrics."""

import asyncio
from typing import Any

import uvicorn
from uvicorn.server import ServerState

from guards.errors import Mistake
from service.front.connections import Connections
from service.front.uvicorn_protocol import KEEP_ALIVE_SECONDS, StrictProtocol
from service.messages.board import ENGINE

__all__ = ["FIRST", "METRICS", "PATHS", "MetricsPort"]

METRICS = "/metrics"
FIRST = ENGINE + 1
"""The seat of the front that listens on the port."""
PATHS = (METRICS, "/livez", "/readyz", "/healthz")
"""The paths that the port answers. The server's own port answers all of them but the metrics."""


class MetricsPort:
    """Listens in one front; the figures are of all processes. If the front ends, the front in its place listens."""

    def __init__(self, answer: Any, connections: Connections, keep_alive_seconds: float) -> None:  # noqa: ANN401 - ASGI
        """Prepare to answer by an ASGI application; the connections count among the front's ``connections``."""
        self._config = uvicorn.Config(
            answer,
            http=StrictProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
        )
        self._config.load()
        self._state = ServerState()
        self._shared = {"connections": connections, KEEP_ALIVE_SECONDS: keep_alive_seconds}
        self._server: asyncio.Server | None = None

    async def listen(self, host: str, port: int) -> None:
        """Begin to listen.

        Raises:
            Mistake: the port is taken.
        """
        try:
            self._server = await asyncio.get_running_loop().create_server(self._connection, host, port)
        except OSError as taken:
            raise Mistake(
                f"server.metrics_port: cannot listen on port {port} of {host} ({taken.strerror}): name another port"
            ) from None

    def _connection(self) -> StrictProtocol:
        return StrictProtocol(config=self._config, server_state=self._state, app_state=self._shared)

    async def close(self) -> None:
        """Stop listening. The front closes the connections with all its connections."""
        if self._server is not None:
            self._server.close()
