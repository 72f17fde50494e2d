"""Describes the answer to a v1 request for predictions in the OpenAPI document."""

from typing import Any

from service.front.openapi.labels import label_schema
from service.messages.served_model import ServedModel

__all__ = ["predictions_schema"]

Schema = dict[str, Any]


def predictions_schema(served: ServedModel) -> Schema:
    """Describe the answer, which has one object for each row."""
    guards = [guard.name for _, guard in served.visible_guards]
    classes = served.classes
    label: Schema = label_schema(classes, None) if classes else {"type": "null"}
    count: Schema = {"type": "integer", "minimum": 1}
    size = {**count, "description": "how many labels the set has, if not all are named"}
    prediction = {
        "type": "object",
        "properties": {
            "id": {"type": "string"},
            "label": label,
            "probabilities": {"type": "object", "additionalProperties": {"type": "number"}},
            "prediction_set": {"type": "array", "items": {"type": "string"}},
            "prediction_set_size": size,
            "value": {"type": "number"},
            "interval": {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2},
            "action": {"type": "string", "enum": ["allow", "flag", "abstain", "reject"]},
            "reasons": {"type": "array", "items": {"type": "string", "enum": [*guards, "model"]}},
            "guards": {"type": "object", "additionalProperties": _guard()},
            "warnings": {"type": "array", "items": {"type": "string"}, "description": "what is odd about the row"},
        },
        "required": ["id", "action", "reasons"],
    }
    return {
        "type": "object",
        "properties": {
            "predictions": {"type": "array", "items": prediction},
            "top_k": {**count, "description": "how many labels each row names, if not all"},
            "classes": {**count, "description": "how many labels the model has, if each row does not name all"},
            "model": {"type": "object"},
        },
        "required": ["predictions", "model"],
    }


def _guard() -> Schema:
    """Describe what a row's detail says of one guard."""
    return {
        "type": "object",
        "properties": {
            "p_value": {"type": ["number", "null"], "description": "null: the guard crashed or was left out"},
            "flagged": {"type": "boolean"},
            "causes": {"type": "array", "items": {"type": "string"}},
            "skipped": {
                "type": "boolean",
                "description": "true: an optional guard was left out, as too many rows waited",
            },
        },
        "required": ["p_value", "flagged", "causes"],
    }
