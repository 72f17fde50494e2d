"""The standard services of gRPC: health for probes and load balancers, and reflection for tools."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from http import HTTPStatus
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from service.front.protocols import grpc_health_v1_pb2 as health
from service.front.protocols import grpc_predict_v2_pb2 as predict
from service.front.protocols import grpc_reflection_v1_pb2 as reflection
from service.front.protocols.problem import Problem

__all__ = ["HEALTH", "REFLECTION", "SERVICE", "Health", "reflect", "written"]

SERVICE, HEALTH = "inference.GRPCInferenceService", "grpc.health.v1.Health"
REFLECTION = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")
"""Two names of the same service; many tools still ask for the older name."""
LOOK_SECONDS = 0.25
"""How many seconds pass between two looks of a health watch at the state."""
FILES = {file.name: file for file in (predict.DESCRIPTOR, health.DESCRIPTOR, reflection.DESCRIPTOR)}


class Health:
    """grpc.health.v1: SERVING if ``trouble`` returns None; NOT_SERVING while the model loads or the server drains."""

    def __init__(self, trouble: Callable[[], str | None]) -> None:
        self._trouble = trouble
        self._closing = asyncio.Event()

    def close(self) -> None:
        """End every watch."""
        self._closing.set()

    async def check(self, body: bytes, *_: object) -> bytes:
        """Answer one health check.

        Raises:
            Problem: 404, the server has no such service.
        """
        status = self._status(_service(body))
        if status == health.HealthCheckResponse.SERVICE_UNKNOWN:
            raise Problem(HTTPStatus.NOT_FOUND, f"there is no such service here; there is {SERVICE}")
        return written(health.HealthCheckResponse(status=status))

    async def watch(self, body: bytes) -> AsyncIterator[bytes]:
        """Yield the present state, and then every change of the state."""
        service, told = _service(body), None
        while not self._closing.is_set():
            status = self._status(service)
            if status != told:
                told = status
                yield written(health.HealthCheckResponse(status=status))
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._closing.wait()
            except TimeoutError:
                continue

    def _status(self, service: str) -> int:
        states = health.HealthCheckResponse
        if service not in ("", SERVICE):
            return int(states.SERVICE_UNKNOWN)
        return int(states.SERVING if self._trouble() is None else states.NOT_SERVING)


def _service(body: bytes) -> str:
    try:
        return str(health.HealthCheckRequest.FromString(body).service)
    except DecodeError:
        raise Problem(HTTPStatus.BAD_REQUEST, "the bytes are no HealthCheckRequest") from None


async def reflect(questions: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Answer reflection requests: list the services, or return the file that defines a name.

    Raises:
        Problem: 400, the bytes are no ServerReflectionRequest.
    """
    async for body in questions:
        try:
            asked = reflection.ServerReflectionRequest.FromString(body)
        except DecodeError:
            raise Problem(HTTPStatus.BAD_REQUEST, "the bytes are no ServerReflectionRequest") from None
        kind = asked.WhichOneof("message_request")
        answer = reflection.ServerReflectionResponse(valid_host=asked.host, original_request=asked)
        if kind == "list_services":
            names = sorted((SERVICE, HEALTH, REFLECTION[0]))
            answer.list_services_response.service.extend(reflection.ServiceResponse(name=name) for name in names)
        elif kind == "all_extension_numbers_of_type" and _file_of(asked.all_extension_numbers_of_type) is not None:
            answer.all_extension_numbers_response.base_type_name = asked.all_extension_numbers_of_type
        elif (file := _file(kind, asked)) is not None:
            answer.file_descriptor_response.file_descriptor_proto.append(file.serialized_pb)
        else:
            answer.error_response.error_code = grpc.StatusCode.NOT_FOUND.value[0]
            answer.error_response.error_message = "there is no such name here"
        yield written(answer)


def _file(kind: str | None, asked: Any) -> Any:  # noqa: ANN401 - a message, and a descriptor
    if kind == "file_by_filename":
        return FILES.get(asked.file_by_filename)
    return _file_of(asked.file_containing_symbol) if kind == "file_containing_symbol" else None


def _file_of(symbol: str) -> Any:  # noqa: ANN401 - a descriptor
    """Find the file that defines a service, a method, a message, a field or an enumeration."""
    for file in FILES.values():
        prefix = f"{file.package}."
        if symbol.startswith(prefix):
            first, *inner = symbol.removeprefix(prefix).split(".")
            tables: tuple[Mapping[str, Any], ...] = (
                file.services_by_name, file.message_types_by_name, file.enum_types_by_name,
            )  # fmt: skip
            found = next((table[first] for table in tables if first in table), None)
            if found is not None and _has(found, inner):
                return file
    return None


def _has(found: Any, inner: list[str]) -> bool:  # noqa: ANN401 - a descriptor
    for name in inner:
        names = ("methods_by_name", "nested_types_by_name", "fields_by_name", "enum_types_by_name", "values_by_name")
        tables = (getattr(found, table) for table in names if hasattr(found, table))
        found = next((table[name] for table in tables if name in table), None)
        if found is None:
            return False
    return True


def written(message: Any) -> bytes:  # noqa: ANN401 - a message
    """Serialize a protobuf message."""
    body: bytes = message.SerializeToString()
    return body
