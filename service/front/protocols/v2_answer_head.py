"""Writes the JSON of a v2 answer: the whole answer, or the head before the binary data."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from service.front.protocols.v2_outputs import Output
from service.messages.served_model import ServedModel

__all__ = ["BINARY_SIZE", "AnswerHead", "write_head"]

BINARY_SIZE = "binary_data_size"
SIZE = b'"%b":' % BINARY_SIZE.encode()
"""The key of a size as JSON. Text inside a JSON string cannot look like a key: its quotes are escaped."""


def write_head(
    outputs: Sequence[Output],
    sizes: Sequence[int | None],
    *,
    request_id: str | None,
    warnings: Mapping[str, str],
    served: ServedModel,
) -> bytes:
    """Write an answer's JSON.

    Args:
        outputs: the answer's tensors.
        sizes: for each tensor, how many bytes of binary data it has; None if the JSON holds its values.
        request_id: the client's id of the request, if the client sent one.
        warnings: the answer's parameters about rows with unusual pixels.
        served: the model that answered.
    """
    described: list[dict[str, Any]] = []
    for output, size in zip(outputs, sizes, strict=True):
        about: dict[str, Any] = dict(output.parameters)
        one = {"name": output.name, "datatype": output.datatype, "shape": output.shape, "parameters": about}
        if size is not None:
            about[BINARY_SIZE] = size
        else:
            one["data"] = output.values if isinstance(output.values, list) else output.values.ravel().tolist()
        if not about:
            del one["parameters"]
        described.append(one)
    document = _model(served)
    if request_id is not None:
        document["id"] = request_id
    return orjson.dumps({**document, "parameters": {"bundle": served.bundle, **warnings}, "outputs": described})


def _model(served: ServedModel) -> dict[str, Any]:
    return {"model_name": served.name, "model_version": served.version}


class AnswerHead:
    """The head of all answers to one question: to requests that want the same outputs of as many rows.

    All outputs are binary data, and no row has unusual pixels. So two answers differ only in the request's id and in
    the sizes of the strings. The head is prepared at the first answer, without its id and its sizes.
    """

    __slots__ = ("_prepared",)

    def __init__(self) -> None:
        self._prepared: tuple[bytes, bytes] | None = None

    def write(
        self, outputs: Sequence[Output], sizes: Sequence[int], *, request_id: str | None, served: ServedModel
    ) -> bytes:
        """Write the same bytes as :func:`write_head`, for tensors that have ``sizes`` bytes of binary data."""
        if self._prepared is None:
            start = orjson.dumps(_model(served))[:-1]
            whole = write_head(outputs, [0] * len(outputs), request_id=None, warnings={}, served=served)
            rest = whole[len(start) :].replace(b"%", b"%%").replace(SIZE + b"0", SIZE + b"%d")
            self._prepared = start, rest
        start, rest = self._prepared
        if request_id is not None:
            start += b',"id":' + orjson.dumps(request_id)
        return start + rest % tuple(sizes)
