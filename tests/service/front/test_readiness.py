"""Whether the server can predict, and the reason if it cannot."""

import pytest
from local_engine import LocalEngine
from tiny_models import fitted

from service.front.protocols.problem import Problem
from service.front.readiness import Readiness
from service.messages.refused import Refused


@pytest.fixture(scope="module")
def engine() -> LocalEngine:
    """Make an engine."""
    return LocalEngine(fitted("tensor").bundle)


def test_a_ready_engine_is_ready(engine: LocalEngine) -> None:
    """While the engine can predict, nothing is refused."""
    readiness = Readiness(engine, lambda: False)
    assert readiness.trouble() is None
    readiness.check()
    readiness.check_engine()


def test_the_engines_trouble_is_the_servers(engine: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the engine cannot predict, health checks are 503, and questions are refused, with the engine's sentence."""
    monkeypatch.setattr(engine, "trouble", "the model is still loading")
    readiness = Readiness(engine, lambda: False)
    with pytest.raises(Problem, match="still loading") as unhealthy:
        readiness.check()
    assert (unhealthy.value.status, unhealthy.value.headers) == (503, {"Retry-After": "2"})
    assert unhealthy.value.reason is None  # a health check is no request that was shed
    with pytest.raises(Refused, match="still loading") as refused:
        readiness.check_engine()
    assert (refused.value.reason, refused.value.retry_after) == ("loading", 2)


def test_a_draining_server_still_answers(engine: LocalEngine) -> None:
    """A server that drains is not ready for a load balancer, and refuses no question."""
    readiness = Readiness(engine, lambda: True)
    with pytest.raises(Problem, match="shutting down"):
        readiness.check()
    readiness.check_engine()


def test_a_server_waits_for_its_slowest_front(engine: LocalEngine) -> None:
    """While another front cannot predict, health checks are 503, and this front refuses no question."""
    readiness = Readiness(engine, lambda: False, lambda: True)
    with pytest.raises(Problem, match="another front of this server cannot predict yet"):
        readiness.check()
    readiness.check_engine()
