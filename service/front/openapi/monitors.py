"""Describes the path of the monitors' report in the OpenAPI document."""

from collections.abc import Callable
from typing import Any

from service.messages.scope import SCOPES

__all__ = ["monitors_path"]

Schema = dict[str, Any]
SUMMARY = "The state of every monitor."
SCOPE = (
    "whose rows: the served bundle's (the default), those of all bundles of its version, or of all versions. The wider "
    "two are of the monitors alone whose counts are in the store, without recent figures"
)


def monitors_path(problems: Callable[..., Schema]) -> Schema:
    """Describe the path; ``problems`` describes the error answers."""
    number: Schema = {"type": ["number", "null"]}
    statistic = _object(
        {
            "name": {"type": "string"},
            "value": number,
            "interval": {"type": ["array", "null"], "items": {"type": "number"}, "minItems": 2, "maxItems": 2},
            "n": {
                "type": ["integer", "null"],
                "description": "the number of rows behind the value; null, as the value, if there are a few, and fewer "
                "than `server.smallest_count`",
            },
            "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        }
    )
    monitor = _object(
        {
            "kind": {"type": "string"},
            "state": {"type": "string", "enum": ["ok", "warning", "alarm", "insufficient_data"]},
            "since": {
                "type": ["string", "null"],
                "description": "null if other bundles are counted, too",
            },
            "statistics": {"type": "array", "items": statistic},
        }
    )
    answer = _object(
        {
            "of": {"type": "string", "enum": list(SCOPES)},
            "totals": {
                "type": "string",
                "enum": ["store", "process"],
                "description": "whether the store or this process counted",
            },
            "monitors": {"type": "object", "additionalProperties": monitor},
        }
    )
    answer["properties"] |= {
        "version": {"type": "string", "description": "the version, if the figures are of the served bundle alone"},
        "bundle": {"type": "string", "description": "the bundle's id, if the figures are of the served bundle alone"},
        "bundles": {
            "type": "array",
            "items": {"type": ["string", "null"]},
            "description": "ids of the bundles in a wider scope; null for rows of a time without totals by bundle",
        },
    }
    absent = {**problems("405")["405"], "description": "This server keeps no totals of more than its bundle."}
    return {
        "get": {
            "operationId": "monitors",
            "summary": SUMMARY,
            "parameters": [
                {"name": "of", "in": "query", "description": SCOPE, "schema": {"type": "string", "enum": list(SCOPES)}}
            ],
            "responses": {
                "200": {"description": SUMMARY, "content": {"application/json": {"schema": answer}}},
                **problems("400", "405", "500", "503", "504"),
                "404": absent,
            },
        }
    }


def _object(properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": list(properties)}
