"""Describes the path of the monitors' report in the OpenAPI document."""

from collections.abc import Callable, Sequence
from typing import Any

from service.front.protocols.monitor_changes import LONGEST_REASON, PRINCIPAL, SUBJECTS
from service.messages.monitor_changes import KINDS, Kind
from service.messages.scope import SCOPES

__all__ = ["changes_paths", "monitors_path"]

Schema = dict[str, Any]
SUMMARY = "The state of every monitor."
CHANGES: dict[Kind, str] = {
    "exclude": "Count no row of a principal any more, and take the principal's stored rows out of the totals.",
    "include": "Undo the exclusion of a principal.",
    "reset": "Let a monitor forget every row of the served bundle, and end its alarm.",
}
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
    monitor["properties"]["skipped"] = {
        "type": "object",
        "additionalProperties": {"type": "integer"},
        "description": "rows of this server, since its start, that the monitor did not count, by reason",
    }
    answer = _object(
        {
            "of": {"type": "string", "enum": list(SCOPES)},
            "totals": {
                "type": "string",
                "enum": ["store", "process"],
                "description": "whether the store or this process counted",
            },
            "monitors": {"type": "object", "additionalProperties": monitor},
            "changes": {
                "type": "array",
                "items": _change(),
                "description": "what admins changed, the latest changes first",
            },
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


def changes_paths(path: str, monitors: Sequence[str], problems: Callable[..., Schema]) -> Schema:
    """Describe the paths of changes; ``path`` is the path of the monitors, ``monitors`` are their names."""
    principal: Schema = {"type": "string", "pattern": f"^{PRINCIPAL.pattern}$"}
    subjects: Schema = {"principal": principal, "monitor": {"type": "string", "enum": list(monitors)}}
    reason = {"type": "string", "minLength": 1, "maxLength": LONGEST_REASON}
    answer = _change()
    answer["properties"] |= {
        "rows": {"type": "integer", "description": "rows taken out of the totals, or put back"},
        "not_corrected": {
            "type": "array",
            "items": {"type": "string"},
            "description": "monitors that cannot take rows out again: reset them if these rows matter",
        },
    }
    answer["required"] += ["rows", "not_corrected"]
    codes = problems()
    codes["404"] = {
        **codes["400"],
        "description": "This server keeps no record, or has no keys and so no admin.",
    }
    codes["422"] = {**codes["400"], "description": "A wrong name or reason, or a monitor that keeps nothing to reset."}

    def operation(kind: Kind) -> Schema:
        body = _object({SUBJECTS[kind]: subjects[SUBJECTS[kind]], "reason": reason}) | {"additionalProperties": False}
        return {
            "operationId": f"monitors_{kind}",
            "summary": CHANGES[kind],
            "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
            "responses": {
                "200": {"description": "The change.", "content": {"application/json": {"schema": answer}}},
                **codes,
            },
        }

    return {f"{path}:{kind}": {"post": operation(kind)} for kind in KINDS}


def _change() -> Schema:
    return {
        "type": "object",
        "properties": {
            "time": {"type": "string"},
            "by": {"type": "string", "description": "the principal that asked"},
            "change": {"type": "string", "enum": list(KINDS)},
            "principal": {"type": "string"},
            "monitor": {"type": "string"},
            "reason": {"type": "string"},
        },
        "required": ["time", "by", "change", "reason"],
    }


def _object(properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": list(properties)}
