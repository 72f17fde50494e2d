"""The Open Inference Protocol v2 over HTTP: JSON, and tensors as binary data behind it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import numpy as np
import orjson

from guards.config import Config
from guards.faults import describe
from guards.schema import InputSchema
from service.protocols.outputs import Output
from service.protocols.pixels import odd_pixels, sentence
from service.protocols.problem import MAX_ERRORS, Problem, unprocessable
from service.protocols.rows import to_rows
from service.protocols.strict_json import loads
from service.protocols.tensors import BYTES, DTYPES, Tensor, malformed, pack_strings
from service.protocols.top_k import TOP_K
from service.protocols.v1 import Errors, Request
from service.protocols.v2_outputs import (
    ALL_BINARY,
    DETAIL,
    chosen_top_k,
    not_boolean,
    parameters_of,
    read_outputs,
    too_large,
)  # fmt: skip

__all__ = ["HEADER_LENGTH", "LENGTH", "Inference", "Scope", "decode", "encode", "interpret"]

HEADER_LENGTH = "Inference-Header-Content-Length"
BINARY_SIZE = "binary_data_size"
KEYS = frozenset({"id", "model_name", "model_version", "parameters", "inputs", "outputs"})
TENSOR_KEYS = frozenset({"name", "datatype", "shape", "parameters", "data"})
LENGTH = re.compile(r"[0-9]{1,15}")
LARGEST_SIZE, LARGEST_RANK = 2**63 - 1, 32
"""Of a tensor's shape; without a bound the product of its sizes could take hours."""


@dataclass(frozen=True, slots=True, eq=False)
class Scope:
    """What a request is read against: the model and the declared group attributes."""

    config: Config
    schema: InputSchema
    classes: tuple[str, ...]
    groups: Sequence[str]

    @property
    def max_rows(self) -> int:
        """The most rows of one request."""
        return self.config.server.max_rows_per_request

    @property
    def max_inputs(self) -> int:
        """The most tensors that are looked at: a few more than there are names for, so as to tell what is wrong."""
        return len(self.schema.names) + len(self.groups) + MAX_ERRORS


@dataclass(frozen=True, slots=True, eq=False)
class Inference:
    """A request: its rows, the client's own name for it, and which outputs it wants, each as binary data or not.

    ``top_k`` is how many labels of each row are wanted, the most probable first; None: all, in the model's order.
    """

    rows: Request
    id: str | None
    outputs: Mapping[str, bool]
    schema: InputSchema
    top_k: int | None = None

    @property
    def warnings(self) -> Mapping[str, str]:
        """What the answer's parameters say of odd rows."""
        odd = odd_pixels(self.rows.x, self.schema)
        return {"warnings": sentence(odd)} if odd else {}


def decode(body: bytes, header_length: str | None, scope: Scope) -> Inference:
    """Turn a body into rows; ``header_length`` is the header of that name, where there is one.

    Raises:
        Problem: 400 where the framing or the JSON is malformed, 422 where no tensor can be made of it, with every
            fault and its place.
    """
    length = len(body)
    if header_length is not None:
        length = int(header_length) if LENGTH.fullmatch(header_length) else -1
        if not 0 < length <= len(body):
            what = f"the header {HEADER_LENGTH} is the length of the JSON at the start of the body: 1 to {len(body)}"
            raise Problem(HTTPStatus.BAD_REQUEST, f"{what}, not {header_length[:40]!r}")
    document = loads(body if length == len(body) else body[:length])
    if not isinstance(document, dict):
        raise unprocessable([((), f"expected an object with `inputs`, got {describe(document)}")])
    _attach(document, memoryview(body)[length:], framed=header_length is not None)
    return interpret(document, scope)


def _attach(document: Mapping[str, Any], rest: memoryview, *, framed: bool) -> None:
    """Give every input that is sent as binary data its part of the body.

    Raises:
        Problem: 400, the sizes do not add up.
    """
    inputs = document.get("inputs")
    start = 0
    for index, tensor in enumerate(inputs if isinstance(inputs, list) else []):
        parameters = tensor.get("parameters") if isinstance(tensor, dict) else None
        if not isinstance(parameters, dict) or BINARY_SIZE not in parameters:
            continue
        place, size = ("inputs", index, "parameters", BINARY_SIZE), parameters[BINARY_SIZE]
        if not framed:
            raise malformed(f"binary data need the header {HEADER_LENGTH}", place)
        if "data" in tensor:
            raise malformed("the tensor has `data` in the JSON too", place)
        if type(size) is not int or not 0 <= size <= len(rest) - start:
            raise malformed(f"{describe(size)}, where {len(rest) - start} bytes are left", place)
        tensor["data"] = rest[start : start + size]
        start += size
    if start != len(rest):
        raise malformed(f"{len(rest) - start} bytes are left behind the last tensor", ("inputs",))


def interpret(document: Mapping[str, Any], scope: Scope) -> Inference:
    """Read a request object, whose inputs hold JSON, binary data or typed contents under `data`.

    Raises:
        Problem: 422 with every fault and its place, or 400 for binary data that are not what its head says.
    """
    errors: Errors = [((key[:40],), "unknown key") for key in document if key not in KEYS]
    name = document.get("id")
    if not isinstance(name, str | None):
        errors.append((("id",), f"expected a string, got {describe(name)}"))
    parameters = parameters_of(document, (), errors)
    chosen = {key: parameters[key] for key in (DETAIL, ALL_BINARY) if key in parameters}
    errors += not_boolean(chosen, ("parameters",))
    top_k = chosen_top_k(parameters, scope.classes, errors)
    outputs = read_outputs(
        document.get("outputs"), chosen, top_k, classes=scope.classes, config=scope.config, errors=errors
    )
    inputs = document.get("inputs")
    if not isinstance(inputs, list) or not inputs:
        message = "missing" if "inputs" not in document else "expected a list of tensors"
        raise unprocessable([*errors, (("inputs",), message)])
    if len(inputs) > scope.max_inputs:
        raise unprocessable([*errors, (("inputs",), f"{len(inputs)} tensors are more than the model has names for")])
    tensors = [_tensor(value, index, errors) for index, value in enumerate(inputs)]
    sound = [tensor for tensor in tensors if tensor is not None]
    seen: set[str] = set()
    for tensor in sound:
        if tensor.name in seen:
            errors.append(((*tensor.place, "name"), f"{tensor.name[:40]!r} is given twice"))
        seen.add(tensor.name)
    for tensor in sound:
        tensor.check_size()
    rows = to_rows(
        sound,
        schema=scope.schema,
        max_rows=scope.max_rows,
        groups=scope.groups,
        parameters=chosen,
        errors=errors,
    )
    if refused := too_large(len(rows.x), outputs, top_k, scope.classes):
        raise unprocessable([(("parameters", TOP_K), refused)])
    return Inference(rows, name, outputs, scope.schema, top_k)


def _tensor(value: object, index: int, errors: Errors) -> Tensor | None:
    """Check the head of an input; None where it is unsound."""
    place = ("inputs", index)
    if not isinstance(value, dict):
        errors.append((place, f"expected an object, got {describe(value)}"))
        return None
    before = len(errors)
    errors += [((*place, key[:40]), "unknown key") for key in value if key not in TENSOR_KEYS]
    parameters_of(value, place, errors)
    name, datatype, shape, data = (value.get(key) for key in ("name", "datatype", "shape", "data"))
    if not isinstance(name, str):
        errors.append(((*place, "name"), f"expected a string, got {describe(name)}"))
    if not isinstance(datatype, str) or (datatype not in DTYPES and datatype != BYTES):
        errors.append(((*place, "datatype"), f"expected one of {', '.join(DTYPES)}, {BYTES}, got {describe(datatype)}"))
    sizes = shape if isinstance(shape, list) and len(shape) <= LARGEST_RANK else [None]
    if not all(type(size) is int and 0 <= size <= LARGEST_SIZE for size in sizes):
        errors.append(((*place, "shape"), f"expected a list of up to {LARGEST_RANK} sizes"))
    if not isinstance(data, list | memoryview | np.ndarray):
        message = f"expected a list of values, got {describe(data)}" if "data" in value else "missing"
        errors.append(((*place, "data"), message))
    if len(errors) > before:
        return None
    return Tensor(place, str(name), str(datatype), tuple(shape or ()), data)  # type: ignore[arg-type]


def encode(outputs: Sequence[Output], inference: Inference, config: Config, bundle: str) -> tuple[bytes, int | None]:
    """Write the answer; with binary data, also tell the length of the JSON before it."""
    described: list[dict[str, Any]] = []
    parts: list[bytes] = []
    for output in outputs:
        parameters: dict[str, Any] = dict(output.parameters)
        one = {"name": output.name, "datatype": output.datatype, "shape": output.shape, "parameters": parameters}
        if inference.outputs[output.name]:
            parts.append(pack_strings(output.values) if isinstance(output.values, list) else output.values.tobytes())
            parameters[BINARY_SIZE] = len(parts[-1])
        else:
            one["data"] = output.values if isinstance(output.values, list) else output.values.ravel().tolist()
        if not parameters:
            del one["parameters"]
        described.append(one)
    document: dict[str, Any] = {"model_name": config.name, "model_version": config.version}
    if inference.id is not None:
        document["id"] = inference.id
    head = orjson.dumps({**document, "parameters": {"bundle": bundle, **inference.warnings}, "outputs": described})
    return b"".join([head, *parts]), len(head) if parts else None
