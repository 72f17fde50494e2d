"""Every problem over gRPC: its status, its details, its trailers and its counters."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import Any

import grpc
import pytest
from idle_limit import idle_limit
from local_engine import LocalEngine, served_model_of
from tiny_models import document, fitted

import service
from guards import Bundle
from guards.config.config import parse
from service.front.grpc_methods import RpcMethods
from service.front.grpc_routes import MAX_DETAILS, METHODS, RPC_ROUTES, STATUS
from service.front.grpc_server import RpcServer
from service.front.grpc_standard_services import SERVICE
from service.front.prediction import Prediction
from service.front.protocols.problem import Problem, unavailable
from service.front.readiness import Readiness
from service.front.triton_routes import Triton
from service.messages.refused import ModelFault, Refused
from service.telemetry.metrics.front import FrontMetrics
from service.telemetry.request_record import Exchanges

METHOD = f"/{SERVICE}/ModelInfer"
Told = tuple[grpc.StatusCode, str, dict[str, str]]


@cache
def bundle() -> Bundle:
    """Fit a model."""
    return fitted("tensor").bundle


def asked(
    infer: Callable[..., Awaitable[bytes]], *, timeout: float = 10, metadata: Any = (), method: str = METHOD
) -> tuple[Told, FrontMetrics, bool]:
    """Call a server whose ModelInfer is `infer`: give the client's error, the counts, and if the server lives on."""

    async def main() -> tuple[Told, FrontMetrics, bool]:
        metrics = FrontMetrics(RPC_ROUTES)
        engine = LocalEngine(bundle())
        served, readiness = served_model_of(engine.bundle), Readiness(engine, lambda: False)
        prediction, triton = Prediction(engine, metrics.stages, idle_limit()), Triton(served, readiness, dict)  # type: ignore[arg-type]
        RpcMethods._infer, own = infer, RpcMethods._infer  # type: ignore[method-assign,assignment]
        try:
            server = RpcServer(
                served, readiness=readiness, prediction=prediction, triton=triton, exchanges=Exchanges(metrics)
            )
        finally:
            RpcMethods._infer = own  # type: ignore[method-assign]
        port = server._server.add_insecure_port("127.0.0.1:0")
        await server._server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            call = channel.unary_unary(method)(b"", timeout=timeout, metadata=metadata)
            told = (await call.code(), await call.details(), dict(await call.trailing_metadata()))
            alive = await channel.unary_unary(f"/{SERVICE}/ServerLive")(b"")
        await server._server.stop(0)
        return told, metrics, bool(alive)

    return asyncio.run(main())


def raising(fault: Exception) -> Callable[..., Awaitable[bytes]]:
    async def infer(*_: object) -> bytes:
        raise fault

    return infer


def counted(metrics: FrontMetrics) -> dict[str, int]:
    """Give the codes that ModelInfer was counted with."""
    values = zip(metrics.requests.index, metrics.requests.values, strict=True)
    return {code: int(value) for (route, code), value in values if value and route == "grpc:ModelInfer"}


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "INVALID_ARGUMENT"),
        (401, "UNAUTHENTICATED"),
        (403, "PERMISSION_DENIED"),
        (404, "NOT_FOUND"),
        (413, "RESOURCE_EXHAUSTED"),
        (422, "INVALID_ARGUMENT"),
        (429, "RESOURCE_EXHAUSTED"),
        (500, "INTERNAL"),
        (503, "UNAVAILABLE"),
        (504, "DEADLINE_EXCEEDED"),
    ],
)
def test_every_problem_has_its_status(status: int, code: str) -> None:
    """A problem of any status has gRPC's own code for it, with the same sentence, and is counted as in HTTP."""
    problem = Problem(
        HTTPStatus(status), "what is wrong", errors=[(("inputs", 0), "this")], headers={"Retry-After": "7"}
    )
    (told, details, trailing), metrics, alive = asked(raising(problem), metadata=[("x-request-id", "mine")])
    assert (told.name, details) == (code, "what is wrong; inputs.0: this")
    assert (trailing["retry-after"], trailing["x-request-id"]) == ("7", "mine")
    assert counted(metrics) == {str(status): 1}
    assert alive
    assert metrics.inflight == 0


def test_no_problem_of_the_service_is_without_a_status() -> None:
    """Every status that the code behind the gRPC service raises has a status of gRPC."""
    http_alone = {"METHOD_NOT_ALLOWED", "UNSUPPORTED_MEDIA_TYPE", "REQUEST_TIMEOUT", "REQUEST_HEADER_FIELDS_TOO_LARGE"}
    sources = Path(service.__file__).parent.rglob("*.py")
    named = {name for path in sources for name in re.findall(r"HTTPStatus\.([A-Z_]+)", path.read_text())}
    assert {"BAD_REQUEST", "NOT_FOUND", "SERVICE_UNAVAILABLE"} <= named
    with_one = {name for name, status in HTTPStatus.__members__.items() if status in STATUS}  # some have two names
    assert named - http_alone - {"OK", "ACCEPTED", "NO_CONTENT", "SEE_OTHER"} <= with_one


@pytest.mark.parametrize("method", ["RepositoryModelLoad", "RepositoryModelUnload"])
def test_nothing_is_loaded_or_unloaded(method: str) -> None:
    """A request to load or unload is refused with a sentence that says what a server serves."""
    (told, details, _), _, alive = asked(raising(ValueError()), method=f"/{SERVICE}/{method}")
    assert told == grpc.StatusCode.INVALID_ARGUMENT
    assert "the one bundle that it was started with" in details
    assert alive


def test_a_fault_of_ours(caplog: pytest.LogCaptureFixture) -> None:
    """An exception is INTERNAL with a sentence that says nothing of it, logged once without its message."""
    (told, details, _), metrics, alive = asked(raising(ValueError("the payload")))
    assert (told, details) == (grpc.StatusCode.INTERNAL, "a fault of the server's; it is logged")
    assert counted(metrics) == {"500": 1}
    assert alive
    assert len(caplog.records) == 1
    assert "the payload" not in caplog.text


def test_what_is_shed_is_counted() -> None:
    """A refusal for want of room says when to come again, and is counted by its reason."""
    (told, _, trailing), metrics, _ = asked(raising(unavailable("the queue is full", reason="queue_full")))
    assert (told, trailing["retry-after"]) == (grpc.StatusCode.UNAVAILABLE, "1")
    assert metrics.shed.values[metrics.shed.index["queue_full",]] == 1


def test_a_refusal_of_the_engine_is_unavailable() -> None:
    """A call that the engine refuses is UNAVAILABLE with the time to come again, and counted by the reason."""
    refused = Refused("engine_lost", "the engine has ended", retry_after=2)
    (told, details, trailing), metrics, _ = asked(raising(refused))
    assert (told, details, trailing["retry-after"]) == (grpc.StatusCode.UNAVAILABLE, "the engine has ended", "2")
    assert metrics.shed.values[metrics.shed.index["engine_lost",]] == 1


def test_a_fault_of_the_model_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """A call on which the model raised is INTERNAL; one line of the log names the kind of error and the request."""
    (told, _, _), metrics, _ = asked(raising(ModelFault("ValueError")), metadata=[("x-request-id", "mine")])
    assert told == grpc.StatusCode.INTERNAL
    assert counted(metrics) == {"500": 1}
    assert [record.getMessage() for record in caplog.records] == ["ValueError while answering request mine"]


@pytest.mark.parametrize("character", ["a", "\u00e9", "\U0001f600", "%", "\n", "\0"], ids=ascii)
def test_details_always_arrive(character: str) -> None:
    """Details of any length and in any script reach the client, cut to what clients take."""
    (told, details, _), _, _ = asked(raising(Problem(HTTPStatus.BAD_REQUEST, character * 5000)))
    assert told == grpc.StatusCode.INVALID_ARGUMENT
    assert 450 < len(details) <= len(details.encode()) <= MAX_DETAILS
    assert set(details) <= {character, "."}


def test_the_deadline_is_the_clients() -> None:
    """The service has what is left of the client's time, and no more than the config's."""
    seen: list[float] = []

    async def infer(_server: object, _body: bytes, _request_id: str, deadline: float, _trailing: object) -> bytes:
        seen.append(deadline - asyncio.get_running_loop().time())
        return b""

    (told, _, _), _, _ = asked(infer, timeout=20)
    assert told == grpc.StatusCode.OK
    asked(infer, timeout=3600)
    assert 0 < seen[0] <= 21
    assert 21 < seen[1] <= parse(document("tensor")).server.timeout_seconds


def test_the_servers_own_deadline() -> None:
    """If the config's time ends before the client's, the answer is DEADLINE_EXCEEDED, too."""

    async def infer(*_: object) -> bytes:
        raise TimeoutError

    (told, details, _), metrics, _ = asked(infer)
    assert (told, details) == (grpc.StatusCode.DEADLINE_EXCEEDED, "the request's deadline passed")
    assert counted(metrics) == {"504": 1}


@pytest.mark.parametrize("method", ["ModelStreamInfer", "SystemSharedMemoryStatus", ""])
def test_methods_that_are_not_there(method: str) -> None:
    """A method that this server does not have is UNIMPLEMENTED."""
    assert method not in METHODS
    (told, _, _), metrics, alive = asked(raising(ValueError()), method=f"/{SERVICE}/{method}")
    assert told == grpc.StatusCode.UNIMPLEMENTED
    assert not counted(metrics)
    assert alive
