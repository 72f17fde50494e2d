"""Fast decoders of rows that hold only numbers: they make no Python object of each value.

The characters of numbers are deleted from the body. The remaining characters, the body's frame, show how the lists are
nested and whether a row holds anything but numbers. If the body is nothing but full rows, simdjson reads all numbers
in one go. If other members are beside the rows, numpy turns the parsed rows into an array. In all other cases the
slower decoder checks every value and finds the faults. All decoders return the same rows for the same body.
"""

import threading
from collections.abc import Mapping
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import simdjson

from guards.input.cell_faults import LARGEST
from guards.input.schema import Floats, InputSchema

__all__ = ["frame_of", "read_numbers", "stack_numbers"]

OF_NUMBERS = b"0123456789.+-eE \t\r\n"
"""The characters of numbers, and whitespace."""
OF_LISTS = b"[],"
ROWS = "instances"
TRUE, FALSE = b"true".translate(None, OF_NUMBERS), b"false".translate(None, OF_NUMBERS)
LEVELS = 3
"""How many levels of the members beside `instances` are counted: `groups` is an object of lists of strings."""
NOTHING = (0, 0)


class Parsers(threading.local):
    """The parser of each thread: two threads must not use one parser at the same time."""

    def __init__(self) -> None:
        self.kept = simdjson.Parser()


PARSERS = Parsers()
KEPT_BYTES = 65536
"""The longest body that is read with the kept parser: a parser keeps memory for the longest body it has read."""


def frame_of(body: bytes) -> bytes:
    """Return a JSON body without the characters of numbers and without whitespace: its frame."""
    return body.translate(None, OF_NUMBERS)


def read_numbers(body: bytes, frame: bytes, schema: InputSchema, max_rows: int) -> Floats | None:
    """Read a body that holds rows of numbers and nothing else; None if another decoder must read the body.

    The frame of such a body depends only on the number and the shape of the rows. So an equal frame proves that every
    list has as many members as the shape says, and that every member is a number or no JSON.

    Args:
        body: the request's body.
        frame: the result of :func:`frame_of` for the body.
        schema: the description of a row.
        max_rows: the most rows that a request may have.
    """
    before, row, after = _frames(schema.shape)
    n, rest = divmod(len(frame) - len(before) - len(after) + 1, len(row))
    if rest or not 1 <= n <= max_rows or frame != b"".join((before, (row * n)[:-1], after)):
        return None
    parser = PARSERS.kept if len(body) <= KEPT_BYTES else simdjson.Parser()
    try:
        read = parser.parse(body)[ROWS].as_buffer(of_type="d")  # type: ignore[union-attr, index]
    except (ValueError, TypeError, KeyError, RuntimeError):  # no JSON, another key, or a number beyond float64
        return None
    return _checked(np.frombuffer(read).reshape(n, *schema.shape))


@lru_cache(8)
def _frames(shape: tuple[int, ...]) -> tuple[bytes, bytes, bytes]:
    """Return the frame of a body before its rows, of one row with the comma behind it, and after the rows."""
    row = b""
    for size in reversed(shape):
        row = b"[" + b",".join([row] * size) + b"]"
    before, after = (part.translate(None, OF_NUMBERS) for part in (b'{"%b":[' % ROWS.encode(), b"]}"))
    return before, row + b",", after


def _checked(numbers: npt.NDArray[np.float64]) -> Floats | None:
    """Return numbers as float32; None if a number is NaN or too large."""
    flat = numbers.reshape(-1)
    if not (np.minimum.reduce(flat) >= -LARGEST and np.maximum.reduce(flat) <= LARGEST):  # false if a value is NaN
        return None
    return numbers.astype(np.float32)


def stack_numbers(rows: object, frame: bytes, beside: Mapping[str, object], schema: InputSchema) -> Floats | None:
    """Turn rows of nested lists into one float32 array (n, *shape); None if the slower decoder must check the rows.

    numpy would read the string "1.5" and the value `true` as numbers. So the rows must hold no string and no boolean:
    the members beside the rows must hold as many strings and booleans as the frame shows. The frame holds the quotes
    of every string and the letters of every boolean.

    Args:
        rows: the rows, as they were parsed.
        frame: the result of :func:`frame_of` for the body.
        beside: the body's object; its member `instances` holds the rows.
        schema: the description of a row.
    """
    strings, booleans = len(beside), 0
    if len(beside) > 1:
        for name, value in beside.items():
            if name != ROWS:
                more = _strings_and_booleans(value, LEVELS)
                strings, booleans = strings + more[0], booleans + more[1]
    if frame.count(b'"') != 2 * strings or frame.count(TRUE) + frame.count(FALSE) != booleans:
        return None
    try:
        numbers = np.array(rows, dtype=np.float64)
    except (ValueError, TypeError, OverflowError):
        return None
    if numbers.shape[1:] != schema.shape:
        return None
    return _checked(numbers)


def _strings_and_booleans(value: object, levels: int) -> tuple[int, int]:
    """Count the strings and booleans in the first ``levels`` levels of a value; deeper ones are not counted."""
    if isinstance(value, bool):
        return 0, 1
    if isinstance(value, str):
        return 1, 0
    if not levels or not isinstance(value, dict | list):
        return NOTHING
    inner = value.values() if isinstance(value, dict) else value
    found = [_strings_and_booleans(each, levels - 1) for each in inner]
    keys = len(value) if isinstance(value, dict) else 0
    return keys + sum(strings for strings, _ in found), sum(booleans for _, booleans in found)
