"""Feedback, as the OpenAPI document describes it."""

from collections.abc import Callable
from typing import Any

from service.openapi_labels import label_schema
from service.protocols.outcomes import MAX_OUTCOMES, REPLACED, RESULTS
from service.protocols.v1 import MAX_ID

__all__ = ["feedback_path"]

Schema = dict[str, Any]
ONLY = "there if an outcome of the body asks to replace: the ids of those that did; they count as accepted, too"
SUMMARY = "Tell what turned out to be true of rows that were answered before; it is stored when this answers."
REPLACE = "true: if the row has another outcome already, this one takes its place, and the other is kept on record"
CHANCE = "with which the label of such a row comes to be known; its inverse weighs the outcome"


def feedback_path(classes: tuple[str, ...], problems: Callable[..., Schema]) -> Schema:
    """Describe the path; regression has no ``classes``. ``problems`` gives the answers that are errors."""
    outcome = _closed(
        {
            "id": {"type": "string", "minLength": 1, "maxLength": MAX_ID},
            "label": label_schema(classes) if classes else {"type": "number"},
            "replace": {"type": "boolean", "default": False, "description": REPLACE},
            "probability": {"type": ["number", "null"], "exclusiveMinimum": 0, "maximum": 1, "description": CHANCE},
        },
        required=["id", "label"],
    )
    body = _closed({"outcomes": {"type": "array", "items": outcome, "maxItems": MAX_OUTCOMES}}, required=["outcomes"])
    others = {name: {"type": "array", "items": {"type": "string"}} for name in RESULTS[1:]}
    replaced = {REPLACED: {"type": "array", "items": {"type": "string"}, "description": ONLY}}
    answer = _closed({"accepted": {"type": "integer", "minimum": 0}, **others, **replaced}, required=list(RESULTS))
    absent = {**problems("405")["405"], "description": "This server keeps no predictions."}
    return {
        "post": {
            "operationId": "feedback",
            "summary": SUMMARY,
            "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
            "responses": {
                "200": {
                    "description": "How many outcomes are stored, and the ids of the others.",
                    "content": {"application/json": {"schema": answer}},
                },
                **problems(),
                "404": absent,
            },
        }
    }


def _closed(properties: Schema, *, required: list[str]) -> Schema:
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
