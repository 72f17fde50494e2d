"""Parses JSON by RFC 8259: fast if the body is well-formed, and with an exact error if the body is not."""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

import numpy as np
import orjson

from service.front.memory_room import TREES, tree_bytes
from service.front.protocols.problem import Problem

__all__ = ["loads", "parsed"]

MAX_INTEGER_DIGITS = 19
LEVELS = 4
"""The head of a v2 request has four levels: the request, its tensors, their parameters, and a value."""
MAX_DEPTH = 1024
"""The bound of orjson. The bound of the standard library depends on Python's version: from 3.12 on it is far larger."""


def loads(body: bytes, colons: int | None = None) -> Any:  # noqa: ANN401 - JSON
    """Parse a body; NaN, Infinity and numbers beyond float64 come back as such, for the decoder to refuse by place.

    orjson silently keeps the last of duplicate keys. Every member of an object has one colon outside of strings. So if
    the parsed document has as many members as the body has colons, there is no duplicate. Otherwise (also if a string
    holds a colon) the slower parser of the standard library looks at every key.

    Args:
        body: the text.
        colons: how many colons the body has, if the caller has counted them.

    Raises:
        Problem: 400, the body is not JSON, not UTF-8, has a key twice, or is nested too deep.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return _strictly(body)
    colons = body.count(b":") if colons is None else colons
    if _members(document) == colons or _nested_members(document, LEVELS) == colons:
        return document
    del document  # the slower parser builds it again
    return _strictly(body)


@contextmanager
def parsed(body: bytes, colons: int | None = None) -> Iterator[Any]:
    """Parse a body as :func:`loads` does, and count the memory of the document until the end of the block.

    Raises:
        Problem: 400, as :func:`loads` raises; 413, the document would take more memory than all requests may.
        Refused: other documents take the memory now.
    """
    needed = tree_bytes(body)
    if needed > TREES.size:
        if _depth(body) > MAX_DEPTH:
            raise Problem(HTTPStatus.BAD_REQUEST, "the body is nested too deep")
        detail = "the body has so many values that reading them would take too much memory: send fewer rows"
        raise Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail)
    with TREES.held(needed):
        yield loads(body, colons)


def _depth(body: bytes) -> int:
    """Bound how deep lists and objects are nested, without building them; brackets in strings count, too."""
    characters = np.frombuffer(body, dtype=np.uint8)
    steps = np.zeros(len(characters), dtype=np.int8)
    steps[(characters == ord("[")) | (characters == ord("{"))] = 1
    steps[(characters == ord("]")) | (characters == ord("}"))] = -1
    return int(steps.cumsum(dtype=np.int32).max(initial=0))


def _members(document: object) -> int:
    """Count members in the places that usually hold objects; a member elsewhere only causes the slower parse."""
    if not isinstance(document, dict):
        return 0
    count = len(document)
    for value in document.values():
        if isinstance(value, dict):
            count += len(value)
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            count += sum(len(item) for item in value if isinstance(item, dict))
    return count


def _nested_members(document: object, levels: int) -> int:
    """Count members in so many levels of objects and lists of objects: as deep as any protocol here has them."""
    if not levels:
        return 0
    if isinstance(document, dict):
        inner = [value for value in document.values() if isinstance(value, dict | list)]
        return len(document) + sum(_nested_members(value, levels - 1) for value in inner)
    if isinstance(document, list) and document and isinstance(document[0], dict):
        return sum(_nested_members(item, levels) for item in document if isinstance(item, dict))
    return 0


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
        RecursionError: the document is nested deeper.
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
