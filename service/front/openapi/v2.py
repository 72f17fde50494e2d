"""Describes the paths of the Open Inference Protocol v2 in the OpenAPI document."""

from collections.abc import Callable, Sequence
from typing import Any

from guards.input.schema import InputSchema
from service.front.http import JSON, OCTETS
from service.front.openapi.labels import top_k_parameter
from service.front.protocols.top_k import ALL
from service.front.protocols.v2 import HEADER_LENGTH
from service.front.protocols.v2_outputs import TensorSpec, alternatives_of, inputs_of, outputs_of, top_k_outputs_of
from service.front.protocols.v2_rows import GROUP, ID, IMAGE_TYPES, MATRIX, NUMERIC_TYPES
from service.front.protocols.v2_tensors import BYTES
from service.messages.served_model import ServedModel

__all__ = ["inference_paths"]

Schema = dict[str, Any]
PROBLEM = "InferenceProblem"
OPEN: Schema = {"type": ["object", "null"]}
TEXT: Schema = {"type": "string"}
SIZES: Schema = {"type": "array", "items": {"type": "integer"}}
INFER = f"""Judge and predict rows, by the Open Inference Protocol v2. Tensors may be sent and answered as binary data
behind the JSON, whose length is then in the header {HEADER_LENGTH}."""


def inference_paths(served: ServedModel, groups: Sequence[str], problems: Callable[..., Schema]) -> Schema:
    """Describe the protocol's paths; ``problems`` describes the error answers."""
    schema, classes = served.rows, served.classes
    inputs, outputs = inputs_of(schema), outputs_of(served)
    outputs += [spec for spec in top_k_outputs_of(classes) if spec.name not in {output.name for output in outputs}]
    live, ready = (_object({name: {"type": "boolean"}}, more=True) for name in ("live", "ready"))

    def get(summary: str, answer: Schema, *, busy: bool = False) -> Schema:
        codes = ["405", "500", "504", *(["503"] if busy else [])]
        return {"get": _operation(summary, {JSON: {"schema": answer}}, problems(*codes, document=PROBLEM))}

    answers = {JSON: {"schema": _response(outputs)}, OCTETS: {}}
    infer = _operation(" ".join(INFER.split()), answers, problems(document=PROBLEM))
    body = _request(schema, inputs, [spec.name for spec in outputs], groups, top_k_parameter(classes, ALL))
    infer["requestBody"] = {"required": True, "content": {JSON: {"schema": body}, OCTETS: {}}}
    paths: Schema = {
        "/v2": get("The server and the protocol's extensions that it has.", _server()),
        "/v2/health/live": get("200 while the process answers.", live),
        "/v2/health/ready": get("200 once the model is loaded and its self-test passed.", ready, busy=True),
    }
    model = f"/v2/models/{served.name}"
    for path in (model, f"{model}/versions/{served.version}"):
        paths[path] = get("The model's tensors.", _model())
        paths[f"{path}/ready"] = get("Whether the model is ready.", ready, busy=True)
        paths[f"{path}/infer"] = {"post": dict(infer)}
        paths[f"{path}/config"] = get("The model's config, as Triton's clients know it.", {"type": "object"})
        paths[f"{path}/stats"] = get("Counts and durations since the process began.", {"type": "object"})
    paths["/v2/models/stats"] = get("The same, of all models.", {"type": "object"})
    paths["/v2/repository/index"] = {"post": _repository_index(problems)}
    for path, methods in paths.items():
        for operation in methods.values():
            operation["operationId"] = path.strip("/").replace("/", "_")
    return paths


def _repository_index(problems: Callable[..., Schema]) -> Schema:
    summary = "The models of this server, and whether each is ready."
    model = _object(dict.fromkeys(("name", "version", "state", "reason"), TEXT))
    answer = {JSON: {"schema": {"type": "array", "items": model}}}
    ready = {"ready": {"type": "boolean", "description": "true: only ready models"}}
    asked = _object(ready, optional=["ready"], more=True)  # Triton's clients may send more
    body = {"required": False, "content": {JSON: {"schema": asked}}}
    return {**_operation(summary, answer, problems(document=PROBLEM)), "requestBody": body}


def _operation(summary: str, answers: Schema, problems: Schema) -> Schema:
    return {"summary": summary, "responses": {"200": {"description": summary, "content": answers}, **problems}}


def _object(properties: Schema, *, more: bool = False, optional: Sequence[str] = ()) -> Schema:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": more}


def _server() -> Schema:
    return _object({"name": TEXT, "version": TEXT, "extensions": {"type": "array", "items": TEXT}})


def _model() -> Schema:
    tensor = _object(
        {"name": TEXT, "datatype": TEXT, "shape": SIZES, "parameters": {"type": "object"}}, optional=["parameters"]
    )
    tensors: Schema = {"type": "array", "items": tensor}
    versions = {"type": "array", "items": TEXT}
    instead: Schema = {
        "type": "array",
        "items": tensors,
        "description": "tensors that may replace all `inputs`",
    }
    beside = {**tensors, "description": "tensors that may be sent beside the rows"}
    chosen = {**tensors, "description": "tensors of the answer if a request has the parameter `top_k`"}
    parameters = _object({"alternatives": instead, "optional": beside, "top_k": chosen}, more=True)
    described = {"name": TEXT, "versions": versions, "platform": TEXT, "inputs": tensors, "outputs": tensors}
    return _object({**described, "parameters": parameters})


def _request(
    schema: InputSchema, inputs: Sequence[TensorSpec], outputs: Sequence[str], groups: Sequence[str], top_k: Schema
) -> Schema:
    numeric = IMAGE_TYPES if schema.kind == "image" else NUMERIC_TYPES
    each = [_input(spec.name, [BYTES] if spec.datatype == BYTES else numeric, len(spec.shape)) for spec in inputs]
    if schema.kind == "image":
        each.append(_input(MATRIX, [BYTES], 1))  # one file for each row
    if schema.kind == "tabular" and alternatives_of(schema):
        # A table may be sent as one matrix of all columns, with each category as its index.
        each.append(_input(MATRIX, numeric, 2))
    each += [_input(name, [BYTES], 1) for name in [ID, *(GROUP + group for group in groups)]]
    wanted = _object({"name": {"type": "string", "enum": list(outputs)}, "parameters": OPEN}, optional=["parameters"])
    properties: Schema = {
        "inputs": {"type": "array", "items": {"anyOf": each}, "minItems": 1},
        "outputs": {"type": ["array", "null"], "items": wanted},
        "id": {"type": ["string", "null"], "description": "the client's own name for the request"},
        "parameters": {
            "type": ["object", "null"],
            "properties": {
                "detail": {"type": "boolean", "description": "every visible guard's p-value, too"},
                "binary_data_output": {"type": "boolean", "description": "answer tensors as binary data"},
                **top_k,
            },
        },
        "model_name": {},
        "model_version": {},
    }
    return _object(properties, optional=[name for name in properties if name != "inputs"])


def _input(name: str, datatypes: Sequence[str], rank: int) -> Schema:
    properties: Schema = {
        "name": {"const": name},
        "datatype": {"enum": list(datatypes)},
        "shape": {**SIZES, "minItems": rank, "maxItems": max(rank, 2)},
        "data": {"type": "array", "description": "nested in the shape, or flat; null is a missing value"},
        "parameters": OPEN,
    }
    return _object(properties, optional=["data", "parameters"])


def _response(outputs: Sequence[TensorSpec]) -> Schema:
    each = [
        _object(
            {
                "name": {"const": spec.name},
                "datatype": {"const": spec.datatype},
                "shape": {**SIZES, "minItems": len(spec.shape), "maxItems": len(spec.shape)},
                "data": {
                    "type": "array",
                    "items": TEXT if spec.datatype == BYTES else {"type": ["number", "null"]},
                    "description": "flat list; a row without an answer has nulls, or an empty label",
                },
                "parameters": {"type": "object"},
            },
            optional=["data", "parameters"],
        )
        for spec in outputs
    ]
    properties: Schema = {
        "model_name": TEXT,
        "model_version": TEXT,
        "id": TEXT,
        "parameters": {"type": "object"},
        "outputs": {"type": "array", "items": {"anyOf": each}},
    }
    return _object(properties, optional=["id"])
