"""Whether the server can predict, and if not, why. Every health check of the front asks here."""

from collections.abc import Callable
from http import HTTPStatus

from service.front.engine_client import EngineClient
from service.front.protocols.problem import Problem
from service.messages.refused import Refused

__all__ = ["Readiness"]

LEAVING = "the server is shutting down"
CONNECTING = "another front of this server cannot predict yet"
RETRY_SECONDS = 2


class Readiness:
    """Answers health checks, and checks the engine before a request other than a prediction is read.

    A draining server is not ready, so that load balancers send no more requests. It still answers requests that arrive.
    """

    def __init__(
        self, engine: EngineClient, draining: Callable[[], bool], connecting: Callable[[], bool] = lambda: False
    ) -> None:
        """Ask at every check: does the server drain, and does a front listen that cannot predict yet?"""
        self._engine, self._draining, self._connecting = engine, draining, connecting

    def trouble(self) -> str | None:
        """Return why the server is not ready; None if the server is ready."""
        if self._draining():
            return LEAVING
        return self._engine.ready() or (CONNECTING if self._connecting() else None)

    def check(self) -> None:
        """Answer a health check.

        Raises:
            Problem: 503, the server is not ready.
        """
        if (trouble := self.trouble()) is not None:
            headers = {"Retry-After": str(RETRY_SECONDS)}
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, trouble, headers=headers)

    def check_engine(self) -> None:
        """Check that the engine is ready, before the body of a request is read.

        Raises:
            Refused: the engine is not ready.
        """
        if (trouble := self._engine.ready()) is not None:
            raise Refused("loading", trouble, retry_after=RETRY_SECONDS)
