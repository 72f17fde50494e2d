"""Sound binary v2 requests, and changes that spoil them in one place or several."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st
from local_engine import served_config
from tiny_models import document, schema
from v2_client import head, packed

from guards.config.config import parse
from service.front.protocols.v2_tensors import DTYPES

__all__ = [
    "CHANGES", "HUGE", "INDEX", "KINDS", "NAMES", "SERVED", "STRINGS", "Change", "content", "framed", "sized", "sound",
    "tensor",
]  # fmt: skip

KINDS = ("tabular", "image", "tensor")
SERVED = {
    kind: served_config(
        parse(document(kind, server={"max_rows_per_request": 4, "max_queue_rows": 4})),
        schema(kind),
        ("ant", "bee", "cat"),
        groups=("region",),
    )
    for kind in KINDS
}
HUGE = (2**15, 2**16 + 1, 2**31 - 1, 2**31, 2**32, 2**62, 2**63 - 1, 2**63, 2**64, 10**30)
STRINGS = (
    b"", b"\x01", b"\0\0\0\0", b"\x03\0\0\0red", b"\x04\0\0\0red", b"\xff\xff\xff\xff", b"\xff\xff\xff\x7fred",
    b"\x01\0\0\0\xff", b"\x03\0\0\0red" * 5, b"\x03\0\0\0red\x01", b"\0" * 4096,
)  # fmt: skip
Change = Callable[[Any, list[bytes]], object]
"""Changes a request object and its binary parts in place."""


def sound(kind: str, rows: int) -> dict[str, Any]:
    """Return the arrays of a sound request."""
    beside = {
        "id": np.array([f"row {row}" for row in range(rows)], dtype=object),
        "group_region": np.array(["north"] * rows, dtype=object),
    }
    if kind != "tabular":
        return {"x": np.full((rows, *schema(kind).shape), 0.5, dtype=np.float32), **beside}
    numbers = {name: np.full(rows, 0.5, dtype=np.float32) for name in ("length", "mass", "age")}
    return {**numbers, "colour": np.full(rows, "red", dtype=object), **beside}


def framed(kind: str, rows: int, changes: Sequence[Change], off: int = 0) -> tuple[bytes, str]:
    """Write a changed binary request: the body, and the length of its head, which is wrong by ``off``."""
    arrays = sound(kind, rows)
    parts = [packed(array) for array in arrays.values()]
    request: Any = {
        "inputs": [
            {**head(name, array), "parameters": {"binary_data_size": len(part)}}
            for (name, array), part in zip(arrays.items(), parts, strict=True)
        ],
        "outputs": [{"name": "label"}, {"name": "action"}],
        "parameters": {},
    }
    for change in changes:
        change(request, parts)
    start = json.dumps(request).encode()
    return b"".join([start, *parts]), str(len(start) + off)


def tensor(index: int, **changed: Any) -> Change:
    """Change members of a tensor's description."""
    return lambda request, _: request["inputs"][index].update(changed)


def sized(index: int, size: Any) -> Change:
    """State a size of a tensor's binary data."""
    return lambda request, _: request["inputs"][index]["parameters"].update(binary_data_size=size)


def content(index: int, data: bytes) -> Change:
    """Replace a part, and state its size correctly."""

    def change(request: Any, parts: list[bytes]) -> None:
        parts[index] = data
        request["inputs"][index]["parameters"]["binary_data_size"] = len(data)

    return change


def inputs_of(request: Any) -> list[Any]:
    """Return the inputs that are still objects after earlier changes."""
    inputs = request["inputs"]
    return [one for one in inputs if isinstance(one, dict)] if isinstance(inputs, list) else []


def tensor_anywhere(index: int, changed: dict[str, Any]) -> Change:
    """Change members of a tensor's description, if the request still has that tensor."""

    def change(request: Any, _: list[bytes]) -> None:
        for one in inputs_of(request)[index : index + 1]:
            one.update(changed)

    return change


def part_anywhere(index: int, data: bytes, *, told: bool) -> Change:
    """Replace a part, and state its size if ``told`` is true."""

    def change(request: Any, parts: list[bytes]) -> None:
        parts[index : index + 1] = [data] if index < len(parts) else []
        for one in inputs_of(request)[index : index + 1] if told else []:
            one["parameters"] = {"binary_data_size": len(data)}

    return change


def order_anywhere(index: int, *, twice: bool) -> Change:
    """Repeat or drop a tensor; its bytes stay as they are."""

    def change(request: Any, _: list[bytes]) -> None:
        if isinstance(request["inputs"], list) and request["inputs"]:
            place = index % len(request["inputs"])
            request["inputs"][place : place + 1] = [request["inputs"][place]] * (2 if twice else 0)

    return change


NUMBERS = st.one_of(st.integers(-2, 40), st.sampled_from([*HUGE, *(-size for size in HUGE)]))
ODD = st.one_of(NUMBERS, st.none(), st.booleans(), st.floats(), st.text(max_size=3), st.just([]), st.just({}))
INDEX = st.integers(0, 5)
NAMES = st.sampled_from(["x", "length", "mass", "age", "colour", "id", "group_region", "group_", "y", "", "\0"])
TENSOR = st.builds(
    tensor_anywhere,
    INDEX,
    st.fixed_dictionaries(
        {},
        optional={
            "name": st.one_of(NAMES, ODD),
            "datatype": st.one_of(st.sampled_from([*DTYPES, "BYTES", "BF16", "fp32", ""]), ODD),
            "shape": st.one_of(st.lists(NUMBERS, max_size=5), st.lists(ODD, max_size=2), ODD),
            "data": st.one_of(st.lists(ODD, max_size=6), ODD),
            "parameters": st.one_of(st.fixed_dictionaries({"binary_data_size": st.one_of(NUMBERS, ODD)}), ODD),
        },
    ),
)
PART = st.builds(
    lambda index, data, told: part_anywhere(index, data, told=told),
    INDEX, st.one_of(st.binary(max_size=40), st.sampled_from(STRINGS)), st.booleans(),
)  # fmt: skip
WHOLE = st.builds(
    lambda key, value: lambda request, _: request.update({key: value}),
    st.sampled_from(["inputs", "outputs", "parameters", "id", "model_name", "other"]),
    st.one_of(ODD, st.lists(st.one_of(ODD, st.fixed_dictionaries({"name": NAMES})), max_size=3)),
)
ORDER = st.builds(lambda index, twice: order_anywhere(index, twice=twice), INDEX, st.booleans())
CHANGES = st.lists(st.one_of(TENSOR, PART, WHOLE, ORDER), min_size=1, max_size=3)
