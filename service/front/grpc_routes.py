"""The calls of the gRPC server: their routes, what each needs, and how a problem ends a call."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import grpc

from service.front.admission import Needs
from service.front.grpc_standard_services import HEALTH, REFLECTION, SERVICE
from service.front.protocols.problem import Problem
from service.telemetry.request_record import CLIENT_LEFT

__all__ = [
    "CHECK",
    "MAX_DETAILS",
    "METHODS",
    "NEEDS",
    "PROBES",
    "REFLECT",
    "ROUTE_OF",
    "RPC_ROUTES",
    "STATUS",
    "WATCH",
    "Metadata",
    "refuse",
]

MAX_DETAILS = 2000
"""The longest error details, in bytes. %-encoding can triple them in the metadata, and clients accept 8 KiB."""
STATUS = {
    HTTPStatus.BAD_REQUEST: grpc.StatusCode.INVALID_ARGUMENT,
    HTTPStatus.UNAUTHORIZED: grpc.StatusCode.UNAUTHENTICATED,
    HTTPStatus.FORBIDDEN: grpc.StatusCode.PERMISSION_DENIED,
    HTTPStatus.NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: grpc.StatusCode.RESOURCE_EXHAUSTED,
    HTTPStatus.UNPROCESSABLE_ENTITY: grpc.StatusCode.INVALID_ARGUMENT,
    HTTPStatus.TOO_MANY_REQUESTS: grpc.StatusCode.RESOURCE_EXHAUSTED,
    HTTPStatus.INTERNAL_SERVER_ERROR: grpc.StatusCode.INTERNAL,
    HTTPStatus.SERVICE_UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT: grpc.StatusCode.DEADLINE_EXCEEDED,
}
"""The gRPC status of a problem, by the problem's HTTP status."""
CODES = (200, *map(int, STATUS), CLIENT_LEFT)
METHODS = (
    "ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata", "ModelInfer",
    "ModelConfig", "ModelStatistics", "RepositoryIndex", "RepositoryModelLoad", "RepositoryModelUnload",
)  # fmt: skip
CHECK, WATCH, REFLECT = "grpc:HealthCheck", "grpc:HealthWatch", "grpc:Reflection"
PROBES = frozenset({"grpc:ServerLive", "grpc:ServerReady", "grpc:ModelReady", CHECK})
RPC_ROUTES = dict.fromkeys((*(f"grpc:{method}" for method in METHODS), CHECK, WATCH, REFLECT), CODES)
ROUTE_OF = {
    **{f"/{SERVICE}/{method}": f"grpc:{method}" for method in METHODS},
    f"/{HEALTH}/Check": CHECK,
    f"/{HEALTH}/Watch": WATCH,
    **{f"/{service}/ServerReflectionInfo": REFLECT for service in REFLECTION},
}
"""The route of a call by its path."""
NEEDS: Mapping[str, Needs] = {
    **{f"/{SERVICE}/{probe}": "nothing" for probe in ("ServerLive", "ServerReady", "ModelReady")},
    f"/{HEALTH}/Check": "nothing",
    f"/{HEALTH}/Watch": "nothing",
    f"/{SERVICE}/ModelInfer": "predict",
    f"/{SERVICE}/ModelStatistics": "metrics",
}
"""What a call needs if the server has keys, by its path; every other call needs any key."""
Metadata = list[tuple[str, str]]


def refuse(context: Any, problem: Problem, trailing: Metadata) -> bytes:  # noqa: ANN401 - gRPC's own
    """Let a call end with a problem, its headers and the metadata ``trailing``; return what its handler must return.

    ``context.abort`` would raise an exception, whose frames gRPC keeps for a while with all that they hold.
    """
    headers = [(name.lower(), value) for name, value in problem.headers.items()]
    details = problem.sentence.encode()[:MAX_DETAILS].decode(errors="ignore")
    context.set_code(STATUS[problem.status])
    context.set_details(details)
    context.set_trailing_metadata((*trailing, *headers))
    return b""
