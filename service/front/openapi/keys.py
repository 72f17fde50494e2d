"""Adds keys to the OpenAPI document of a server that asks for keys."""

from collections.abc import Callable, Container
from typing import Any

__all__ = ["with_keys"]

Schema = dict[str, Any]
SCHEMES: Schema = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "`Authorization: Bearer KEY`"},
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}
EITHER: list[Schema] = [{name: []} for name in SCHEMES]


def with_keys(document: Schema, keyless: Container[str], problems: Callable[..., Schema]) -> Schema:
    """Return the document with the two headers that may hold a key, and the answers 401, 403 and 429.

    The ``keyless`` paths stay as they are.
    """
    for path, operations in document["paths"].items():
        if path in keyless:
            continue
        kind = {"document": "InferenceProblem"} if path.startswith("/v2") else {}
        for operation in operations.values():
            operation["security"] = EITHER
            operation["responses"] = {**problems("400", "401", "403", "429", **kind), **operation["responses"]}
    document["components"]["securitySchemes"] = SCHEMES
    return document
