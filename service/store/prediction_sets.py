"""The stored form of a prediction set: a list of labels or, if the set is large, a bit for each label."""

import base64
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import orjson

__all__ = ["in_set", "write_set"]

LISTED = 100
"""Sets with more labels are stored as bits: 1.7 kB for 10,000 labels, instead of 35 kB for the labels themselves."""
BITS = "bits"


def write_set(packed: bytes, classes: Sequence[str]) -> str:
    """Write a set; ``packed`` has one bit for each of the ``classes``, the highest bit of a byte first.

    >>> write_set(bytes([0b10100000]), ["ant", "bee", "cat"])
    '["ant","cat"]'
    """
    inside = np.flatnonzero(np.unpackbits(np.frombuffer(packed, np.uint8), count=len(classes)))
    if len(inside) <= LISTED:
        return orjson.dumps([classes[place] for place in inside.tolist()]).decode()
    return orjson.dumps({BITS: base64.b64encode(packed).decode()}).decode()


def in_set(text: str, label: str | None, place: int | None) -> bool:
    """Return whether a stored set holds a label; ``place`` is the label's index at the time the set was written."""
    known = _read(text)
    if isinstance(known, frozenset):
        return label in known
    return place is not None and bool(known[place // 8] >> (7 - place % 8) & 1)


@lru_cache(4096)
def _read(text: str) -> frozenset[str] | bytes:
    """Read a stored set. The cache helps models with few labels, because they have few different sets."""
    known = orjson.loads(text)
    return base64.b64decode(known[BITS]) if isinstance(known, dict) else frozenset(known)
