"""JSON as RFC 8259 has it: fast where the body is well-formed, exact about what is wrong where it is not."""

import json
from collections import Counter
from http import HTTPStatus
from typing import Any

import orjson

from service.protocols.problem import Problem

__all__ = ["loads"]

MAX_INTEGER_DIGITS = 19
MAX_DEPTH = 1024
"""orjson's own bound. The standard library's differs by Python version: from 3.12 on it parses far deeper."""


def loads(body: bytes) -> Any:  # noqa: ANN401 - JSON
    """Parse a body; NaN, Infinity and numbers beyond float64 come back as such, for the decoder to refuse by place.

    orjson keeps the last of duplicate keys in silence. Every member of an object has one colon outside of strings, so
    where the members of what was parsed are as many as the colons there is no duplicate; otherwise (also where a
    string holds a colon) the slower parser of the standard library looks at every key.

    Raises:
        Problem: 400, not JSON, not UTF-8, a key twice, or nested too deep.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return _strictly(body)
    return document if _members(document) == body.count(b":") else _strictly(body)


def _members(document: object) -> int:
    """Count members in the places where objects are expected; one elsewhere only sends us the slower way."""
    if not isinstance(document, dict):
        return 0
    count = len(document)
    for value in document.values():
        if isinstance(value, dict):
            count += len(value)
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            count += sum(len(item) for item in value if isinstance(item, dict))
    return count


def _strictly(body: bytes) -> Any:  # noqa: ANN401
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as bad:
        raise Problem(HTTPStatus.BAD_REQUEST, f"the body is not UTF-8: byte {bad.start}") from None
    try:
        document = json.loads(text, object_pairs_hook=_unique, parse_int=_integer)
        _check_depth(document)
        json.dumps(document, ensure_ascii=False).encode("utf-8")  # a lone surrogate has no UTF-8
    except RecursionError:
        raise Problem(HTTPStatus.BAD_REQUEST, "the body is nested too deep") from None
    except UnicodeEncodeError:
        raise Problem(HTTPStatus.BAD_REQUEST, "a string in the body holds half of a surrogate pair") from None
    except json.JSONDecodeError as bad:
        raise Problem(HTTPStatus.BAD_REQUEST, f"the body is not JSON: {bad.msg} at character {bad.pos}") from None
    return document


def _check_depth(document: object) -> None:
    """Refuse lists and objects that are nested deeper than ``MAX_DEPTH``.

    Raises:
        RecursionError: they are.
    """
    level = [document]
    for _ in range(MAX_DEPTH + 1):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer if isinstance(outer, list) else ())
            if isinstance(inner, dict | list)
        ]
        if not level:
            return
    raise RecursionError


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) < len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise Problem(HTTPStatus.BAD_REQUEST, f"the key {twice[:40]!r} is given twice")
    return document


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= MAX_INTEGER_DIGITS else float(digits)
