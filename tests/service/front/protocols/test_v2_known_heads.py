"""Known heads of binary v2 requests: the same rows, answers and problems as without them, within fixed memory."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from local_engine import served_config
from spoilt_requests import CHANGES, KINDS, SERVED, Change, framed
from tiny_models import CLASSES, document, schema
from v2_client import HEADER, binary_request, unpacked

from guards.config.config import parse
from guards.input.column import Column
from guards.input.schema import InputSchema
from service.front.protocols import v1, v2, v2_known_heads
from service.front.protocols.problem import Problem
from service.front.protocols.v2_answer_head import AnswerHead, write_head
from service.front.protocols.v2_known_heads import LARGEST_HEAD, MOST_BYTES, MOST_HEADS, MOST_NOTES, KnownHeads
from service.front.protocols.v2_outputs import Output
from service.messages.answer import Answer
from service.messages.served_model import ServedModel

Found = tuple[Any, ...]
"""What a request means and what it is answered, or the problem that refuses it."""
X = np.full((1, 5), 0.5, dtype=np.float32)
EDGES = (0.0, 1.0, -0.0, 0.5, 1e-45, float(np.nextafter(np.float32(1), np.float32(2))), 2, 255, 256, -1, np.nan, np.inf)
ALL_BINARY = {"binary_data_output": True}


@pytest.fixture(autouse=True)
def _same_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every generated row id the same, so that two answers can be compared."""
    monkeypatch.setattr(v1, "new_id", lambda: "generated")


def answer(rows: int, served: ServedModel, seed: int) -> Answer:
    """Make up the engine's answer to rows: any action and any flags."""
    random = np.random.default_rng(seed)
    guards, k = len(served.guards), len(served.classes)
    probabilities = random.dirichlet(np.ones(k), rows).astype(np.float32) if k else None
    return Answer(
        action=random.choice(4, rows, p=[0.6, 0.2, 0.1, 0.1]).astype(np.uint8),
        p_value=random.random((rows, guards), dtype=np.float32),
        flagged=random.random((rows, guards)) < 0.3,
        violated=None,
        causes={},
        probabilities=probabilities,
        label=None if probabilities is None else probabilities.argmax(1).astype(np.int32),
        members=None,
        value=None if k else random.random(rows, dtype=np.float32),
        interval=None if k else random.random((rows, 2), dtype=np.float32),
    )


def found(decode: Callable[[], v2.Inference], seed: int) -> Found:
    """Return what a request means, with the bytes of its answer, or every part of its problem."""
    try:
        read = decode()
    except Problem as problem:
        return "refused", problem.status, problem.detail, problem.errors, problem.headers, problem.reason
    rows = read.rows
    tensors, strictest = read.tensors(answer(len(rows.x), read.served, seed))
    return (
        (rows.x.shape, rows.x.dtype, rows.x.tobytes(), rows.ids, rows.groups, dict(rows.parameters)),
        (read.id, list(read.outputs.items()), read.top_k, read.warnings),
        (strictest, *v2.encode(tensors, read)),
    )


def same(known: KnownHeads, body: bytes, length: str, served: ServedModel, seed: int = 0) -> Found:
    """Decode with and without known heads, and check that both find the same."""
    expected = found(lambda: v2.decode(body, length, served), seed)
    assert found(lambda: known.decode(body, length), seed) == expected
    return expected


def leading_id(body: bytes, length: str, written: bytes) -> tuple[bytes, str]:
    """Write an id, as JSON, before the other members of a request."""
    start = b'{"id": %b, ' % written
    return start + body[1:], str(int(length) - 1 + len(start))


def request(x: Any = X, **more: Any) -> tuple[bytes, str]:
    """Write a sound request whose outputs are binary data."""
    body, headers = binary_request({"x": x}, **{"parameters": ALL_BINARY, **more})
    return body, headers[HEADER]


# The same as without known heads


IDS = st.one_of(
    st.none(),
    st.sampled_from(
        [b'"abc-1"', b'"a:b.c_d"', b'""', b'"a\\u0062"', '"é"'.encode(), b'"a b"', b'"\\""', b"7", b"null"]
    ),
    st.integers(0, 3).map(b'"%d"'.__mod__),
    st.just(b'"' + b"y" * 129 + b'"'),
    st.just(b'"one", "id": "two"'),
)
OUTPUTS = st.one_of(
    st.none(),
    st.lists(
        st.builds(
            lambda name, binary: {"name": name, "parameters": {} if binary is None else {"binary_data": binary}},
            st.sampled_from(["label", "probabilities", "action", "id", "p_value", "top_k_labels"]),
            st.one_of(st.none(), st.booleans()),
        ),
        max_size=4,
        unique_by=lambda output: str(output["name"]),
    ),
)
PARAMETERS = st.fixed_dictionaries(
    {},
    optional={
        "binary_data_output": st.booleans(),
        "detail": st.booleans(),
        "top_k": st.sampled_from([1, 2, 3, 7, "all"]),
        "sequence_id": st.integers(0, 2),
    },
)


@st.composite
def arrays(draw: st.DrawFn, kind: str) -> dict[str, Any]:
    """Draw the tensors of a sound request, or of one that is refused for its datatypes alone."""
    rows = draw(st.integers(1, 3))
    beside: dict[str, Any] = {}
    if draw(st.booleans()):
        beside["id"] = np.array([f"row {row}" for row in range(rows)], dtype=object)
    if draw(st.booleans()):
        beside["group_region"] = np.array(draw(st.lists(st.sampled_from(["north", ""]), min_size=rows, max_size=rows)))
        beside["group_region"] = beside["group_region"].astype(object)
    if kind == "tabular" and draw(st.booleans()):
        numbers = {name: np.full(rows, 0.5, dtype=np.float32) for name in ("length", "mass", "age")}
        return {**numbers, "colour": np.full(rows, "red", dtype=object), **beside}
    dtype = draw(st.sampled_from(["f4", "f4", "f4", "f8", "f2", "u1", "i2", "?"]))
    return {"x": np.ones((rows, *schema(kind).shape), dtype=dtype), **beside}


def data_like(rest: bytes) -> st.SearchStrategy[bytes]:
    """Draw binary data of the same size: any bytes, or float32 numbers at the edges of what is usual."""
    count, spare = divmod(len(rest), 4)
    numbers = st.lists(st.sampled_from(EDGES), min_size=count, max_size=count)
    return st.one_of(
        st.just(rest),
        st.binary(min_size=len(rest), max_size=len(rest)),
        numbers.map(lambda drawn: np.array(drawn, dtype="<f4").tobytes() + rest[len(rest) - spare :]),
        st.sampled_from(EDGES).map(lambda value: np.full(count, value, dtype="<f4").tobytes() + bytes(spare)),
    )


@given(st.data(), st.sampled_from(KINDS), st.sampled_from([CLASSES, ()]))
@settings(max_examples=250, deadline=None, derandomize=True)
def test_known_heads_change_no_answer_and_no_problem(data: st.DataObject, kind: str, classes: tuple[str, ...]) -> None:
    """Requests with few heads in any order, with any ids and data, get the same bytes as without known heads."""
    served = SERVED[kind].model_copy(update={"classes": classes})
    heads = []
    for _ in range(data.draw(st.integers(1, 3))):
        more = {"parameters": data.draw(PARAMETERS), "outputs": data.draw(OUTPUTS)}
        body, headers = binary_request(data.draw(arrays(kind)), **{k: v for k, v in more.items() if v is not None})
        heads.append((body, int(headers[HEADER])))
    known = KnownHeads(served)
    for turn in range(data.draw(st.integers(3, 8))):
        body, size = data.draw(st.sampled_from(heads))
        content = data.draw(data_like(body[size:]))
        length = str(size)
        body = body[:size] + content + data.draw(st.sampled_from([b"", b"", b"", b"\0"]))
        if (name := data.draw(IDS)) is not None:
            body, length = leading_id(body, length, name)
        same(known, body, length, served, seed=turn)


@given(st.sampled_from(KINDS), st.integers(1, 3), CHANGES, st.sampled_from([0, 0, 0, 0, -1, 1, 7, 10**6]))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_hostile_heads_get_the_same_problems(kind: str, rows: int, changes: list[Change], off: int) -> None:
    """A spoilt request gets the same problem however often it is sent, also after sound requests."""
    known = KnownHeads(SERVED[kind])
    sound = framed(kind, rows, [])
    spoilt = framed(kind, rows, changes, off)
    for body, length in (sound, sound, sound, spoilt, spoilt, spoilt, sound):
        same(known, body, length, SERVED[kind])


@given(st.sampled_from(KINDS), st.binary(max_size=8), st.integers(0, 2**16), st.integers(0, 12))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_damaged_bytes_get_the_same_problems(kind: str, damage: bytes, place: int, cut: int) -> None:
    """A request with bytes changed, inserted or lost is read as without known heads, though its sound form is known."""
    known = KnownHeads(SERVED[kind])
    body, length = framed(kind, 1, [])
    at = place % len(body)
    spoilt = body[:at] + damage + body[at + cut :]
    for each in (body, body, spoilt, spoilt, spoilt, body):
        same(known, each, length, SERVED[kind])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda head: b'{"id": "one", "id": "two", ' + head[1:],
        lambda head: b'{"id": "one", }' + head[1:],
        lambda head: b'{"id": "one" ' + head[1:],
        lambda head: b'{"id": "one", , ' + head[1:],
        lambda head: b'{"id": "one", {' + head[1:],
        lambda head: b'{"id": "one", "one": 1, ' + head[1:],
        lambda head: b'{"id": "one", ' + head[1:-1] + b', "id": "two"}',
        lambda head: b'{"id": "one", ' + head[1:-1],
        lambda head: b'{"id": "\xff", ' + head[1:],
    ],
)
def test_cutting_out_an_id_accepts_nothing_else(spoil: Callable[[bytes], bytes]) -> None:
    """Where a head without its id is known, a head that is malformed around the id is refused as before."""
    served, (body, length) = SERVED["tensor"], request()
    head, rest = body[: int(length)], body[int(length) :]
    known = KnownHeads(served)
    for _ in range(2):
        same(known, body, length, served)
    assert len(known) == 1
    for _ in range(3):
        spoilt = spoil(head)
        assert same(known, spoilt + rest, str(len(spoilt)), served)[0] == "refused"
    assert len(known) == 1


@pytest.mark.parametrize("dtype", ["f4", "f8", "f2", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_datatype_is_read_the_same_at_its_edges(kind: str, dtype: str) -> None:
    """With a known head, numbers at every bound, NaN and any odd bytes still get the same answer or problem."""
    shape = (2, *schema(kind).shape)
    body, length = request(np.ones(shape, dtype=dtype))
    head, size = body[: int(length)], len(body) - int(length)
    known = KnownHeads(SERVED[kind])
    for _ in range(2):
        same(known, body, length, SERVED[kind])
    contents = [bytes([byte]) * size for byte in (0, 1, 2, 0x3F, 0x7F, 0xFF)]
    if dtype.startswith("f"):
        for edge in EDGES:
            numbers = np.full(shape, 0.5, dtype=dtype)
            numbers[1].flat[-1] = edge
            contents.append(numbers.tobytes())
    for content in contents:
        same(known, head + content, length, SERVED[kind])


def test_unusual_pixels_are_named_in_every_answer() -> None:
    """With a known head, an image with pixels outside [0, 1] still gets the warning, and the next image gets none."""
    served, known = SERVED["image"], KnownHeads(SERVED["image"])
    for value in (0.5, 0.5, 0.5, 2, float(np.nextafter(np.float32(1), np.float32(2))), -0.5, 0.5, 255):
        body, length = request(np.full((1, 1, 6, 6), value, dtype=np.float32))
        _, (_, _, _, warnings), (_, written, size) = same(known, body, length, served)
        assert (not warnings) == (0 <= value <= 1)
        assert ("warnings" in json.loads(written[:size])["parameters"]) == bool(warnings)
    assert len(known) == 1


def test_an_id_is_given_once() -> None:
    """A head that is known with the id inside, and comes with a second id in front, is refused as before."""
    served, known = SERVED["tensor"], KnownHeads(SERVED["tensor"])
    body, length = request(id="inside")
    for _ in range(3):
        same(known, body, length, served)
    assert len(known) == 1
    assert same(known, *leading_id(body, length, b'"front"'), served)[0] == "refused"


def test_a_single_column_called_x_is_no_whole_row() -> None:
    """If a table's only column is called `x`, known heads read the tensor `x` as that column."""
    columns = (Column(name="x", kind="numeric"),)
    config = parse(document("tabular", server={"max_rows_per_request": 4, "max_queue_rows": 4}))
    served = served_config(config, InputSchema(kind="tabular", shape=(1,), columns=columns))
    for x in (np.array([1.5, np.nan], dtype=np.float32), np.array([[1.5], [2]], dtype=np.float64)):
        known = KnownHeads(served)
        for _ in range(3):
            same(known, *request(x), served)
        assert len(known) == 1


# What a hit saves, and what it keeps apart


def test_a_head_is_parsed_twice_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the third request on nothing is parsed, whatever the request's id; a head of another length is."""
    parsed: list[bytes] = []

    def decode(body: bytes, header_length: str | None, served: ServedModel) -> v2.Inference:
        parsed.append(body)
        return v2.decode(body, header_length, served)

    monkeypatch.setattr(v2_known_heads, "decode", decode)
    known = KnownHeads(SERVED["tensor"])
    for number in range(10):
        body, length = request()
        read = known.decode(*leading_id(body, length, b'"%d"' % number))
        assert (read.id, read.rows.x.tolist()) == (str(number), X.tolist())
    assert known.decode(*request()).id is None
    assert (len(parsed), len(known)) == (2, 1)
    with pytest.raises(Problem, match="malformed"):
        known.decode(request()[0] + b"\0", request()[1])
    assert len(parsed) == 3


def test_nothing_of_one_client_reaches_another() -> None:
    """Two clients take turns: each gets its own id, its own row ids, its own outputs and its own rows."""
    served, known = SERVED["tensor"], KnownHeads(SERVED["tensor"])
    for turn in range(5):
        for client, parameters in (("ant", {**ALL_BINARY, "detail": True}), ("bee", {**ALL_BINARY, "top_k": 1})):
            rows = {"x": X * turn, "id": np.array([f"{client} {turn}"], dtype=object)}
            body, headers = binary_request(rows, parameters=parameters)
            read = known.decode(*leading_id(body, headers[HEADER], b'"%b-%d"' % (client.encode(), turn)))
            written, size = v2.encode(read.tensors(answer(1, served, turn))[0], read)
            head = json.loads(written[:size])
            assert head["id"] == f"{client}-{turn}"
            names = [output["name"] for output in head["outputs"]]
            assert ("p_value" in names, "top_k_labels" in names) == (client == "ant", client == "bee")
            sizes = [output["parameters"]["binary_data_size"] for output in head["outputs"]]
            start = size + sum(sizes[: names.index("id")])
            assert unpacked(written[start : start + sizes[names.index("id")]]) == [f"{client} {turn}"]
            assert read.rows.x.tolist() == (X * turn).tolist()
    assert len(known) == 2


def test_what_is_known_cannot_be_changed() -> None:
    """Requests with the same head share what the head means, so a request must not be able to change it."""
    known = KnownHeads(SERVED["tensor"])
    reads = [known.decode(*request()) for _ in range(4)]
    assert reads[2].outputs is reads[3].outputs
    for shared in (reads[3].outputs, reads[3].rows.parameters):
        with pytest.raises(TypeError):
            shared["label"] = False  # type: ignore[index]
    assert reads[2].rows.ids is not reads[3].rows.ids
    assert reads[2].rows.groups is not reads[3].rows.groups


# Bounds


def numbered(number: int, padding: int = 0) -> tuple[bytes, str]:
    """Write a sound request whose head no other number has."""
    return request(parameters={**ALL_BINARY, "number": f"{number:06}" + "y" * padding})


def test_a_flood_of_heads_takes_no_more_memory() -> None:
    """However many heads come twice, and however large, the bounds of number and bytes hold."""
    for padding, count in ((0, MOST_HEADS + 50), (8000, MOST_BYTES // 8000 + 20)):
        known = KnownHeads(SERVED["tensor"])
        for number in range(count):
            for _ in range(2):
                known.decode(*numbered(number, padding))
            assert len(known) <= MOST_HEADS
            assert known.head_bytes <= MOST_BYTES
        assert len(known) == min(MOST_HEADS, MOST_BYTES // int(numbered(0, padding)[1]))
        assert known.head_bytes == len(known) * int(numbered(0, padding)[1])


def test_heads_that_come_once_are_not_remembered() -> None:
    """Heads that never come again leave nothing but a bounded number of notes."""
    known = KnownHeads(SERVED["tensor"])
    for number in range(MOST_NOTES + 100):
        known.decode(*numbered(number))
        assert len(known._notes) <= MOST_NOTES
    assert (len(known), known.head_bytes) == (0, 0)


def test_the_oldest_heads_are_forgotten_first() -> None:
    """A head in use stays known through a flood of other heads."""
    known = KnownHeads(SERVED["tensor"])
    for number in range(2 * MOST_HEADS):
        for _ in range(2):
            known.decode(*numbered(number))
        known.decode(*numbered(0))
    kept = {json.loads(head)["parameters"]["number"] for head in known._known}
    assert kept == {f"{number:06}" for number in (0, *range(MOST_HEADS + 1, 2 * MOST_HEADS))}


def test_what_is_never_remembered() -> None:
    """Refused requests, JSON without binary data, heads with values or NaN, and heads beyond the limit are not kept."""
    known = KnownHeads(SERVED["tensor"])
    part = {"name": "id", "datatype": "BYTES", "shape": [1], "data": ["a"]}
    described = {"name": "x", "datatype": "FP32", "shape": [1, 5], "parameters": {"binary_data_size": 20}}
    mixed = json.dumps({"inputs": [described, part]}).encode()
    alone = json.dumps({"inputs": [{**described, "parameters": {}, "data": [0.5] * 5}]}).encode()
    for _ in range(5):
        for refused in (request(X * np.nan), request(parameters={"detail": 1})):
            with pytest.raises(Problem):
                known.decode(*refused)
        assert known.decode(mixed + X.tobytes(), str(len(mixed))).rows.ids == ["a"]
        assert known.decode(alone, None).rows.x.tolist() == X.tolist()
        assert known.decode(alone, str(len(alone))).rows.x.tolist() == X.tolist()
        assert known.decode(*numbered(0, LARGEST_HEAD)).rows.x.tolist() == X.tolist()
        assert known.decode(*request(parameters={"others": [np.nan]})).rows.x.tolist() == X.tolist()
    assert len(known) == 0


# The prepared head of an answer


@given(
    st.text(max_size=12),
    st.lists(
        st.tuples(st.one_of(st.none(), st.text(max_size=8)), st.lists(st.integers(0, 10**9), min_size=3, max_size=3))
    ),
)
@settings(max_examples=200, deadline=None)
def test_a_prepared_head_is_written_the_same(text: str, answers: list[tuple[str | None, tuple[int, ...]]]) -> None:
    """Any names and ids, also such that look like what is replaced, give the bytes that are written without it."""
    for version in (text, f'%d%% "binary_data_size":0 {text} \\"binary_data_size\\":0'):
        served = SERVED["tensor"].model_copy(update={"version": version})
        prepared = AnswerHead()
        outputs = [
            Output("label", ["a", "b"]),
            Output("probabilities", np.zeros((2, 3), dtype="<f4"), {"top_k": "3", "of": version}),
            Output("top_k_labels", ["a"] * 6, columns=3),
        ]
        for request_id, sizes in answers:
            expected = write_head(outputs, sizes, request_id=request_id, warnings={}, served=served)
            assert prepared.write(outputs, sizes, request_id=request_id, served=served) == expected
