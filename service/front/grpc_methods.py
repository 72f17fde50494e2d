"""What the methods of the Open Inference Protocol's gRPC service answer: a message in, a message out."""

from collections.abc import Awaitable, Callable
from functools import partial

from google.protobuf.json_format import ParseDict

from guards.version import __version__
from service.front.grpc_routes import METHODS, Metadata
from service.front.grpc_standard_services import written
from service.front.prediction import Asked, Prediction
from service.front.protocols import grpc_predict_v2_pb2 as messages
from service.front.protocols import v2_grpc
from service.front.protocols.v2_outputs import inputs_of, outputs_of
from service.front.readiness import Readiness
from service.front.triton_routes import Triton, read_only
from service.front.v2_routes import EXTENSIONS, SERVER, asked
from service.messages.served_model import ServedModel

__all__ = ["Method", "RpcMethods"]

LARGE_MESSAGE = 65536
Method = Callable[[bytes, str, float, Metadata], Awaitable[bytes]]
"""Answers a message, given the call's id, its deadline by the event loop's clock, and the trailers, which may grow."""


class RpcMethods:
    """Answers the calls of the served model."""

    def __init__(self, served: ServedModel, readiness: Readiness, prediction: Prediction, triton: Triton) -> None:
        self.served, self._readiness, self._prediction, self._triton = served, readiness, prediction, triton

    def by_name(self) -> dict[str, Method]:
        """Map every name of METHODS to its method."""
        methods: tuple[Method, ...] = (
            self._live, self._ready, self._model_ready, self._metadata, self._model, self._infer,
            self._config, self._statistics, self._index, self._change, self._change,
        )  # fmt: skip
        return dict(zip(METHODS, methods, strict=True))

    async def _live(self, *_: object) -> bytes:
        return written(messages.ServerLiveResponse(live=True))

    async def _ready(self, *_: object) -> bytes:
        return written(messages.ServerReadyResponse(ready=self._readiness.trouble() is None))

    async def _model_ready(self, body: bytes, *_: object) -> bytes:
        request = v2_grpc.parse("ModelReadyRequest", body)
        v2_grpc.check_model(request.name, request.version, self.served)
        return written(messages.ModelReadyResponse(ready=self._readiness.trouble() is None))

    async def _metadata(self, *_: object) -> bytes:
        return written(messages.ServerMetadataResponse(name=SERVER, version=__version__, extensions=EXTENSIONS))

    async def _model(self, body: bytes, *_: object) -> bytes:
        request = v2_grpc.parse("ModelMetadataRequest", body)
        v2_grpc.check_model(request.name, request.version, self.served)
        tensor = messages.ModelMetadataResponse.TensorMetadata
        inputs, outputs = (
            [tensor(name=spec.name, datatype=spec.datatype, shape=spec.shape) for spec in specs]
            for specs in (inputs_of(self.served.rows), outputs_of(self.served))
        )
        return written(
            messages.ModelMetadataResponse(
                name=self.served.name,
                versions=[self.served.version],
                platform=self.served.platform,
                inputs=inputs,
                outputs=outputs,
            )
        )

    async def _config(self, body: bytes, *_: object) -> bytes:
        request = v2_grpc.parse("ModelConfigRequest", body)
        v2_grpc.check_model(request.name, request.version, self.served)
        return written(ParseDict({"config": self._triton.model_config()}, messages.ModelConfigResponse()))

    async def _statistics(self, body: bytes, *_: object) -> bytes:
        request = v2_grpc.parse("ModelStatisticsRequest", body)
        v2_grpc.check_model(request.name or self.served.name, request.version, self.served)
        return written(ParseDict(self._triton.statistics(), messages.ModelStatisticsResponse()))

    async def _index(self, body: bytes, *_: object) -> bytes:
        request = v2_grpc.parse("RepositoryIndexRequest", body)
        models = self._triton.index(ready=request.ready)
        return written(ParseDict({"models": models}, messages.RepositoryIndexResponse()))

    async def _change(self, *_: object) -> bytes:
        raise read_only()

    async def _infer(self, body: bytes, _: str, deadline: float, trailing: Metadata) -> bytes:
        predicted = await self._prediction.predict(
            partial(self._read, body),
            deadline=deadline,
            slow=len(body) > LARGE_MESSAGE or (self.served.rows.kind == "image" and b"BYTES" in body),
        )
        trailing += [(name.lower(), value) for name, value in predicted.headers.items()]
        return predicted.body

    def _read(self, body: bytes) -> Asked[bytes]:
        return asked(v2_grpc.decode(v2_grpc.parse("ModelInferRequest", body), self.served), v2_grpc.encode)
