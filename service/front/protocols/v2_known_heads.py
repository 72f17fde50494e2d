"""Remembers the heads of binary v2 requests, so that a head that comes again is not parsed again.

The head of a binary request is the JSON before the binary data. A client sends the same head with all requests for
rows of the same shape; only the request's id may differ.
"""

import re
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import orjson

from guards.input.schema import Floats
from service.front.protocols.v1 import Request, new_ids
from service.front.protocols.v2 import LENGTH, Inference, decode
from service.front.protocols.v2_answer_head import BINARY_SIZE, AnswerHead
from service.front.protocols.v2_rows import MATRIX, rows_of, to_rows
from service.front.protocols.v2_tensors import BOOL, BYTES, DTYPES, Place, Tensor
from service.messages.served_model import ServedModel

__all__ = ["LARGEST_HEAD", "MOST_BYTES", "MOST_HEADS", "KnownHeads"]

LARGEST_HEAD = 16 * 1024
"""The largest head, in bytes, that is remembered: enough for a table of a hundred columns."""
MOST_HEADS, MOST_BYTES = 256, 512 * 1024
"""How many heads are remembered at most, and how many bytes these heads have together at most. With their meanings
they take up to five times as many bytes of memory."""
MOST_NOTES = 1024
"""How many heads that came once are noted. Then all notes are dropped."""
LEADING_ID = re.compile(rb'\{"id": ?"([A-Za-z0-9._:-]{1,128})", ?(?=")')
"""An id as the first member of a head, of characters that JSON writes as they are."""
BITS = np.dtype("<u4")
BITS_OF_ONE = 0x3F800000
"""The bits of the float32 1.0. As integers, the bits of the float32 numbers from 0 to 1 are at most that; the bits of
NaN, of negative numbers and of numbers above 1 are more."""


@dataclass(frozen=True, slots=True, eq=False)
class Described:
    """The description of an input tensor, and where its part of the binary data starts and stops."""

    place: Place
    name: str
    datatype: str
    shape: tuple[int, ...]
    start: int
    stop: int


@dataclass(frozen=True, slots=True, eq=False)
class KnownHead:
    """What a head means. The requests with this head differ in their ids and in ``size`` bytes of binary data.

    ``id`` is the request's id if the remembered head holds an id; if the id was cut out, ``id`` is None. ``whole`` says
    whether the request has one tensor, which holds all rows as numbers.
    """

    id: str | None
    tensors: tuple[Described, ...]
    size: int
    whole: bool
    outputs: Mapping[str, bool]
    top_k: int | None
    parameters: Mapping[str, Any]
    served: ServedModel
    answer_head: AnswerHead

    def read(self, body: bytes, start: int, request_id: str | None) -> Inference:
        """Decode a body whose binary data begin at ``start``.

        Raises:
            Problem: 400 or 422, as :func:`service.front.protocols.v2.decode` raises for this body.
        """
        rows, usual = self._numbers(body, start) if self.whole else (None, False)
        request = self._request(body, start) if rows is None else Request(rows, new_ids(len(rows)), {}, self.parameters)
        return Inference(request, request_id or self.id, self.outputs, self.served, self.top_k, usual, self.answer_head)

    def _numbers(self, body: bytes, start: int) -> tuple[Floats | None, bool]:
        """Read the only tensor as rows; also return whether the pixels are known to be usual. A fault gives None."""
        tensor, schema = self.tensors[0], self.served.rows
        numbers = np.frombuffer(body, DTYPES[tensor.datatype], offset=start)
        image = schema.kind == "image"
        if image and tensor.datatype == "FP32" and np.maximum.reduce(numbers.view(BITS)) <= BITS_OF_ONE:
            return numbers.reshape(tensor.shape), True
        rows, faults = rows_of(numbers.reshape(tensor.shape), tensor.datatype, schema)
        return (None if faults else rows), not image or tensor.datatype == "UINT8"

    def _request(self, body: bytes, start: int) -> Request:
        data = memoryview(body)[start:]
        tensors = [
            Tensor(each.place, each.name, each.datatype, each.shape, data[each.start : each.stop])
            for each in self.tensors
        ]
        return to_rows(
            tensors,
            schema=self.served.rows,
            max_rows=self.served.server.max_rows_per_request,
            groups=self.served.groups,
            parameters=self.parameters,
            errors=[],
        )


class KnownHeads:
    """Decodes v2 requests, and remembers heads that come again. Only one thread may call it.

    A head is remembered when a sound request has it for the second time, so that heads that never come again cost
    next to nothing. The meaning of a head holds no rows, and no id that was cut out of the head.
    """

    def __init__(self, served: ServedModel) -> None:
        """Decode requests to the model ``served``."""
        self._served = served
        self._known: OrderedDict[bytes, KnownHead] = OrderedDict()
        self._bytes = 0
        self._notes: set[int] = set()

    def __len__(self) -> int:
        """Count the remembered heads."""
        return len(self._known)

    @property
    def head_bytes(self) -> int:
        """How many bytes the remembered heads have together."""
        return self._bytes

    def decode(self, body: bytes, header_length: str | None) -> Inference:
        """Decode a body as :func:`service.front.protocols.v2.decode` does: the same rows, and the same problems."""
        if header_length is None or not LENGTH.fullmatch(header_length):
            return decode(body, header_length, self._served)
        length = int(header_length)
        if length > LARGEST_HEAD:
            return decode(body, header_length, self._served)
        whole = body[:length]
        head, request_id = _without_id(whole)
        known = self._known.get(head)
        if known is not None and len(body) == length + known.size and (request_id is None or known.id is None):
            self._known.move_to_end(head)
            return known.read(body, length, request_id)
        inference = decode(body, header_length, self._served)
        if known is None:
            note = hash(head)
            if note not in self._notes:
                self._note(note)
            elif (found := _meaning(whole, inference, cut=request_id is not None)) is not None:
                self._notes.discard(note)
                self._keep(head, found)
        return inference

    def _note(self, note: int) -> None:
        if len(self._notes) >= MOST_NOTES:
            self._notes.clear()
        self._notes.add(note)

    def _keep(self, head: bytes, known: KnownHead) -> None:
        """Remember a head; forget the heads that have not come for the longest time, if there are too many."""
        self._known[head] = known
        self._bytes += len(head)
        while len(self._known) > MOST_HEADS or self._bytes > MOST_BYTES:
            oldest, _ = self._known.popitem(last=False)
            self._bytes -= len(oldest)


def _without_id(head: bytes) -> tuple[bytes, str | None]:
    """Cut the client's id out of a head, if the id is the first member; return the rest and the id."""
    if head.startswith(b'{"id"') and (found := LEADING_ID.match(head)):
        return b"{" + head[found.end() :], found[1].decode()
    return head, None


def _meaning(head: bytes, inference: Inference, *, cut: bool) -> KnownHead | None:
    """Return what the head of a sound request means, without its id if ``cut`` is true.

    None if the head itself holds values of a tensor, since such a head hardly comes again, or if only the slower parser
    of :mod:`service.front.protocols.strict_json` can read the head.
    """
    try:
        inputs = orjson.loads(head)["inputs"]  # the strict parser has read the head already, and found no fault
    except orjson.JSONDecodeError:
        return None
    tensors: list[Described] = []
    start = 0
    for index, tensor in enumerate(inputs):
        size = (tensor.get("parameters") or {}).get(BINARY_SIZE)
        if size is None:
            return None
        name, datatype, shape = tensor["name"], tensor["datatype"], tuple(tensor["shape"])
        tensors.append(Described(("inputs", index), name, datatype, shape, start, start + size))
        start += size
    served, first = inference.served, tensors[0]
    alone = len(tensors) == 1 and first.name == MATRIX and MATRIX not in served.rows.names
    return KnownHead(
        id=None if cut else inference.id,
        tensors=tuple(tensors),
        size=start,
        whole=alone and first.datatype not in (BOOL, BYTES),
        outputs=MappingProxyType(inference.outputs),
        top_k=inference.top_k,
        parameters=MappingProxyType(inference.rows.parameters),
        served=served,
        answer_head=AnswerHead(),
    )
