"""Makes the OpenAPI 3.1 document of the HTTP interface from the served model's schema, and a page for people."""

import html
from collections.abc import Container, Mapping
from typing import Any

import orjson

from guards.input.column import Column
from guards.input.schema import InputSchema
from guards.version import __version__
from service.front.openapi.explanations import explain_parameters, explain_path, explainers_path, explanation_path
from service.front.openapi.feedback import feedback_path
from service.front.openapi.keys import with_keys
from service.front.openapi.labels import label_schemas, top_k_parameter
from service.front.openapi.monitors import changes_paths, monitors_path
from service.front.openapi.predictions import predictions_schema
from service.front.openapi.v2 import inference_paths
from service.front.protocols.problem import InferenceProblemDocument, ProblemDocument
from service.front.protocols.top_k import ALL, SHOWN
from service.front.protocols.v1 import MAX_ID
from service.messages.served_model import ServedModel

__all__ = ["OPENAPI", "PAGES", "pages"]

Schema = dict[str, Any]
OPENAPI, DOCS = "/openapi.json", "/docs"
PAGES = (OPENAPI, DOCS)
"""The paths at which the results of :func:`pages` are served."""
PROBLEMS = {
    "400": "Not JSON, not UTF-8, a key given twice, nested too deep, or a deadline that is no number.",
    "401": "No key, or a key that is not known.",
    "403": "The key has no scope for this.",
    "405": "Another method than the path takes.",
    "404": "There is nothing of that id, or it is no longer kept.",
    "413": "The body is over the limit.",
    "415": "Not JSON, or a content encoding.",
    "422": "Well-formed, but no rows can be made of it; every fault is listed with its place.",
    "429": "This client asked too often; Retry-After says when to come again.",
    "500": "A fault of the server's.",
    "503": "Loading, draining, or too busy; Retry-After says when to come again.",
    "504": "The request's deadline passed.",
}
USUAL = ("400", "405", "413", "415", "422", "500", "503", "504")


def pages(served: ServedModel, *, keyless: Container[str] | None = None) -> Mapping[str, tuple[bytes, str]]:
    """Make ``/openapi.json`` and ``/docs``; gives content and media type by path.

    ``keyless`` are the paths that need no key; None if the server asks for no keys.
    """
    document = _document(served)
    if keyless is not None:
        document = with_keys(document, keyless, _problems)
    return {
        OPENAPI: (orjson.dumps(document), "application/json"),
        DOCS: (_page(document).encode(), "text/html; charset=utf-8"),
    }


def _document(served: ServedModel) -> Schema:
    model = f"/v1/models/{served.name}"
    problem = ProblemDocument.model_json_schema(ref_template="#/components/schemas/{model}")
    definitions = problem.pop("$defs")
    inference_problem = InferenceProblemDocument.model_json_schema(ref_template="#/components/schemas/{model}")
    definitions |= inference_problem.pop("$defs")
    groups = sorted(served.groups)
    instance = _instance(served.rows)
    detail = {"detail": {"type": "boolean", "default": False, "description": "every visible guard's p-value"}}
    asked = explain_parameters(served)
    labels = served.classes
    asked_to_predict = detail | top_k_parameter(labels, SHOWN if len(labels) > SHOWN else ALL)
    predict = _post("Judge and predict rows.", _request(instance, groups, asked_to_predict), predictions_schema(served))
    scrape = _get("metrics", "Metrics for Prometheus.", media="text/plain")
    metrics = {"/metrics": scrape} if served.server.metrics_port is None else {}  # otherwise they have another port
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"Guardhouse: {served.name}",
            "version": served.version,
            "description": "Predictions, each with the verdict of its guards.",
        },
        "paths": {
            f"{model}:predict": {"post": {**predict, "operationId": "predict"}},
            "/predict": {"post": {**predict, "operationId": "bentoml_predict"}},
            f"{model}:explain": explain_path(served, _post("", _request(instance, groups, asked), {}), _problems),
            f"{model}/explainers": explainers_path(_problems),
            "/v1/explanations/{id}": explanation_path(served, _problems),
            f"{model}:feedback": feedback_path(served.classes, _problems),
            f"{model}/monitors": monitors_path(_problems),
            **changes_paths(f"{model}/monitors", served.monitors, _problems),
            model: _get("model", "Whether the model is ready.", busy=True),
            "/v1/models": _get("models", "The models of this server."),
            "/readyz": _get("readyz", "200 once the model is loaded and its self-test passed.", busy=True),
            "/livez": _get("livez", "200 while the process answers."),
            "/healthz": _get("healthz", "The same as /livez."),
            **metrics,
            "/openapi.json": _get("openapi", "This document."),
            "/docs": _get("docs", "This document, for people.", media="text/html"),
            **inference_paths(served, groups, _problems),
        },
        "components": {
            "schemas": {
                "Problem": problem,
                "InferenceProblem": inference_problem,
                **definitions,
                **label_schemas(labels),
            }
        },
        "x-guardhouse-version": __version__,
    }


def _instance(schema: InputSchema) -> Schema:
    if schema.kind != "tabular":
        nested: Schema = {"type": "number"}
        for size in reversed(schema.shape):
            nested = {"type": "array", "items": nested, "minItems": size, "maxItems": size}
        encoded = {
            "type": "object",
            "properties": {"b64": {"type": "string", "contentEncoding": "base64", "description": "a PNG or JPEG"}},
            "required": ["b64"],
            "additionalProperties": False,
        }
        return {"anyOf": [nested, encoded]} if schema.kind == "image" else nested
    columns = {column.name: _value(column) for column in schema.columns}
    named = {"type": "object", "properties": columns, "required": list(columns), "additionalProperties": False}
    ordered = {
        "type": "array",
        "prefixItems": list(columns.values()),
        "minItems": len(columns),
        "maxItems": len(columns),
    }
    return {"anyOf": [named, ordered]}


def _value(column: Column) -> Schema:
    if column.kind == "numeric":
        return {"type": ["number", "null"]}
    categories: Schema = {
        "type": ["string", *(["boolean"] if column.is_boolean else []), "null"],
        "examples": list(column.categories or ())[:3],
    }
    numbers = column.numbers_taken
    return {"anyOf": [categories, {"type": "number", "enum": numbers}]} if numbers else categories


def _request(instance: Schema, groups: list[str], parameters: Schema) -> Schema:
    each: Schema = {"type": "array", "items": {"type": ["string", "null"]}, "minItems": 1}
    return {
        "type": "object",
        "properties": {
            "instances": {"type": "array", "items": instance, "minItems": 1},
            "ids": {
                "type": ["array", "null"],
                "items": {"type": "string", "minLength": 1, "maxLength": MAX_ID},
                "minItems": 1,
                "uniqueItems": True,
                "description": "one for each instance",
            },
            "groups": {
                "type": ["object", "null"],
                "properties": dict.fromkeys(groups, each),
                "additionalProperties": False,
            },
            "parameters": {"type": ["object", "null"], "properties": parameters, "additionalProperties": False},
        },
        "required": ["instances"],
        "additionalProperties": False,
    }


def _post(summary: str, body: Schema, answer: Schema) -> Schema:
    return {
        "summary": summary,
        "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
        "responses": {
            "200": {
                "description": "An answer for each row, in order.",
                "content": {"application/json": {"schema": answer}},
            },
            **_problems(),
        },
    }


def _get(name: str, summary: str, *, media: str = "application/json", busy: bool = False) -> Schema:
    codes = ["400", "405", "500", *(["503"] if busy else []), "504"]
    return {
        "get": {
            "operationId": name,
            "summary": summary,
            "responses": {"200": {"description": summary, "content": {media: {}}}, **_problems(*codes)},
        }
    }


def _problems(*codes: str, document: str = "Problem") -> Schema:
    content = {"application/problem+json": {"schema": {"$ref": f"#/components/schemas/{document}"}}}
    return {code: {"description": PROBLEMS[code], "content": content} for code in codes or USUAL}


def _page(document: Schema) -> str:
    """Render the document as HTML, without scripts and fonts from other servers."""
    sections = []
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            body = operation.get("requestBody")
            schema = ""
            if body:
                text = orjson.dumps(body["content"]["application/json"]["schema"], option=orjson.OPT_INDENT_2).decode()
                schema = f"<details><summary>body</summary><pre>{html.escape(text)}</pre></details>"
            codes = "".join(
                f"<tr><td>{code}</td><td>{html.escape(answer['description'])}</td></tr>"
                for code, answer in operation["responses"].items()
            )
            sections.append(
                f"<section><h2><b>{method.upper()}</b> <code>{html.escape(path)}</code></h2>"
                f"<p>{html.escape(operation['summary'])}</p>{schema}"
                f"<details><summary>answers</summary><table>{codes}</table></details></section>"
            )
    return PAGE.format(title=html.escape(document["info"]["title"]), sections="\n".join(sections))


PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto; padding: 0 1rem; color: #1b1f24; }}
section {{ border-top: 1px solid #d0d7de; padding: .5rem 0 1rem; }}
h2 {{ font-size: 1.1rem; margin: .5rem 0; }} h2 b {{ color: #0550ae; }} p {{ margin: .25rem 0; }}
pre {{ background: #f6f8fa; padding: 1rem; overflow: auto; max-height: 24rem; }}
td {{ padding: .1rem .8rem .1rem 0; vertical-align: top; }} summary {{ cursor: pointer; color: #57606a; }}
</style></head><body>
<h1>{title}</h1>
<p>The machine-readable form of this page is <a href="/openapi.json">/openapi.json</a>.</p>
{sections}
</body></html>
"""
