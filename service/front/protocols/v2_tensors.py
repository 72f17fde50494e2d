"""Input tensors of the Open Inference Protocol: their datatypes, and reading their data in every form."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from guards.input.cell_faults import NOT_FINITE, describe, first_in_rows
from service.front.protocols.base64_text import decode_base64
from service.front.protocols.problem import Problem
from service.front.protocols.v1 import Errors

__all__ = ["BOOL", "BYTES", "DTYPES", "Data", "Numbers", "Place", "Tensor", "malformed", "packed"]

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
    """An input whose description has no fault. Its ``data`` is read later, once the input's role is known.

    A list holds JSON values, or gRPC's typed contents. A memoryview is binary data. An array holds gRPC's typed
    floats, and has one dimension.
    """

    place: Place
    name: str
    datatype: str
    shape: tuple[int, ...]
    data: Data

    @property
    def size(self) -> int:
        """The number of elements that the shape states."""
        return math.prod(self.shape)

    @property
    def nested(self) -> bool:
        """Whether the data are nested lists and not one flat list."""
        data = self.data
        return len(self.shape) > 1 and isinstance(data, list) and bool(data) and isinstance(data[0], list)

    def spot(self, *index: int) -> Place:
        """Return the place of an element in the request: its index in nested data, its position in flat data."""
        if self.nested or len(self.shape) <= 1:
            return (*self.place, "data", *index)
        return (*self.place, "data", int(np.ravel_multi_index(index, self.shape)))

    def check_size(self) -> None:
        """Check that binary data have the size that follows from datatype and shape.

        Raises:
            Problem: 400, the data have another size.
        """
        if self.datatype == BYTES or not isinstance(self.data, memoryview):
            return
        wanted = self.size * DTYPES[self.datatype].itemsize
        if len(self.data) != wanted:
            message = f"{len(self.data)} bytes of data, where {self.datatype} {list(self.shape)} has {wanted}"
            raise malformed(message, self.place)

    def numbers(self, errors: Errors, *, nullable: bool) -> Numbers | None:
        """Read a numeric tensor; null becomes NaN. If a value has a fault, add it to ``errors`` and return None."""
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
        """Read a BYTES tensor as text; null becomes None. If a text has a fault, add it to ``errors`` and return None.

        Raises:
            Problem: 400, the binary data do not hold as many elements as the shape states.
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
        """Read a BYTES tensor as files; in JSON they are base64. None in the list stands for a text that is no base64.

        Raises:
            Problem: 400, the binary data do not hold as many elements as the shape states.
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
        # The request is refused in any case, so every value is checked to list all faults.
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
        """Flatten data that are nested as the shape states; flat data must have as many values as the shape."""
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


def packed(values: Sequence[str] | Numbers) -> bytes:
    """Encode a tensor as binary data: numbers as they are, and each string after its length in 4 bytes."""
    if isinstance(values, np.ndarray):
        return values.tobytes()
    encoded = [value.encode() for value in values]
    if len(encoded) == 1:
        return len(encoded[0]).to_bytes(LENGTH_BYTES, "little") + encoded[0]
    return b"".join(chain.from_iterable((len(one).to_bytes(LENGTH_BYTES, "little"), one) for one in encoded))


def malformed(message: str, place: Place) -> Problem:
    """Return the problem that refuses binary data which disagree with their description."""
    return Problem(HTTPStatus.BAD_REQUEST, "the binary data are malformed", errors=[(place, message)])
