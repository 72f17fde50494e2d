"""Hostile v2 requests: sound requests with one or several faults, by every form of tensor."""

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spoilt_requests import (
    CHANGES,
    HUGE,
    INDEX,
    KINDS,
    NAMES,
    SERVED,
    STRINGS,
    Change,
    content,
    framed,
    sized,
    sound,
    tensor,
)
from tiny_models import schema
from v2_client import head, json_request, packed

from service.front.protocols import grpc_predict_v2_pb2 as messages
from service.front.protocols import v2, v2_grpc
from service.front.protocols.problem import Problem
from service.front.protocols.v2_tensors import DTYPES


def verdict(decode: Callable[[], v2.Inference], kind: str) -> int:
    """Decode: 200 for rows that are sound, or the status of a problem that says what is wrong."""
    problem = None
    try:
        read = decode()
    except Problem as told:
        problem = told
    if problem is not None:
        assert problem.detail
        assert all(isinstance(message, str) and message for _, message in problem.errors)
        assert json.loads(problem.body("request", error=True))["status"] == problem.status
        return int(problem.status)
    assert read.rows.x.shape[1:] == schema(kind).shape
    assert 1 <= len(read.rows.x) == len(read.rows.ids) <= 4
    assert np.isfinite(read.rows.x[~np.isnan(read.rows.x)]).all()
    return 200


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_spoilt_was_sound(kind: str) -> None:
    """The request that everything here starts from is read by every door."""
    body, length = framed(kind, 2, [])
    assert verdict(lambda: v2.decode(body, length, SERVED[kind]), kind) == 200
    assert verdict(lambda: v2_grpc.decode(message(kind, 2), SERVED[kind]), kind) == 200


def test_an_unknown_input_is_told_every_name() -> None:
    """A tensor of an unknown name is refused with all names that there are, the tensor of all columns among them."""
    body, length = framed("tabular", 1, [tensor(0, name="input")])
    with pytest.raises(Problem) as refused:
        v2.decode(body, length, SERVED["tabular"])
    said = [text for _, text in refused.value.errors if text.startswith("unknown input; there are ")]
    assert said
    assert said[0].endswith(", x, id, group_NAME")


# Spoilt in one place, by hand


@pytest.mark.parametrize("huge", HUGE)
@pytest.mark.parametrize("kind", KINDS)
def test_sizes_beyond_everything(huge: int, kind: str) -> None:
    """A size, a shape or a product of sizes beyond any integer of the machine is refused, whatever its product is."""
    rank = len(schema(kind).shape) + 1
    shapes = [[huge], [huge] * rank, [huge, *schema(kind).shape], [huge, 0], [0, huge], [1, huge], [huge] * 32]
    changes = [tensor(0, shape=shape) for shape in shapes] + [sized(0, huge), sized(0, -huge)]
    for change in changes:
        body, length = framed(kind, 1, [change])
        assert verdict(lambda: v2.decode(body, length, SERVED[kind]), kind) in (400, 422)  # noqa: B023 - called at once
    for off in (huge, -huge):
        body, length = framed(kind, 1, [], off)
        assert verdict(lambda: v2.decode(body, length, SERVED[kind]), kind) == 400  # noqa: B023


@pytest.mark.parametrize("shape", [[-1], [-1, 5], [1, -5], [-1, -5], [-(2**63)], [1] * 33, [2**62] * 100_000], ids=len)
@pytest.mark.parametrize("kind", KINDS)
def test_shapes_that_are_none(shape: list[int], kind: str) -> None:
    """Negative sizes and shapes without end are refused at once: their product could take hours."""
    body, length = framed(kind, 1, [tensor(0, shape=shape)])
    assert verdict(lambda: v2.decode(body, length, SERVED[kind]), kind) == 422


@pytest.mark.parametrize("data", STRINGS, ids=repr)
@pytest.mark.parametrize("index", [3, 4, 5], ids=["category", "id", "group"])
def test_strings_whose_lengths_lie(data: bytes, index: int) -> None:
    """A column of texts, the ids and a group: elements that are not as many or as long as they say are refused."""
    body, length = framed("tabular", 2, [content(index, data)])
    assert verdict(lambda: v2.decode(body, length, SERVED["tabular"]), "tabular") in (400, 422)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("index", [0, 1, -1])
def test_tensors_given_twice(kind: str, index: int) -> None:
    """A tensor that comes twice is refused at its second place, with its data or without."""
    body, length = framed(kind, 1, [lambda request, _: request["inputs"].append(dict(request["inputs"][index]))])
    assert verdict(lambda: v2.decode(body, length, SERVED[kind]), kind) == 400  # its bytes are not there twice

    def twice(request: Any, parts: list[bytes]) -> None:
        request["inputs"].append(dict(request["inputs"][index]))
        parts.append(parts[index])

    body, length = framed(kind, 1, [twice])
    with pytest.raises(Problem) as told:
        v2.decode(body, length, SERVED[kind])
    assert told.value.status == 422
    assert ("inputs", len(sound(kind, 1)), "name") in [tuple(place) for place, _ in told.value.errors]


@pytest.mark.parametrize("count", [2, 30, 10_000])
def test_outputs_that_are_none(count: int) -> None:
    """Unknown outputs are refused, however many: the first are listed, and none costs more than that."""
    body, length = framed("tensor", 1, [lambda request, _: request.update(outputs=[{"name": "logits"}] * count)])
    with pytest.raises(Problem) as told:
        v2.decode(body, length, SERVED["tensor"])
    assert told.value.status == 422
    assert told.value.errors[0][0][0] == "outputs"
    assert len(told.value.errors) <= 30


@pytest.mark.parametrize("kind", KINDS)
def test_inputs_without_end(kind: str) -> None:
    """More tensors than there are names for are refused by their number, before any is looked at."""
    for item in ({}, None, {"name": "x", "datatype": "FP32", "shape": [1], "data": [0]}):
        body = json.dumps({"inputs": [item] * 10_000}).encode()
        with pytest.raises(Problem) as told:
            v2.decode(body, None, SERVED[kind])
        assert [tuple(place) for place, _ in told.value.errors] == [("inputs",)]


# Spoilt anywhere


@given(st.sampled_from(KINDS), st.integers(1, 3), CHANGES, st.sampled_from([0, 0, 0, 0, -1, 1, 7, 10**6]))
@settings(max_examples=400, deadline=None, derandomize=True)
def test_spoilt_frames(kind: str, rows: int, changes: list[Change], off: int) -> None:
    """A binary request that is spoilt in up to three places makes rows or a problem of the client's, nothing else."""
    body, length = framed(kind, rows, changes, off)
    assert verdict(lambda: v2.decode(body, length, SERVED[kind]), kind) in (200, 400, 422)


@given(st.sampled_from(KINDS), st.binary(max_size=8), st.integers(0, 2**16), st.integers(0, 12))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_damaged_bytes(kind: str, damage: bytes, place: int, cut: int) -> None:
    """The same of a request with bytes changed, inserted or lost anywhere, by HTTP and by gRPC."""
    body, length = framed(kind, 1, [])
    written = message(kind, 1).SerializeToString()
    for whole, decode in (
        (body, lambda spoilt: v2.decode(spoilt, length, SERVED[kind])),
        (written, lambda spoilt: v2_grpc.decode(v2_grpc.parse("ModelInferRequest", spoilt), SERVED[kind])),
    ):
        at = place % len(whole)
        spoilt = whole[:at] + damage + whole[at + cut :]
        assert verdict(lambda: decode(spoilt), kind) in (200, 400, 404, 422)  # noqa: B023 - called at once


@given(st.sampled_from(KINDS), CHANGES)
@settings(max_examples=300, deadline=None, derandomize=True)
def test_spoilt_json(kind: str, changes: list[Change]) -> None:
    """The same of a request in JSON alone."""
    request = json_request(sound(kind, 2), outputs=[{"name": "label"}], parameters={})
    for change in changes:
        change(request, [])
    body = json.dumps(request).encode()
    assert verdict(lambda: v2.decode(body, None, SERVED[kind]), kind) in (200, 400, 422)


# The same as messages


def message(kind: str, rows: int) -> Any:
    """Write the sound request with raw contents."""
    request = messages.ModelInferRequest(model_name="toy")
    for name, array in sound(kind, rows).items():
        request.inputs.add(**head(name, array))
        request.raw_input_contents.append(packed(array))
    request.outputs.add(name="label")
    return request


SIZES = st.one_of(st.integers(-2, 40), st.sampled_from([size for size in HUGE if size < 2**63]), st.just(-(2**63)))
FIELDS = sorted({*v2_grpc.CONTENTS.values()})


@given(st.sampled_from(KINDS), INDEX, st.data())
@settings(max_examples=300, deadline=None, derandomize=True)
def test_spoilt_messages(kind: str, index: int, data: st.DataObject) -> None:
    """A message with a lying shape, a wrong datatype, contents of another field or raw ones of another size."""
    request = message(kind, 1)
    one = request.inputs[index % len(request.inputs)]
    if data.draw(st.booleans()):
        del one.shape[:]
        one.shape.extend(data.draw(st.lists(SIZES, max_size=5)))
    if data.draw(st.booleans()):
        one.datatype = data.draw(st.sampled_from([*DTYPES, "BYTES", "BF16", ""]))
    if data.draw(st.booleans()):
        one.name = data.draw(NAMES)
    if data.draw(st.booleans()):
        request.raw_input_contents[index % len(request.inputs)] = data.draw(st.sampled_from(STRINGS))
    if data.draw(st.booleans()):
        del request.raw_input_contents[:]
        field = data.draw(st.sampled_from(FIELDS))
        value: Any = b"red" if field == "bytes_contents" else 1
        getattr(one.contents, field).extend([value] * data.draw(st.integers(0, 5)))
    assert verdict(lambda: v2_grpc.decode(request, SERVED[kind]), kind) in (200, 400, 422)


def test_the_product_of_a_shape_is_bounded() -> None:
    """The sizes of one shape together overflow 64 bits although each size is allowed, and the shape is refused."""
    shape = [2**32, 2**32, 2]
    assert math.prod(shape) % 2**64 == 0
    body, length = framed("image", 1, [tensor(0, shape=shape), content(0, b"")])
    assert verdict(lambda: v2.decode(body, length, SERVED["image"]), "image") in (400, 422)
