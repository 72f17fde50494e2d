"""Describes the path of feedback in the OpenAPI document."""

from collections.abc import Callable
from typing import Any

from service.front.openapi.labels import label_schema
from service.front.protocols.feedback import MAX_OUTCOMES, MEMBERS
from service.front.protocols.v1 import MAX_ID
from service.messages.outcomes import REPEATED, REPLACED

__all__ = ["feedback_path"]

Schema = dict[str, Any]
ONLY = "only if an outcome of the body asks to replace: the ids of replaced outcomes; they count as accepted, too"
AGAIN = "only if there are any: ids that were used again later; their outcomes are of the first prediction"
SUMMARY = "Send the true labels or values of rows that were answered before; the answer comes after they are stored."
REPLACE = "true: if the row has another outcome already, this outcome replaces it, and the old one is kept on record"
CHANCE = "probability with which this row was chosen to be labelled; the outcome is weighted by its inverse"


def feedback_path(classes: tuple[str, ...], problems: Callable[..., Schema]) -> Schema:
    """Describe the path; ``classes`` are empty for a regression. ``problems`` describes the error answers."""
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
    others = {name: {"type": "array", "items": {"type": "string"}} for name in MEMBERS[1:]}
    replaced = {REPLACED: {"type": "array", "items": {"type": "string"}, "description": ONLY}}
    repeated = {REPEATED: {"type": "array", "items": {"type": "string"}, "description": AGAIN}}
    counted = {"accepted": {"type": "integer", "minimum": 0}}
    answer = _closed({**counted, **others, **replaced, **repeated}, required=list(MEMBERS))
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
