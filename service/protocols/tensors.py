"""Tensors of the Open Inference Protocol: their datatypes, and their data as JSON, as binary or as typed contents."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from guards.faults import NOT_FINITE, describe, first_in_rows
from service.protocols.base64_text import decode_base64
from service.protocols.problem import Problem
from service.protocols.v1 import Errors

__all__ = ["BOOL", "BYTES", "DTYPES", "Data", "Numbers", "Tensor", "malformed", "pack_strings"]

BOOL, BYTES = "BOOL", "BYTES"
DTYPES: Mapping[str, np.dtype[Any]] = {
    BOOL: np.dtype("u1"),
    **{f"UINT{8 * size}": np.dtype(f"<u{size}") for size in (1, 2, 4, 8)},
    **{f"INT{8 * size}": np.dtype(f"<i{size}") for size in (1, 2, 4, 8)},
    **{f"FP{8 * size}": np.dtype(f"<f{size}") for size in (2, 4, 8)},
}
KINDS: Mapping[str, tuple[str, set[type]]] = {"FP": ("a number", {int, float}), "BO": ("a boolean", {bool})}
LENGTH_BYTES = 4
Place = tuple[str | int, ...]
Numbers = npt.NDArray[Any]
Data = list[Any] | memoryview | Numbers


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """An input whose head is sound; its ``data`` is read when its meaning is known.

    A list is JSON, or the bytes of typed contents; a memoryview is binary, of the size that the head asks for; an
    array is flat.
    """

    place: Place
    name: str
    datatype: str
    shape: tuple[int, ...]
    data: Data

    @property
    def size(self) -> int:
        """Count the elements."""
        return math.prod(self.shape)

    @property
    def nested(self) -> bool:
        """Tell nested lists from flat data."""
        data = self.data
        return len(self.shape) > 1 and isinstance(data, list) and bool(data) and isinstance(data[0], list)

    def spot(self, *index: int) -> Place:
        """Say where an element is in the request's data: by its index, or in flat data by its position."""
        if self.nested or len(self.shape) <= 1:
            return (*self.place, "data", *index)
        return (*self.place, "data", int(np.ravel_multi_index(index, self.shape)))

    def check_size(self) -> None:
        """Refuse binary data that has not the size which datatype and shape ask for.

        Raises:
            Problem: 400.
        """
        if self.datatype == BYTES or not isinstance(self.data, memoryview):
            return
        wanted = self.size * DTYPES[self.datatype].itemsize
        if len(self.data) != wanted:
            message = f"{len(self.data)} bytes of data, where {self.datatype} {list(self.shape)} has {wanted}"
            raise malformed(message, self.place)

    def numbers(self, errors: Errors, *, nullable: bool) -> Numbers | None:
        """Read a numeric tensor, a null as NaN; None where that cannot be, and then ``errors`` says why."""
        if isinstance(self.data, list):
            return self._from_json(self.data, errors, nullable=nullable)
        array = self.data
        if isinstance(array, memoryview):
            array = np.frombuffer(array, dtype=DTYPES[self.datatype])
        if self.size != len(array):
            errors.append(((*self.place, "data"), f"{len(array)} values, where the shape has {self.size}"))
            return None
        array = array.reshape(self.shape)
        if self.datatype == BOOL and (found := first_in_rows(array > 1)):
            errors += [(self.spot(row, *place), "a BOOL is 0 or 1") for row, place in found]
            return None
        return array

    def strings(self, errors: Errors) -> list[str | None] | None:
        """Read a BYTES tensor as text, a null as None; None where that cannot be, and then ``errors`` says why.

        Raises:
            Problem: 400, binary data that does not hold as many elements as the shape.
        """
        values = self._elements(errors)
        if values is None:
            return None
        texts: list[str | None] = []
        before = len(errors)
        for row, value in enumerate(values):
            try:
                text = value.decode() if isinstance(value, bytes) else value
            except UnicodeDecodeError:
                errors.append((self._text_spot(row), "not UTF-8"))
                continue
            if isinstance(text, str | None):
                texts.append(text)
            else:
                errors.append((self._text_spot(row), f"expected a string or null, got {describe(text)}"))
        return texts if len(errors) == before else None

    def files(self, errors: Errors) -> list[bytes | None] | None:
        """Read a BYTES tensor as files: in JSON base64, else as they are; None in the list is no base64.

        Raises:
            Problem: 400, binary data that does not hold as many elements as the shape.
        """
        values = self._elements(errors)
        if values is None:
            return None
        files: list[bytes | None] = []
        before = len(errors)
        for row, value in enumerate(values):
            if isinstance(value, bytes):
                files.append(value)
            elif isinstance(value, str):
                try:
                    files.append(decode_base64(value))
                except ValueError:
                    files.append(None)
            else:
                errors.append((self._text_spot(row), f"expected a file in base64, got {describe(value)}"))
        return files if len(errors) == before else None

    def _elements(self, errors: Errors) -> Sequence[object] | None:
        if isinstance(self.data, memoryview):
            return list(self._unpack(self.data))
        return self._flat(list(self.data), errors)

    def _text_spot(self, position: int) -> Place:
        return self.spot(*(int(axis) for axis in np.unravel_index(position, self.shape)))

    def _from_json(self, data: list[object], errors: Errors, *, nullable: bool) -> Numbers | None:
        values = self._flat(data, errors)
        if values is None:
            return None
        dtype = DTYPES[self.datatype]
        if dtype.itemsize == 2 and dtype.kind == "f":  # noqa: PLR2004
            errors.append(((*self.place, "datatype"), "FP16 has no JSON form: send it as binary data, or as FP32"))
            return None
        word, kinds = KINDS.get(self.datatype[:2], ("an integer", {int}))
        if nullable:
            word, kinds = f"{word} or null", {*kinds, type(None)}
        wrong = not set(map(type, values)) <= kinds
        if not wrong:
            numbers = np.array(values, dtype=np.float64).reshape(self.shape)
            absent = int(np.isnan(numbers).sum())
            wrong = absent > 0 and absent > values.count(None)
            if dtype.kind != "f":
                wrong = bool(((numbers < np.iinfo(dtype).min) | (numbers > np.iinfo(dtype).max)).any())
        if not wrong:
            return numbers
        # Only now, in a body that is refused, is every value looked at.
        bad = np.fromiter((not _is(value, kinds, dtype) for value in values), np.bool_, len(values))
        for row, place in first_in_rows(bad.reshape(self.shape)):
            value = values[int(np.ravel_multi_index((row, *place), self.shape))]
            if type(value) is float and math.isnan(value):
                message = NOT_FINITE
            elif type(value) in kinds:
                message = f"{value} is beyond {self.datatype}"
            else:
                message = f"expected {word}, got {describe(value)}"
            errors.append((self.spot(row, *place), message))
        return None

    def _flat(self, data: list[object], errors: Errors) -> list[object] | None:
        """Flatten data that is nested as the shape is; flat data has as many values as the shape."""
        if self.nested:
            level: list[Any] = [data]
            for size in self.shape:
                if set(map(type, level)) != {list} or set(map(len, level)) != {size}:
                    message = f"expected lists nested as {list(self.shape)}, or one flat list of {self.size} values"
                    errors.append(((*self.place, "data"), message))
                    return None
                level = list(chain.from_iterable(level))
            return level
        if len(data) != self.size:
            errors.append(((*self.place, "data"), f"{len(data)} values, where the shape has {self.size}"))
            return None
        return data

    def _unpack(self, data: memoryview) -> Iterator[bytes]:
        start, count = 0, 0
        while start < len(data):
            stop = start + LENGTH_BYTES
            if stop <= len(data):
                start, stop = stop, stop + int.from_bytes(data[start:stop], "little")
            if stop > len(data) or count == self.size:
                break
            yield bytes(data[start:stop])
            start, count = stop, count + 1
        if start != len(data) or count != self.size:
            raise malformed(f"the binary data are not {self.size} strings, each led by its length", self.place)


def _is(value: Any, kinds: set[type], dtype: np.dtype[Any]) -> bool:  # noqa: ANN401 - JSON
    if type(value) not in kinds:
        return False
    if value is None or dtype.kind == "f":
        return value is None or not math.isnan(value)
    return bool(np.iinfo(dtype).min <= value <= np.iinfo(dtype).max)


def pack_strings(texts: Sequence[str]) -> bytes:
    """Write strings as binary data."""
    encoded = [text.encode() for text in texts]
    return b"".join(chain.from_iterable((len(one).to_bytes(LENGTH_BYTES, "little"), one) for one in encoded))


def malformed(message: str, place: Place) -> Problem:
    """Refuse a request whose binary part is not what its head says."""
    return Problem(HTTPStatus.BAD_REQUEST, "the binary data are malformed", errors=[(place, message)])
