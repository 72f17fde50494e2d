"""Describes a model's labels in the OpenAPI document: few labels are listed at each use, many labels only once."""

from collections.abc import Sequence
from typing import Any

from service.front.protocols.top_k import ALL, SHOWN, TOP_K

__all__ = ["LABEL", "label_schema", "label_schemas", "top_k_parameter"]

Schema = dict[str, Any]
LABEL = "Label"


def label_schema(classes: Sequence[str], *others: str | None) -> Schema:
    """Describe a label; ``others`` are more values that are allowed in the place of a label."""
    if len(classes) <= SHOWN:
        types = ["string", "null"] if None in others else "string"
        return {"type": types, "enum": [*classes, *others]}
    label: Schema = {"$ref": f"#/components/schemas/{LABEL}"}
    return {"anyOf": [label, {"enum": list(others)}]} if others else label


def label_schemas(classes: Sequence[str]) -> Schema:
    """Give the schemas that :func:`label_schema` refers to, by name."""
    return {LABEL: {"type": "string", "enum": list(classes)}} if len(classes) > SHOWN else {}


def top_k_parameter(classes: Sequence[str], default: object) -> Schema:
    """Describe the parameter ``top_k`` of a classification; ``default`` is its value if a request names none."""
    if not classes:
        return {}
    said = f"how many labels of each row, the most probable first; {ALL}: all {len(classes)} in the model's order"
    choice = [{"type": "integer", "minimum": 1}, {"const": ALL}]
    return {TOP_K: {"anyOf": choice, "default": default, "description": said}}
