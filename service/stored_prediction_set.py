"""A prediction set as the store keeps it: a list of labels, or, of a large one, a bit for each label."""

import base64
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import orjson

__all__ = ["in_set", "write_set"]

LISTED = 100
"""Sets of more labels are kept as bits: of 10,000 labels in 1.7 kB, where the labels themselves took 35 kB a row."""
BITS = "bits"


def write_set(packed: bytes, classes: Sequence[str]) -> str:
    """Write a set, of which ``packed`` has one bit for each of the ``classes``, the highest bit of a byte first.

    >>> write_set(bytes([0b10100000]), ["ant", "bee", "cat"])
    '["ant","cat"]'
    """
    inside = np.flatnonzero(np.unpackbits(np.frombuffer(packed, np.uint8), count=len(classes)))
    if len(inside) <= LISTED:
        return orjson.dumps([classes[place] for place in inside.tolist()]).decode()
    return orjson.dumps({BITS: base64.b64encode(packed).decode()}).decode()


def in_set(text: str, label: str | None, place: int | None) -> bool:
    """Tell whether a set that was written holds a label, whose ``place`` among the labels is as it was then."""
    known = _read(text)
    if isinstance(known, frozenset):
        return label in known
    return place is not None and bool(known[place // 8] >> (7 - place % 8) & 1)


@lru_cache(4096)
def _read(text: str) -> frozenset[str] | bytes:
    """Read a set; a model with few labels has few different ones."""
    known = orjson.loads(text)
    return base64.b64decode(known[BITS]) if isinstance(known, dict) else frozenset(known)
