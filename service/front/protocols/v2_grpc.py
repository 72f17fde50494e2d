"""The Open Inference Protocol v2 over gRPC: its messages are converted from and to the objects of the HTTP form."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from service.front.protocols import grpc_predict_v2_pb2 as messages
from service.front.protocols.problem import Problem, unprocessable
from service.front.protocols.v2 import Inference, interpret, max_inputs
from service.front.protocols.v2_outputs import Output
from service.front.protocols.v2_tensors import BYTES, DTYPES, Data, malformed, packed
from service.front.protocols.v2_wanted_outputs import ALL_BINARY
from service.messages.served_model import ServedModel

__all__ = ["check_model", "decode", "encode", "parse"]

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
    """Parse a message whose type is named ``kind``.

    Raises:
        Problem: 400, the bytes are no such message.
    """
    try:
        return getattr(messages, kind).FromString(body)
    except DecodeError:
        raise Problem(HTTPStatus.BAD_REQUEST, f"the bytes are no {kind}") from None


def check_model(name: str, version: str, served: ServedModel) -> None:
    """Check that a message names the served model.

    Raises:
        Problem: 404, the message names another model.
    """
    if name != served.name or version not in ("", served.version):
        raise Problem(HTTPStatus.NOT_FOUND, f"there is no such model here; there is {served.name} {served.version}")


def decode(request: Any, served: ServedModel) -> Inference:  # noqa: ANN401 - a message
    """Decode a ModelInferRequest into rows.

    Raises:
        Problem: 404, the request names another model; 400 and 422 as over HTTP.
    """
    check_model(request.model_name, request.model_version, served)
    raw = request.raw_input_contents
    if len(request.inputs) > max_inputs(served):  # an input takes two bytes on the wire, and two hundred in memory
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
    return interpret(document, served)


def _typed(tensor: Any, index: int) -> Data:  # noqa: ANN401 - a message
    """Read typed contents, which must be in the field of their datatype.

    Raises:
        Problem: 422, the contents are in another field.
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
    # NaN stands for a missing value, as null does in JSON. Integers stay a list: their range is checked as in JSON.
    return np.array(values, dtype=DTYPES[tensor.datatype]) if tensor.datatype.startswith("FP") else list(values)


def _parameters(parameters: Any) -> dict[str, Any]:  # noqa: ANN401 - a map of messages
    chosen = {name: (value, value.WhichOneof("parameter_choice")) for name, value in parameters.items()}
    return {name: getattr(value, choice) for name, (value, choice) in chosen.items() if choice is not None}


def encode(outputs: Sequence[Output], inference: Inference) -> bytes:
    """Encode a ModelInferResponse. All contents are raw if the request wants any output as binary data."""
    served = inference.served
    response = messages.ModelInferResponse(model_name=served.name, model_version=served.version, id=inference.id or "")
    for name, said in {"bundle": served.bundle, **inference.warnings}.items():
        response.parameters[name].string_param = said
    raw = any(inference.outputs.values())
    for output in outputs:
        one = response.outputs.add(name=output.name, datatype=output.datatype, shape=output.shape)
        for name, value in output.parameters.items():
            one.parameters[name].string_param = value
        if raw:
            response.raw_output_contents.append(packed(output.values))
        elif isinstance(output.values, list):
            one.contents.bytes_contents.extend(text.encode() for text in output.values)
        else:
            one.contents.fp32_contents.extend(output.values.ravel().tolist())
    written: bytes = response.SerializeToString()
    return written
