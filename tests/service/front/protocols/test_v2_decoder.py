"""The v2 decoder: what it reads, what it refuses and at which place, and that no input makes it crash."""

import base64
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import exif, jpeg, png
from local_engine import served_config
from tiny_models import COLOURS, document, schema
from v2_client import HEADER, binary_request, head, json_request, packed

from guards.config.config import parse
from guards.input.column import Column
from guards.input.schema import InputSchema
from service.front.protocols import grpc_predict_v2_pb2 as messages
from service.front.protocols import v1, v2, v2_grpc
from service.front.protocols.problem import Problem
from service.front.protocols.v2_outputs import alternatives_of, inputs_of
from service.front.protocols.v2_tensors import DTYPES
from service.messages.served_model import ServedModel

KINDS = ("tabular", "image", "tensor")
PICTURE = np.random.default_rng(1).integers(0, 256, (6, 6), dtype=np.uint8)
ROW = {"length": 1.5, "mass": -2.0, "age": 3.0, "colour": "red"}


def served(kind: str = "tabular", classes: tuple[str, ...] = ("ant", "bee", "cat")) -> ServedModel:
    config = parse(document(kind, server={"max_rows_per_request": 4, "max_queue_rows": 4}))
    return served_config(config, schema(kind), classes, groups=("region",))


def table(rows: int = 1) -> dict[str, Any]:
    arrays: dict[str, Any] = {name: np.full(rows, ROW[name], dtype=np.float32) for name in ("length", "mass", "age")}
    return arrays | {"colour": np.full(rows, "red", dtype=object)}


def decode(body: object, kind: str = "tabular", **headers: str) -> v2.Inference:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return v2.decode(content, headers.get("length"), served(kind))


def binary(arrays: Any, kind: str = "tabular", **more: Any) -> v2.Inference:
    body, headers = binary_request(arrays, **more)
    return v2.decode(body, headers[HEADER], served(kind))


def typed(arrays: Any, *, raw: bool, **more: Any) -> Any:
    """Write a gRPC request."""
    request = messages.ModelInferRequest(model_name="toy", **more)
    for name, array in arrays.items():
        tensor = request.inputs.add(**head(name, array))
        if raw:
            request.raw_input_contents.append(packed(array))
        else:
            values = [v.encode() if isinstance(v, str) else v for v in array.ravel().tolist()]
            getattr(tensor.contents, v2_grpc.CONTENTS[tensor.datatype]).extend(values)
    return request


def refused(status: int, *place: str | int) -> Any:
    """Expect a problem of a status, with a fault at a place."""

    def check(problem: Problem) -> bool:
        assert problem.status == status, problem.sentence
        assert place in [tuple(loc) for loc, _ in problem.errors], problem.errors
        return True

    return pytest.raises(Problem, check=check)


# What is read


@pytest.mark.parametrize("dtype", ["f4", "f8", "f2", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?"])
def test_every_numeric_datatype_makes_a_column(dtype: str) -> None:
    """A numeric column may come in any datatype and any form, except FP16, which must be binary."""
    arrays = {**table(3), "age": np.array([1, 0, 1]).astype(dtype)}
    ways = [lambda: binary(arrays), lambda: v2_grpc.decode(typed(arrays, raw=True), served())]
    if dtype == "f2":
        with refused(422, "inputs", 2, "datatype"):
            decode(json_request(arrays))
    else:
        ways += [lambda: decode(json_request(arrays)), lambda: v2_grpc.decode(typed(arrays, raw=False), served())]
    for way in ways:
        assert way().rows.x[:, 2].tolist() == [1.0, 0.0, 1.0]


@pytest.mark.parametrize("shape", [[3], [3, 1]])
def test_missing_values(shape: list[int]) -> None:
    """NaN, null and "" are missing; an unknown category is unseen; each in its own wire form."""
    arrays = table(3)
    arrays["age"] = np.array([np.nan, 1, 2], dtype=np.float32)
    arrays["colour"] = np.array(["", "blue", "mauve"], dtype=object)
    arrays = {name: array.reshape(shape) for name, array in arrays.items()}
    expected = [[1.5, -2, np.nan, np.nan], [1.5, -2, 1, COLOURS.index("blue")], [1.5, -2, 2, -1]]
    written = json_request(arrays, nested=True)
    nulls = json_request(arrays)
    nulls["inputs"][3]["data"][0] = None
    ways = [binary(arrays), decode(written), decode(nulls)]
    ways += [v2_grpc.decode(typed(arrays, raw=raw), served()) for raw in (False, True)]
    for way in ways:
        np.testing.assert_array_equal(way.rows.x, np.array(expected, dtype=np.float32))


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_every_way_reads_the_same_numbers(data: st.DataObject) -> None:
    """JSON flat and nested, binary data and both gRPC contents give the same bits, of any finite float32."""
    kind = data.draw(st.sampled_from(["image", "tensor"]))
    rows, shape = data.draw(st.integers(1, 3)), schema(kind).shape
    size = rows * int(np.prod(shape))
    values = data.draw(
        st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=size, max_size=size)
    )
    x = np.array(values, dtype=np.float32).reshape(rows, *shape)
    arrays = {"x": x}
    ways = [decode(json_request(arrays), kind), decode(json_request(arrays, nested=True), kind), binary(arrays, kind)]
    ways += [v2_grpc.decode(typed(arrays, raw=raw), served(kind)) for raw in (False, True)]
    for way in ways:
        assert way.rows.x.dtype == np.float32
        assert way.rows.x.tobytes() == x.tobytes()


@pytest.mark.parametrize("kind", ["image", "tensor"])
def test_bytes_are_divided(kind: str) -> None:
    """Every UINT8 of an image or a tensor becomes the float32 quotient by 255, by every door."""
    size = int(np.prod(schema(kind).shape))
    for start in range(0, 256, 4 * size):
        x = (np.arange(start, start + 4 * size) % 256).astype(np.uint8).reshape(4, *schema(kind).shape)
        expected = (x.astype(np.float32) / np.float32(255)).tobytes()
        assert binary({"x": x}, kind).rows.x.tobytes() == expected
        for nested in (False, True):
            assert decode(json_request({"x": x}, nested=nested), kind).rows.x.tobytes() == expected
        for raw in (False, True):
            assert v2_grpc.decode(typed({"x": x}, raw=raw), served(kind)).rows.x.tobytes() == expected


def image_ways(files: list[bytes], *, column: bool = False) -> Any:
    """Send files as a BYTES tensor by every door."""
    array = np.array(files, dtype=object)
    texts = np.array([base64.encodebytes(file).decode() for file in files], dtype=object)
    if column:
        array, texts = array[:, None], texts[:, None]
    yield lambda: binary({"x": array}, "image")
    for nested in (False, True):
        yield lambda nested=nested: decode(json_request({"x": texts}, nested=nested), "image")
    for raw in (False, True):
        yield lambda raw=raw: v2_grpc.decode(typed({"x": array}, raw=raw), served("image"))


@pytest.mark.parametrize("column", [False, True], ids=["[n]", "[n, 1]"])
def test_files_are_read_by_every_door(column: bool) -> None:
    """PNG and JPEG files in a BYTES tensor make the rows that v1's `b64` makes, in JSON as base64."""
    files = [jpeg(exif(3), pixels=PICTURE), png(pixels=PICTURE), png(pixels=PICTURE[::-1].copy())]
    body = json.dumps({"instances": [{"b64": base64.b64encode(file).decode()} for file in files]}).encode()
    expected = v1.decode(body, schema=schema("image"), max_rows=4, parameters={}).x
    for way in image_ways(files, column=column):
        assert way().rows.x.tobytes() == expected.tobytes()


@pytest.mark.parametrize("file", [b"", b"GIF89a", b"\x89PNG\r\n\x1a\n", png(pixels=PICTURE)[:60]])
def test_files_that_are_none_have_a_place(file: bytes) -> None:
    """A file that makes no row is refused with its place, together with the faults of other files."""
    for way in image_ways([png(pixels=PICTURE), file, b"neither"]):
        with refused(422, "inputs", 0, "data", 1) as told:
            way()
        assert [loc[-1] for loc, _ in told.value.errors] == [1, 2]


def test_files_are_one_a_row() -> None:
    """Files have no shape of their own: `[n]`, not the image's; and no text in JSON is anything but base64."""
    shape = schema("image").shape
    with refused(422, "inputs", 0, "shape"):
        decode({"inputs": [{"name": "x", "datatype": "BYTES", "shape": [1, *shape], "data": []}]}, "image")
    for value, message in (("!", "not base64"), (7, "expected a file in base64, got a number: 7")):
        with refused(422, "inputs", 0, "data", 0) as told:
            decode({"inputs": [{"name": "x", "datatype": "BYTES", "shape": [1], "data": [value]}]}, "image")
        assert told.value.errors[0][1] == message
    with refused(422, "inputs", 0, "datatype"):
        decode({"inputs": [{"name": "x", "datatype": "BYTES", "shape": [1, 5], "data": [""] * 5}]}, "tensor")


@pytest.mark.parametrize("dtype", ["u2", "i1", "i4", "f4", "f8"])
def test_other_numbers_of_a_tensor_are_taken_as_they_are(dtype: str) -> None:
    """Numbers other than UINT8 are the tensor's own numbers, and so is a byte in a table."""
    x = np.array([[0, 1, 2, 3, 4]]).astype(dtype)
    assert binary({"x": x}, "tensor").rows.x.tolist() == [[0, 1, 2, 3, 4]]
    table_row = np.array([[0, 1, 200, 2]], dtype=np.uint8)
    assert binary({"x": table_row}).rows.x.tolist() == [[0, 1, 200, 2]]


@pytest.mark.parametrize("names", [["x"], ["x", "y"], ["a", "b"]], ids=str)
def test_the_alternatives_are_read(names: list[str]) -> None:
    """The alternatives in the metadata make the same rows; a single column called `x` is that column."""
    columns = tuple(Column(name=name, kind="numeric") for name in names)
    described = InputSchema(kind="tabular", shape=(len(names),), columns=columns)
    config = parse(document("tabular", server={"max_rows_per_request": 4, "max_queue_rows": 4}))
    reader = served_config(config, described)
    ways = [inputs_of(described), *alternatives_of(described)]
    assert len(ways) == (1 if names == ["x"] else 2)
    for way in ways:
        shapes = [[3 if size == -1 else size for size in spec.shape] for spec in way]
        arrays = {spec.name: np.ones(shape, dtype=np.float32) for spec, shape in zip(way, shapes, strict=True)}
        body, headers = binary_request(arrays)
        assert v2.decode(body, headers[HEADER], reader).rows.x.tolist() == [[1.0] * len(names)] * 3


def test_binary_numbers_are_not_copied() -> None:
    """A float32 tensor is a view of the body that came from the wire."""
    body, headers = binary_request({"x": np.zeros((2, 5), dtype=np.float32)})
    rows = v2.decode(body, headers[HEADER], served("tensor")).rows
    assert np.shares_memory(rows.x, np.frombuffer(body, dtype=np.uint8))


def test_ids_groups_and_outputs() -> None:
    """Ids and groups come as tensors, outputs in the order asked for, each as binary data or not."""
    beside = {"id": np.array(["a", "b"], dtype=object), "group_region": np.array(["north", ""], dtype=object)}
    outputs = [{"name": "p_value", "parameters": {"binary_data": False}}, {"name": "label"}]
    read = binary({**table(2), **beside}, outputs=outputs, id="7", parameters={"binary_data_output": True})
    assert read.rows.ids == ["a", "b"]
    assert read.rows.groups == {"region": ["north", None]}
    assert list(read.outputs.items()) == [("p_value", False), ("label", True)]
    assert read.id == "7"
    plain = decode(json_request(table()))
    assert plain.rows.ids[0].endswith("-0")
    assert list(plain.outputs) == ["label", "probabilities", "action", "id"]
    assert plain.id is None


def test_a_regression_has_other_outputs() -> None:
    """Without classes the outputs are value and interval, and the p-values if the request asks for detail."""
    body = json.dumps(json_request(table(), parameters={"detail": True})).encode()
    assert list(v2.decode(body, None, served(classes=())).outputs) == ["value", "interval", "action", "id", "p_value"]


def test_parameters_of_other_servers_do_no_harm() -> None:
    """Triton's sequence and priority parameters, and KServe's model_name, are left alone."""
    parameters = {"sequence_id": 3, "priority": 1, "timeout": 5, "anything": "else"}
    assert decode(json_request(table(), parameters=parameters, model_name="toy")).rows.x.shape == (1, 4)


# What is refused

X = np.zeros((1, 5), dtype=np.float32)
SIZE = ("inputs", 0, "parameters", "binary_data_size")
HEAD = {"name": "x", "shape": [1, 5], "datatype": "FP32"}


def framed(inputs: list[Any], rest: bytes, length: int | str | None = None) -> tuple[bytes, str]:
    start = json.dumps({"inputs": inputs}).encode()
    return start + rest, str(len(start) if length is None else length)


@pytest.mark.parametrize(
    ("sizes", "rest", "place"),
    [
        ([20], 19, SIZE),
        ([20], 21, ("inputs",)),
        ([19], 19, ("inputs", 0)),
        ([24], 24, ("inputs", 0)),
        ([0], 0, ("inputs", 0)),
        ([-1], 20, SIZE),
        ([2**62], 20, SIZE),
        (["20"], 20, SIZE),
        ([20.0], 20, SIZE),
        ([True], 20, SIZE),
        ([None], 20, SIZE),
        ([20, 20], 20, ("inputs", 1, *SIZE[2:])),
    ],
    ids=str,
)
def test_sizes_that_lie(sizes: list[Any], rest: int, place: tuple[str | int, ...]) -> None:
    """The sizes must be whole numbers, fit datatypes and shapes, and add up to the body."""
    inputs = [{**HEAD, "parameters": {"binary_data_size": size}} for size in sizes]
    body, length = framed(inputs, bytes(rest))
    with refused(400, *place):
        v2.decode(body, length, served("tensor"))


@pytest.mark.parametrize("length", ["", "-1", "0", "abc", "1e3", "9" * 20, "999999", " 10", "+5", "0x10", "\u0665"])
def test_header_lengths_that_are_none(length: str) -> None:
    """The header is a number of bytes that the body has."""
    body, _ = binary_request({"x": X})
    with pytest.raises(Problem) as told:
        v2.decode(body, length, served("tensor"))
    assert told.value.status == 400
    assert HEADER in told.value.detail


@pytest.mark.parametrize("off", [-1, 1, 5])
def test_header_lengths_that_are_off(off: int) -> None:
    """A header that cuts the JSON short, or takes data for JSON, leaves no JSON."""
    body, headers = binary_request({"x": X})
    with pytest.raises(Problem) as told:
        v2.decode(body, str(int(headers[HEADER]) + off), served("tensor"))
    assert told.value.status == 400


def test_binary_data_without_the_header() -> None:
    """A size in the JSON means nothing if the JSON is the whole body."""
    with refused(400, *SIZE):
        decode({"inputs": [{**HEAD, "parameters": {"binary_data_size": 20}}]}, "tensor")


def test_data_given_twice() -> None:
    """A tensor is in the JSON or behind it."""
    body, length = framed([{**HEAD, "data": [0.0] * 5, "parameters": {"binary_data_size": 20}}], bytes(20))
    with refused(400, *SIZE):
        v2.decode(body, length, served("tensor"))


@pytest.mark.parametrize(
    "data",
    [b"", b"\x03\0\0\0re", b"\x03\0\0", b"\xff\xff\xff\xffred", b"\x03\0\0\0red\x03\0\0\0red", b"\x03\0\0\0red\0"],
    ids=repr,
)
def test_strings_whose_lengths_lie(data: bytes) -> None:
    """A BYTES tensor holds exactly its elements, each led by its length."""
    arrays = {name: array for name, array in table().items() if name != "colour"}
    inputs = [{**head(n, a), "data": a.tolist()} for n, a in arrays.items()]
    colour = {"name": "colour", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": len(data)}}
    body, length = framed([*inputs, colour], data)
    with refused(400, "inputs", 3):
        v2.decode(body, length, served())


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"name": None}, ("inputs", 0, "name")),
        ({"name": "y"}, ("inputs", 0, "name")),
        ({"datatype": "FP128"}, ("inputs", 0, "datatype")),
        ({"datatype": ["FP32"]}, ("inputs", 0, "datatype")),
        ({"datatype": "BYTES"}, ("inputs", 0, "datatype")),
        ({"datatype": "BOOL"}, ("inputs", 0, "data", 0)),
        ({"datatype": "INT8"}, ("inputs", 0, "data", 0)),
        ({"datatype": "INT8", "data": [1, 2, 3, 4, 128]}, ("inputs", 0, "data", 4)),
        ({"datatype": "UINT64", "data": [1, 2, 3, 4, -1]}, ("inputs", 0, "data", 4)),
        ({"shape": [5]}, ("inputs", 0, "shape")),
        ({"shape": []}, ("inputs", 0, "shape")),
        ({"shape": [5, 1]}, ("inputs", 0, "shape")),
        ({"shape": [0, 5], "data": []}, ("inputs", 0, "shape")),
        ({"shape": [5, 5], "data": [0.5] * 25}, ("inputs", 0, "shape")),
        ({"shape": [2**62, 5]}, ("inputs", 0, "shape")),
        ({"shape": [-1, 5]}, ("inputs", 0, "shape")),
        ({"shape": [1.0, 5]}, ("inputs", 0, "shape")),
        ({"shape": [True, 5]}, ("inputs", 0, "shape")),
        ({"shape": "1,5"}, ("inputs", 0, "shape")),
        ({"data": [0.5] * 4}, ("inputs", 0, "data")),
        ({"data": [[0.5] * 4]}, ("inputs", 0, "data")),
        ({"data": [[0.5] * 5] * 2}, ("inputs", 0, "data")),
        ({"data": "0.5"}, ("inputs", 0, "data")),
        ({"data": ["0.5"] * 5}, ("inputs", 0, "data", 0)),
        ({"data": [[0.5, 0.5, True, 0.5, 0.5]]}, ("inputs", 0, "data", 0, 2)),
        ({"data": [0.5, None, 0.5, 0.5, 0.5]}, ("inputs", 0, "data", 1)),
        ({"data": [0.5, 0.5, 0.5, 1e39, 0.5]}, ("inputs", 0, "data", 3)),
        ({"data": [0.5, float("inf"), 0.5, 0.5, 0.5]}, ("inputs", 0, "data", 1)),
        ({"data": [float("nan"), 0.5, 0.5, 0.5, 0.5]}, ("inputs", 0, "data", 0)),
        ({"data": [0.5, 0.5, [0.5], 0.5, 0.5]}, ("inputs", 0, "data", 2)),
        ({"parameters": []}, ("inputs", 0, "parameters")),
        ({"dtype": "FP32"}, ("inputs", 0, "dtype")),
    ],
    ids=str,
)
def test_a_tensor_that_makes_no_rows(change: dict[str, Any], place: tuple[str | int, ...]) -> None:
    """Every fault of a tensor is listed with its place, and is the client's fault."""
    with refused(422, *place):
        decode({"inputs": [{**HEAD, "data": [0.5] * 5, **change}]}, "tensor")


LITERALS = ("NaN", "Infinity", "-Infinity", "1e400", "-1e400", "1" + "0" * 400)


@pytest.mark.parametrize("literal", LITERALS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("nested", [False, True])
def test_literals_that_are_no_numbers(literal: str, kind: str, nested: bool) -> None:
    """NaN, Infinity and numbers beyond float64 in JSON are refused with their place; a missing value is a null."""
    x = np.ones((2, *schema(kind).shape), dtype=np.float32)
    x[1].flat[2] = 7777
    written = json.dumps(json_request({"x": x}, nested=nested))
    assert written.count("7777.0") == 1
    axes = np.unravel_index(x[0].size + 2, x.shape) if nested else (x[0].size + 2,)
    with refused(422, "inputs", 0, "data", *map(int, axes)):
        decode(written.replace("7777.0", literal).encode(), kind)


@pytest.mark.parametrize("literal", LITERALS)
@pytest.mark.parametrize(
    ("change", "place"),
    [
        (("inputs", 1, "data", 0), ("inputs", 1, "data", 0)),
        (("inputs", 3, "data", 0), ("inputs", 3, "data", 0)),
        (("inputs", 1, "shape", 0), ("inputs", 1, "shape")),
        (("inputs", 1, "name"), ("inputs", 1, "name")),
        (("inputs", 1, "parameters"), ("inputs", 1, "parameters")),
        (("parameters", "priority"), ("parameters", "priority")),
        (("parameters", "detail"), ("parameters", "detail")),
        (("outputs", 0, "parameters", "a"), ("outputs", 0, "parameters", "a")),
        (("id",), ("id",)),
    ],
    ids=str,
)
def test_literals_anywhere(literal: str, change: tuple[Any, ...], place: tuple[Any, ...]) -> None:
    """NaN and Infinity are refused in a column of numbers or texts, and in everything around the data."""
    written = json_request(table(), parameters={}, outputs=[{"name": "label", "parameters": {}}])
    inner: Any = written
    for step in change[:-1]:
        inner = inner[step]
    inner[change[-1]] = "HERE"
    with refused(422, *place):
        decode(json.dumps(written).replace('"HERE"', literal).encode())


@pytest.mark.parametrize("literal", LITERALS)
@pytest.mark.parametrize("datatype", [name for name in DTYPES if name != "FP16"])
def test_literals_in_every_datatype(literal: str, datatype: str) -> None:
    """No datatype takes them for a number of its own."""
    written = json_request(table())
    written["inputs"][2] |= {"datatype": datatype, "data": ["HERE"]}
    with refused(422, "inputs", 2, "data", 0):
        decode(json.dumps(written).replace('"HERE"', literal).encode())


@pytest.mark.parametrize(
    ("value", "kind"), [(np.nan, "tensor"), (np.inf, "tensor"), (np.nan, "image"), (-np.inf, "image")], ids=str
)
def test_binary_numbers_that_are_none(value: float, kind: str) -> None:
    """An input without missing values takes no NaN, and no input takes an infinity."""
    x = np.zeros((2, *schema(kind).shape), dtype=np.float32)
    x[1].flat[4] = value
    with refused(422, "inputs", 0, "data", x[0].size + 4):
        binary({"x": x}, kind)
    with refused(422, "inputs", 0, "data", x[0].size + 4):
        v2_grpc.decode(typed({"x": x}, raw=False), served(kind))


def test_infinity_in_a_column() -> None:
    """A table takes NaN for missing, and no infinity."""
    arrays = table(2)
    arrays["mass"][1] = np.inf
    with refused(422, "inputs", 1, "data", 1):
        binary(arrays)
    with refused(422, "inputs", 0, "data", 3):
        binary({"x": np.array([[0, 0, 0, 0.5]], dtype=np.float32)})


@pytest.mark.parametrize(
    ("arrays", "place"),
    [
        ({"mass": np.zeros(2, dtype=np.float32)}, ("inputs", 1, "shape")),
        ({"mass": np.array(["1.5"], dtype=object)}, ("inputs", 1, "datatype")),
        ({"colour": np.zeros(1, dtype=np.int64)}, ("inputs", 3, "datatype")),
        ({"colour": np.array([b"\xff"], dtype=object)}, ("inputs", 3, "data", 0)),
        ({"taste": np.zeros(1, dtype=np.float32)}, ("inputs", 4, "name")),
        ({"x": np.zeros((1, 4), dtype=np.float32)}, ("inputs", 4)),
        ({"id": np.array([""], dtype=object)}, ("inputs", 4, "data", 0)),
        ({"id": np.array(["a" * 257], dtype=object)}, ("inputs", 4, "data", 0)),
        ({"id": np.zeros(1, dtype=np.int64)}, ("inputs", 4, "datatype")),
        ({"id": np.array(["a", "b"], dtype=object)}, ("inputs", 4, "shape")),
        ({"group_age": np.array(["young"], dtype=object)}, ("inputs", 4, "name")),
        ({"group_region": np.zeros(1, dtype=np.float32)}, ("inputs", 4, "datatype")),
    ],
    ids=str,
)
def test_tensors_that_make_no_table(arrays: dict[str, Any], place: tuple[str | int, ...]) -> None:
    """Each column has its datatype and one value for each row; what is beside them is known."""
    with refused(422, *place):
        binary({**table(), **arrays})
    with refused(422, *place):
        v2_grpc.decode(typed({**table(), **arrays}, raw=True), served())


def test_ids_given_twice() -> None:
    """An id names one row of a request."""
    with refused(422, "inputs", 4, "data", 1):
        binary({**table(2), "id": np.array(["a", "a"], dtype=object)})


def test_every_fault_is_listed() -> None:
    """One answer lists all faults of a request, of heads and of values."""
    written = json_request(table(2))
    written["inputs"][0]["data"][1] = "x"
    written["inputs"][1]["datatype"] = "BYTES"
    written["inputs"].pop()
    written["inputs"].append({"name": "taste", "datatype": "FP32", "shape": [2], "data": [1, 2]})
    with pytest.raises(Problem) as told:
        decode({**written, "more": 1})
    places = {tuple(loc) for loc, _ in told.value.errors}
    assert {("inputs", 0, "data", 1), ("inputs", 1, "datatype"), ("inputs", 3, "name"), ("more",)} <= places


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"outputs": [{"name": "logits"}]}, ("outputs", 0, "name")),
        ({"outputs": [{"name": ["label"]}]}, ("outputs", 0, "name")),
        ({"outputs": [{"name": "label"}, {"name": "label"}]}, ("outputs", 1, "name")),
        ({"outputs": [{"name": "label", "shape": [1]}]}, ("outputs", 0, "shape")),
        ({"outputs": ["label"]}, ("outputs", 0)),
        ({"outputs": {"name": "label"}}, ("outputs",)),
        (
            {"outputs": [{"name": "label", "parameters": {"binary_data": 1}}]},
            ("outputs", 0, "parameters", "binary_data"),
        ),
        (
            {"outputs": [{"name": "label", "parameters": {"classification": 3}}]},
            ("outputs", 0, "parameters", "classification"),
        ),
        ({"parameters": {"detail": "yes"}}, ("parameters", "detail")),
        ({"parameters": {"binary_data_output": None}}, ("parameters", "binary_data_output")),
        ({"parameters": [1]}, ("parameters",)),
        ({"id": 7}, ("id",)),
        ({"inputs": {}}, ("inputs",)),
        ({"inputs": []}, ("inputs",)),
        ({"inputs": [5]}, ("inputs", 0)),
        ({"instances": []}, ("instances",)),
    ],
    ids=str,
)
def test_requests_that_ask_for_what_is_not(change: dict[str, Any], place: tuple[str | int, ...]) -> None:
    """Unknown outputs, keys and types are refused with their place."""
    with refused(422, *place):
        decode({**json_request(table()), **change})


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b'{"inputs": [], "inputs": []}', b"[" * 100_000], ids=len)
def test_no_json(body: bytes) -> None:
    """A body that is no JSON is refused as in v1."""
    with pytest.raises(Problem) as told:
        decode(body)
    assert told.value.status == 400


@pytest.mark.parametrize(
    ("request_of", "status"),
    [
        (lambda: typed(table(), raw=True, raw_input_contents=[b""]), 400),
        (lambda: messages.ModelInferRequest(model_name="other"), 404),
        (lambda: messages.ModelInferRequest(model_name="toy", model_version="9"), 404),
        (lambda: messages.ModelInferRequest(model_name="toy"), 422),
    ],
    ids=["raw contents too many", "another model", "another version", "no inputs"],
)
def test_messages_that_make_no_rows(request_of: Any, status: int) -> None:
    """Over gRPC, too, a request names the model and gives each input once."""
    with pytest.raises(Problem) as told:
        v2_grpc.decode(request_of(), served())
    assert told.value.status == status


def test_typed_contents_of_another_type() -> None:
    """Typed contents are in the datatype's own field, and not beside raw ones."""
    request = typed(table(), raw=False)
    request.inputs[0].contents.int_contents.append(1)
    with refused(422, "inputs", 0, "contents"):
        v2_grpc.decode(request, served())
    request = typed(table(), raw=True)
    request.inputs[1].contents.fp32_contents.append(1)
    with refused(400, "inputs", 1, "contents"):
        v2_grpc.decode(request, served())


# Whatever comes

WORDS = st.sampled_from(["x", "length", "colour", "id", "group_region", "FP32", "BYTES", "UINT8", "red", "", "\u00e9"])
NUMBERS = st.one_of(st.integers(-3, 6), st.integers(), st.floats(), st.booleans(), st.none())
JSON = st.recursive(st.one_of(WORDS, NUMBERS), lambda inner: st.lists(inner, max_size=5), max_leaves=12)
LOOSE = st.dictionaries(
    st.sampled_from(["name", "datatype", "shape", "data", "parameters", "other"]),
    st.one_of(JSON, st.dictionaries(st.sampled_from(["binary_data_size", "a"]), NUMBERS, max_size=2)),
    max_size=6,
)
TENSOR = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["x", "length", "mass", "age", "colour", "id", "group_region", "y"]),
        "datatype": st.sampled_from([*DTYPES, "BYTES", "FP8"]),
        "shape": st.one_of(
            st.just([1]), st.just([1, 5]), st.just([1, 1, 6, 6]), st.lists(st.integers(0, 6), max_size=4)
        ),
    },
    optional={"data": JSON, "parameters": st.fixed_dictionaries({"binary_data_size": st.integers(0, 40)})},
)
DOCUMENT = st.one_of(
    JSON,
    st.fixed_dictionaries(
        {"inputs": st.one_of(JSON, st.lists(st.one_of(TENSOR, LOOSE), max_size=5))},
        optional={"outputs": st.one_of(JSON, st.lists(LOOSE, max_size=2)), "parameters": JSON, "id": JSON},
    ),
)


def judged(decoded: Any, kind: str) -> None:
    """Check that what came out is rows, or a problem that is the client's."""
    problem = None
    try:
        read = decoded()
    except Problem as told:
        problem = told
    if problem is not None:
        assert problem.status in (400, 404, 422)
        assert len(problem.sentence) <= 1003
        assert json.loads(problem.body("request", error=True))["error"] == problem.sentence
        return
    x = read.rows.x
    assert x.dtype == np.float32
    assert x.shape[1:] == schema(kind).shape
    assert 1 <= len(x) == len(read.rows.ids) <= 4
    assert np.isfinite(x if kind != "tabular" else x[~np.isnan(x)]).all()


@given(DOCUMENT, st.binary(max_size=60), st.sampled_from(KINDS), st.one_of(st.none(), st.integers(-2, 3)))
@settings(max_examples=400, deadline=None)
def test_nothing_but_problems(document: Any, rest: bytes, kind: str, off: int | None) -> None:
    """For any body over HTTP the decoder gives rows or a problem of the client's, and nothing else."""
    start = json.dumps(document).encode()
    length = None if off is None else str(len(start) + off)
    judged(lambda: v2.decode(start + (rest if off is not None else b""), length, served(kind)), kind)


@given(st.binary(max_size=200), st.one_of(st.none(), st.text(max_size=6)), st.sampled_from(KINDS))
@settings(max_examples=150, deadline=None)
def test_nothing_but_problems_from_bytes(body: bytes, length: str | None, kind: str) -> None:
    """The same of bytes and headers that mean nothing."""
    judged(lambda: v2.decode(body, length, served(kind)), kind)


@given(st.lists(TENSOR, max_size=5), st.lists(st.binary(max_size=40), max_size=5), st.data())
@settings(max_examples=300, deadline=None)
def test_nothing_but_problems_from_messages(tensors: list[Any], raw: list[bytes], data: st.DataObject) -> None:
    """The same of gRPC messages: contents in any field, raw contents in any number."""
    request = messages.ModelInferRequest(model_name=data.draw(st.sampled_from(["toy", "toy", "toy", "other"])))
    for tensor in tensors:
        added = request.inputs.add(name=tensor["name"], datatype=tensor["datatype"], shape=tensor["shape"])
        if not raw or data.draw(st.booleans()):
            added.contents.fp32_contents.extend(data.draw(st.lists(st.floats(width=32), max_size=6)))
            added.contents.int_contents.extend(data.draw(st.lists(st.integers(-5, 300), max_size=2)))
            added.contents.bytes_contents.extend(data.draw(st.lists(st.binary(max_size=4), max_size=2)))
    request.raw_input_contents.extend(raw)
    for kind in KINDS:
        judged(lambda kind=kind: v2_grpc.decode(request, served(kind)), kind)


@given(st.binary(max_size=200))
@settings(max_examples=150, deadline=None)
def test_nothing_but_problems_from_frames(body: bytes) -> None:
    """Bytes that are no message are a problem of the client's."""
    judged(lambda: v2_grpc.decode(v2_grpc.parse("ModelInferRequest", body), served()), "tabular")
