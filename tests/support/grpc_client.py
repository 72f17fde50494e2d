"""A client of the protocol's gRPC service that only needs the compiled messages."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import grpc

from service.front.protocols import grpc_predict_v2_pb2 as messages

SERVICE = "/inference.GRPCInferenceService"


@contextlib.contextmanager
def calling(address: str) -> Iterator[Callable[..., Any]]:
    """Give a function that calls a method with a message, and returns the answer and the call."""
    with grpc.insecure_channel(address) as channel:

        def call(method: str, message: Any, timeout: float = 120, metadata: Any = ()) -> tuple[Any, Any]:
            kind = getattr(messages, f"{method}Response")
            body = message if isinstance(message, bytes) else message.SerializeToString()
            stub = channel.unary_unary(f"{SERVICE}/{method}")
            answer, rpc = stub.with_call(body, timeout=timeout, metadata=metadata, wait_for_ready=False)
            return kind.FromString(answer), rpc

        yield call
