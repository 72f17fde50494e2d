"""Describes the paths of explanations in the OpenAPI document."""

from collections.abc import Callable
from typing import Any

from guards.input.schema import InputSchema
from service.front.openapi.labels import label_schema
from service.messages.served_model import ServedModel

__all__ = ["explain_parameters", "explain_path", "explainers_path", "explanation_path"]

Schema = dict[str, Any]
Problems = Callable[..., Schema]
PICTURE: Schema = {"image/png": {"schema": {"type": "string", "contentMediaType": "image/png"}}}
DELTA = "sum of the contributions less the change from the baseline; null if they are not meant to add up"
LOCATION: Schema = {
    "Location": {"description": "the address at which the answer will stand", "schema": {"type": "string"}}
}


def explain_parameters(served: ServedModel) -> Schema:
    """Describe the parameters of a request for explanations."""
    explainers = served.explain.explainers
    stepped = [each.method for each in explainers if "steps" in each.parameters]
    guards = [f"guard:{guard.name}" for _, guard in served.visible_guards if not guard.remembers]
    parameters: Schema = {
        "method": {"type": "string", "enum": [each.method for each in explainers], "default": served.explain.method},
        "target": {
            **label_schema(served.classes, *guards),
            "description": "a label, by default the predicted one; or a guard, whose score is explained",
        },
        "steps": {"type": "integer", "minimum": 1, "description": f"gradient evaluations, of {', '.join(stepped)}"},
        "top_k": {
            "type": "integer",
            "minimum": 1,
            "description": "how many columns are listed, the largest first",
        },
    }
    if served.rows.kind != "tabular":
        del parameters["top_k"]
    if not served.classes and not guards:
        del parameters["target"]
    return parameters


def explain_path(served: ServedModel, post: Schema, problems: Problems) -> Schema:
    """Describe the path of ``:explain``; ``post`` describes a request with a v1 body."""
    most = served.explain.max_rows
    return {
        "post": {
            **post,
            "operationId": "explain",
            "summary": "Explain the model's answers to rows, or a guard's flags.",
            "description": f"Up to {most} rows. What an input contributed is of the model, and no statement about "
            "causes in the world or about discrimination. With `Prefer: respond-async` the answer comes later; with "
            "`Accept: image/png` one row is answered by a picture.",
            "parameters": [
                {"name": "Prefer", "in": "header", "schema": {"type": "string"}, "example": "respond-async"}
            ],
            "responses": {
                "200": {"description": "An explanation for each row, in order.", "content": _content(served)},
                "202": {
                    "description": "The answer will stand at the address in Location.",
                    "headers": LOCATION,
                    "content": {"application/json": {"schema": _waiting()}},
                },
                **problems(*("400", "405", "413", "415", "422", "429", "500", "503", "504")),
            },
        }
    }


def explanation_path(served: ServedModel, problems: Problems) -> Schema:
    """Describe the path at which the answer to an asynchronous request will be."""
    return {
        "get": {
            "operationId": "explanation",
            "summary": "The answer to an asynchronous request, as soon as it is made.",
            "parameters": [{"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}],
            "responses": {
                "200": {"description": "The answer.", "content": _content(served)},
                "202": {
                    "description": "The answer is not made yet.",
                    "content": {"application/json": {"schema": _waiting()}},
                },
                **problems(*("400", "404", "405", "422", "500", "503", "504")),
            },
        }
    }


def explainers_path(problems: Problems) -> Schema:
    """Describe the path that lists the methods."""
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


def _content(served: ServedModel) -> Schema:
    return {"application/json": {"schema": _answer(served)}, **PICTURE}


def _waiting() -> Schema:
    return _closed({"state": {"const": "waiting"}})


def _answer(served: ServedModel) -> Schema:
    number = {"type": ["number", "null"]}
    text = {"type": ["string", "null"]}
    shown = _attributions(served.rows)
    neighbour = {
        "type": "object",
        "properties": {
            "index": {"type": "integer", "minimum": 0, "description": "the row's index among the reference rows"},
            "label": {"type": ["string", "number", "null"]},
            "distance": {"type": "number", "minimum": 0},
            "row": {"description": "the row itself; only if the config allows it (`show_rows`)"},
        },
        "required": ["index", "label", "distance"],
        "additionalProperties": False,
    }
    explanation = _closed(
        {
            "id": {"type": "string"},
            "label": {**text, "description": "the label whose logit is explained"},
            "target": {**text, "description": "the target, as the request named it"},
            "method": {"type": "string", "description": "the method; `causes` if a guard's score has no gradient"},
            "attributions": {"anyOf": [shown, {"type": "null"}]},
            "baseline_value": number,
            "output_value": number,
            "convergence_delta": {**number, "description": DELTA},
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
