"""The Open Inference Protocol v2 over gRPC: its messages as the request object that HTTP has as JSON, and back."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from guards.config import Config
from service.protocols import grpc_predict_v2_pb2 as messages
from service.protocols.outputs import Output
from service.protocols.problem import Problem, unprocessable
from service.protocols.tensors import BYTES, DTYPES, Data, malformed, pack_strings
from service.protocols.v2 import Inference, Scope, interpret
from service.protocols.v2_outputs import ALL_BINARY

__all__ = ["decode", "encode", "known", "parse"]

CONTENTS: Mapping[str, str] = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    BYTES: "bytes_contents",
}


def parse(kind: str, body: bytes) -> Any:  # noqa: ANN401 - a message
    """Parse a message of a kind.

    Raises:
        Problem: 400, it is none.
    """
    try:
        return getattr(messages, kind).FromString(body)
    except DecodeError:
        raise Problem(HTTPStatus.BAD_REQUEST, f"the bytes are no {kind}") from None


def known(name: str, version: str, config: Config) -> None:
    """Check that a model is the one that is served.

    Raises:
        Problem: 404.
    """
    if name != config.name or version not in ("", config.version):
        raise Problem(HTTPStatus.NOT_FOUND, f"there is no such model here; there is {config.name} {config.version}")


def decode(request: Any, scope: Scope) -> Inference:  # noqa: ANN401 - a message
    """Turn a ModelInferRequest into rows.

    Raises:
        Problem: 404 for another model, 400 and 422 as over HTTP.
    """
    known(request.model_name, request.model_version, scope.config)
    raw = request.raw_input_contents
    if len(request.inputs) > scope.max_inputs:  # an input is two bytes, and a hundred times as many once it is read
        message = f"{len(request.inputs)} tensors are more than the model has names for"
        raise unprocessable([(("inputs",), message)])
    if raw and len(raw) != len(request.inputs):
        raise malformed(f"{len(raw)} raw contents for {len(request.inputs)} inputs", ("raw_input_contents",))
    inputs = []
    for index, tensor in enumerate(request.inputs):
        if raw and tensor.HasField("contents"):
            raise malformed("the tensor has typed contents and raw ones", ("inputs", index, "contents"))
        data = memoryview(raw[index]) if raw else _typed(tensor, index)
        inputs.append({"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape), "data": data})
    parameters = _parameters(request.parameters)
    document = {
        "parameters": {ALL_BINARY: bool(raw), **parameters},
        "inputs": inputs,
        "outputs": [{"name": one.name, "parameters": _parameters(one.parameters)} for one in request.outputs],
        **({"id": request.id} if request.id else {}),
    }
    return interpret(document, scope)


def _typed(tensor: Any, index: int) -> Data:  # noqa: ANN401 - a message
    """Take typed contents, which must be of the datatype's own field.

    Raises:
        Problem: 422.
    """
    wanted = CONTENTS.get(tensor.datatype)
    strange = [field.name for field, _ in tensor.contents.ListFields() if field.name != wanted]
    if strange:
        message = (
            f"{tensor.datatype[:40]} has its contents in {wanted or 'raw_input_contents'}, not in {', '.join(strange)}"
        )
        raise unprocessable([(("inputs", index, "contents"), message)])
    if wanted is None:
        return []
    values = getattr(tensor.contents, wanted)[:]
    # A NaN is a missing value here, where JSON has null; integers are checked for their range as those of JSON are.
    return np.array(values, dtype=DTYPES[tensor.datatype]) if tensor.datatype.startswith("FP") else list(values)


def _parameters(parameters: Any) -> dict[str, Any]:  # noqa: ANN401 - a map of messages
    chosen = {name: (value, value.WhichOneof("parameter_choice")) for name, value in parameters.items()}
    return {name: getattr(value, choice) for name, (value, choice) in chosen.items() if choice is not None}


def encode(outputs: Sequence[Output], inference: Inference, config: Config, bundle: str) -> bytes:
    """Write a ModelInferResponse; its contents are raw where the request's were, or where it asks for it."""
    response = messages.ModelInferResponse(model_name=config.name, model_version=config.version, id=inference.id or "")
    for name, said in {"bundle": bundle, **inference.warnings}.items():
        response.parameters[name].string_param = said
    raw = any(inference.outputs.values())
    for output in outputs:
        one = response.outputs.add(name=output.name, datatype=output.datatype, shape=output.shape)
        for name, value in output.parameters.items():
            one.parameters[name].string_param = value
        if raw:
            packed = pack_strings(output.values) if isinstance(output.values, list) else output.values.tobytes()
            response.raw_output_contents.append(packed)
        elif isinstance(output.values, list):
            one.contents.bytes_contents.extend(text.encode() for text in output.values)
        else:
            one.contents.fp32_contents.extend(output.values.ravel().tolist())
    written: bytes = response.SerializeToString()
    return written
