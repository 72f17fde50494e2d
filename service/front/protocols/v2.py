"""The Open Inference Protocol v2 over HTTP: JSON, optionally followed by tensors as binary data."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import numpy as np

from guards.actions import Action
from guards.input.cell_faults import describe
from service.front.protocols.pixels import odd_pixels, sentence
from service.front.protocols.problem import MAX_ERRORS, Problem, unprocessable
from service.front.protocols.strict_json import parsed
from service.front.protocols.top_k import TOP_K
from service.front.protocols.v1 import Errors, Request
from service.front.protocols.v2_answer_head import BINARY_SIZE, AnswerHead, write_head
from service.front.protocols.v2_outputs import Output, to_outputs
from service.front.protocols.v2_rows import to_rows
from service.front.protocols.v2_tensors import BYTES, DTYPES, Tensor, malformed, packed
from service.front.protocols.v2_wanted_outputs import (
    ALL_BINARY,
    DETAIL,
    chosen_top_k,
    not_boolean,
    parameters_of,
    read_outputs,
    too_large,
)  # fmt: skip
from service.messages.answer import Answer
from service.messages.served_model import ServedModel

__all__ = ["HEADER_LENGTH", "LENGTH", "Inference", "decode", "encode", "interpret", "max_inputs"]

HEADER_LENGTH = "Inference-Header-Content-Length"
KEYS = frozenset({"id", "model_name", "model_version", "parameters", "inputs", "outputs"})
TENSOR_KEYS = frozenset({"name", "datatype", "shape", "parameters", "data"})
LENGTH = re.compile(r"[0-9]{1,15}")
LARGEST_SIZE, LARGEST_RANK = 2**63 - 1, 32
"""The largest size and rank of a tensor's shape. Without a limit, multiplying the sizes could take hours."""


def max_inputs(served: ServedModel) -> int:
    """Return the most input tensors that are read: more than the model has names for, so that faults can be listed."""
    return len(served.rows.names) + len(served.groups) + MAX_ERRORS


@dataclass(slots=True, eq=False)
class Inference:
    """A decoded request: its rows, the client's id, and the wanted outputs by name, each true if wanted as binary data.

    ``top_k`` is how many labels of each row are wanted, the most probable first. None stands for all labels in the
    model's order. ``usual_pixels`` is true if the rows are known to have no unusual pixels. ``answer_head`` is the
    prepared head of the answer; None if none was prepared.
    """

    rows: Request
    id: str | None
    outputs: Mapping[str, bool]
    served: ServedModel
    top_k: int | None = None
    usual_pixels: bool = False
    answer_head: AnswerHead | None = None

    @property
    def warnings(self) -> Mapping[str, str]:
        """The answer's parameters about rows with unusual pixels; empty if there are no such rows."""
        odd = {} if self.usual_pixels else odd_pixels(self.rows.x, self.served.rows)
        return {"warnings": sentence(odd)} if odd else {}

    def tensors(self, answer: Answer) -> tuple[list[Output], Action]:
        """Return the wanted tensors of an answer, and the strictest action among the rows."""
        return to_outputs(list(self.outputs), answer, ids=self.rows.ids, served=self.served, top_k=self.top_k)


def decode(body: bytes, header_length: str | None, served: ServedModel) -> Inference:
    """Decode a body into rows; ``header_length`` is the value of :data:`HEADER_LENGTH`, None without that header.

    Raises:
        Problem: 400 if the framing or the JSON is malformed; 422 if the body cannot be decoded into rows, with every
            fault and its place.
        Refused: the JSON would take more memory than there is now.
    """
    length = len(body)
    if header_length is not None:
        length = int(header_length) if LENGTH.fullmatch(header_length) else -1
        if not 0 < length <= len(body):
            what = f"the header {HEADER_LENGTH} is the length of the JSON at the start of the body: 1 to {len(body)}"
            raise Problem(HTTPStatus.BAD_REQUEST, f"{what}, not {header_length[:40]!r}")
    text = body if length == len(body) else body[:length]
    with parsed(text) as document:
        if not isinstance(document, dict):
            raise unprocessable([((), f"expected an object with `inputs`, got {describe(document)}")])
        _attach(document, memoryview(body)[length:], framed=header_length is not None)
        return interpret(document, served)


def _attach(document: Mapping[str, Any], rest: memoryview, *, framed: bool) -> None:
    """Store in every input that is sent as binary data the input's part of the body, under `data`.

    Raises:
        Problem: 400, the sizes do not match the length of the binary data.
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


def interpret(document: Mapping[str, Any], served: ServedModel) -> Inference:
    """Decode a request object. Under `data` its inputs hold JSON lists, binary data or gRPC's typed contents.

    Raises:
        Problem: 422 with every fault and its place; 400 if the binary data disagree with their description.
    """
    errors: Errors = [((key[:40],), "unknown key") for key in document if key not in KEYS]
    name = document.get("id")
    if not isinstance(name, str | None):
        errors.append((("id",), f"expected a string, got {describe(name)}"))
    parameters = parameters_of(document, (), errors)
    chosen = {key: parameters[key] for key in (DETAIL, ALL_BINARY) if key in parameters}
    errors += not_boolean(chosen, ("parameters",))
    top_k = chosen_top_k(parameters, served.classes, errors)
    outputs = read_outputs(document.get("outputs"), chosen, top_k, served=served, errors=errors)
    inputs = document.get("inputs")
    if not isinstance(inputs, list) or not inputs:
        message = "missing" if "inputs" not in document else "expected a list of tensors"
        raise unprocessable([*errors, (("inputs",), message)])
    if len(inputs) > max_inputs(served):
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
        schema=served.rows,
        max_rows=served.server.max_rows_per_request,
        groups=served.groups,
        parameters=chosen,
        errors=errors,
    )
    if refused := too_large(len(rows.x), outputs, top_k, served.classes):
        raise unprocessable([(("parameters", TOP_K), refused)])
    return Inference(rows, name, outputs, served, top_k)


def _tensor(value: object, index: int, errors: Errors) -> Tensor | None:
    """Check the description of an input. If it has a fault, add the fault to ``errors`` and return None."""
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


def encode(outputs: Sequence[Output], inference: Inference) -> tuple[bytes, int | None]:
    """Encode an answer; also return the length of the JSON before the binary data, None without binary data."""
    served, request_id, warnings = inference.served, inference.id, inference.warnings
    prepared, wanted = inference.answer_head, inference.outputs
    if prepared is not None and not warnings and all(wanted.values()):
        parts = [packed(output.values) for output in outputs]
        head = prepared.write(outputs, [len(part) for part in parts], request_id=request_id, served=served)
        return b"".join([head, *parts]), len(head)
    contents = [packed(output.values) if wanted[output.name] else None for output in outputs]
    sizes = [None if content is None else len(content) for content in contents]
    head = write_head(outputs, sizes, request_id=request_id, warnings=warnings, served=served)
    parts = [content for content in contents if content is not None]
    return b"".join([head, *parts]), len(head) if parts else None
