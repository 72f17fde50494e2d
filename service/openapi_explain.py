"""Explanations, as the OpenAPI document describes them."""

from collections.abc import Callable
from typing import Any

from guards.explanation import fitting
from guards.schema import InputSchema
from service.openapi_labels import label_schema
from service.settings import Deployment

__all__ = ["explain_parameters", "explain_path", "explainers_path", "explanation_path"]

Schema = dict[str, Any]
Problems = Callable[..., Schema]
PICTURE: Schema = {"image/png": {"schema": {"type": "string", "contentMediaType": "image/png"}}}
LOCATION: Schema = {"Location": {"description": "where the answer will be", "schema": {"type": "string"}}}


def explain_parameters(deployment: Deployment) -> Schema:
    """Describe what a request may ask for."""
    config = deployment.config
    section = config.explain
    allowed = fitting(config, deployment.schema)
    stepped = [name for name, params in allowed.items() if "steps" in type(params).model_fields]
    guards = [f"guard:{guard.name}" for guard in config.guards if guard.visible]
    parameters: Schema = {
        "method": {"type": "string", "enum": list(allowed), "default": section.method},
        "target": {
            **label_schema(deployment.classes, *guards),
            "description": "a label, by default the predicted one; or a guard, whose score is explained",
        },
        "steps": {"type": "integer", "minimum": 1, "description": f"gradient evaluations, of {', '.join(stepped)}"},
        "top_k": {"type": "integer", "minimum": 1, "description": "how many columns, the largest first"},
    }
    if deployment.schema.kind != "tabular":
        del parameters["top_k"]
    if not deployment.classes and not guards:
        del parameters["target"]
    return parameters


def explain_path(deployment: Deployment, post: Schema, problems: Problems) -> Schema:
    """Describe the path; ``post`` is that of a v1 body."""
    most = deployment.config.explain.max_rows
    return {
        "post": {
            **post,
            "operationId": "explain",
            "summary": "Say what made the model answer rows as it did, or a guard flag them.",
            "description": f"Up to {most} rows. What an input contributed is of the model, and no statement about "
            "causes in the world or about discrimination. With `Prefer: respond-async` the answer comes later; with "
            "`Accept: image/png` one row is answered by a picture.",
            "parameters": [
                {"name": "Prefer", "in": "header", "schema": {"type": "string"}, "example": "respond-async"}
            ],
            "responses": {
                "200": {"description": "An explanation for each row, in order.", "content": _content(deployment)},
                "202": {
                    "description": "The answer will be at Location.",
                    "headers": LOCATION,
                    "content": {"application/json": {"schema": _waiting()}},
                },
                **problems(*("400", "405", "413", "415", "422", "429", "500", "503", "504")),
            },
        }
    }


def explanation_path(deployment: Deployment, problems: Problems) -> Schema:
    """Describe where answers are that come later."""
    return {
        "get": {
            "operationId": "explanation",
            "summary": "The answer to an asynchronous request, once it is there.",
            "parameters": [{"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}],
            "responses": {
                "200": {"description": "The answer.", "content": _content(deployment)},
                "202": {"description": "Not yet.", "content": {"application/json": {"schema": _waiting()}}},
                **problems(*("400", "404", "405", "422", "500", "503", "504")),
            },
        }
    }


def explainers_path(problems: Problems) -> Schema:
    """Describe the list of methods."""
    parameter = {"type": "object", "properties": {"value": {}, "description": {"type": "string"}}}
    explainer = _closed(
        {
            "method": {"type": "string"},
            "default": {"type": "boolean"},
            "parameters": {"type": "object", "additionalProperties": parameter},
        }
    )
    answer = _closed({"explainers": {"type": "array", "items": explainer}})
    return {
        "get": {
            "operationId": "explainers",
            "summary": "The methods that a request may choose, and their parameters.",
            "responses": {
                "200": {"description": "The methods.", "content": {"application/json": {"schema": answer}}},
                **problems(*("400", "405", "500", "504")),
            },
        }
    }


def _content(deployment: Deployment) -> Schema:
    return {"application/json": {"schema": _answer(deployment)}, **PICTURE}


def _waiting() -> Schema:
    return _closed({"state": {"const": "waiting"}})


def _answer(deployment: Deployment) -> Schema:
    number = {"type": ["number", "null"]}
    text = {"type": ["string", "null"]}
    shown = _attributions(deployment.schema)
    neighbour = {
        "type": "object",
        "properties": {
            "index": {"type": "integer", "minimum": 0, "description": "among the reference rows"},
            "label": {"type": ["string", "number", "null"]},
            "distance": {"type": "number", "minimum": 0},
            "row": {"description": "only where the config shows rows"},
        },
        "required": ["index", "label", "distance"],
        "additionalProperties": False,
    }
    explanation = _closed(
        {
            "id": {"type": "string"},
            "label": {**text, "description": "whose logit is explained"},
            "target": {**text, "description": "as it was asked for"},
            "method": {"type": "string", "description": "`causes` where a guard's score has no gradient"},
            "attributions": {"anyOf": [shown, {"type": "null"}]},
            "baseline_value": number,
            "output_value": number,
            "convergence_delta": {**number, "description": "null where contributions are not meant to add up"},
            "neighbours": {"type": "array", "items": neighbour},
            "causes": {"type": "array", "items": {"type": "string"}},
        }
    )
    return _closed({"explanations": {"type": "array", "items": explanation}})


def _attributions(schema: InputSchema) -> Schema:
    if schema.kind == "tabular":
        columns = {name: {"type": "number"} for name in schema.names}
        return {"type": "object", "properties": columns, "additionalProperties": False}
    nested: Schema = {"type": "number"}
    for size in reversed(schema.shape):
        nested = {"type": "array", "items": nested, "minItems": size, "maxItems": size}
    return nested


def _closed(properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
