"""Whether a gRPC call may enter, decided by the call's metadata before its message is read."""

from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from typing import Any

import grpc

from service.front.admission import Admission, Needs, need
from service.front.protocols.problem import Problem
from service.keys.principal import Principal

__all__ = ["CALLER", "CallAdmission"]

CALLER: ContextVar[Principal | None] = ContextVar("caller", default=None)
"""Who makes the current call. gRPC runs interceptors and the call's handler in one context."""
Refuse = Callable[[str, Problem, Any], Awaitable[bytes]]
"""Ends a call with a problem: the call's path, the problem, gRPC's context."""


class CallAdmission(grpc.aio.ServerInterceptor):  # type: ignore[misc]  # grpc has no types
    """Refuses calls without the right key."""

    def __init__(self, admission: Admission, needs: Mapping[str, Needs], refuse: Refuse) -> None:
        """Look up what a call needs by its path in ``needs``; a call of another path needs any key."""
        self._admission, self._needs, self._refuse = admission, needs, refuse

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], call: Any) -> Any:  # noqa: ANN401 - gRPC's own
        """Let a call on to its handler, or give it a handler that refuses it."""
        fields = [(name.encode(), str(value).encode()) for name, value in call.invocation_metadata or ()]
        needs = self._needs.get(call.method, "a key")
        try:
            CALLER.set(self._admission.caller(fields, needs))
            need(CALLER.get(), needs)
        except Problem as problem:
            return grpc.stream_unary_rpc_method_handler(self._refusing(call.method, problem))
        return await continuation(call)

    def _refusing(self, path: str, problem: Problem) -> Callable[..., Awaitable[bytes]]:
        """Make a handler that ends the call. It takes a stream of messages, because gRPC reads a single one at once."""

        async def refuse(_: Any, context: Any) -> bytes:  # noqa: ANN401 - gRPC's own
            return await self._refuse(path, problem, context)

        return refuse
