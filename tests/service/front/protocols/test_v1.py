"""The v1 protocol: any JSON becomes rows or a list of faults, and any verdict an answer of the declared shape."""

import json
from typing import Any

import numpy as np
import orjson
import pytest
from example_folders import COLOURS, TABLE_CONFIG
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from local_engine import served_config

from guards.config.config import Config, parse
from guards.input.column import Column
from guards.input.schema import InputSchema
from guards.types import Action
from service.front.openapi.document import pages
from service.front.protocols.problem import Problem
from service.front.protocols.v1 import Request, decode, encode
from service.front.protocols.verdicts import shown_action
from service.messages.answer import Answer
from service.messages.served_model import ServedModel

TABLE = InputSchema(
    kind="tabular",
    shape=(3,),
    columns=(
        Column(name="age", kind="numeric", minimum=0, maximum=120),
        Column(name="job", kind="categorical", categories=("cook", "pilot")),
        Column(name="code", kind="categorical", categories=("1", "2"), categories_declared=True),
    ),
)
IMAGE = InputSchema(kind="image", shape=(1, 2, 3))
TENSOR = InputSchema(kind="tensor", shape=(2, 2))
SCHEMAS = {"table": TABLE, "image": IMAGE, "tensor": TENSOR}
GUARDS: list[dict[str, Any]] = [
    {"name": "quality", "detector": {"kind": "ranges"}, "action": "reject"},
    {"name": "ood", "detector": {"kind": "mahalanobis"}, "on_error": "reject"},
    {"name": "secret", "detector": {"kind": "confidence"}, "visible": False},
]


def config(**changes: Any) -> Config:
    """Make a config; its files need not be there."""
    return parse(TABLE_CONFIG | {"input": {"kind": "tabular"}, "guards": GUARDS} | changes)


def read(body: object, schema: InputSchema = TABLE, **options: Any) -> Request:
    """Decode a body."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return decode(
        raw,
        schema=schema,
        **{"max_rows": 50, "groups": ["sex"], "parameters": {"detail": bool}} | options,
    )


# In

junk = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
ROWS: dict[str, st.SearchStrategy[Any]] = {
    "table": st.fixed_dictionaries(
        {
            "age": st.none() | st.floats(-1e6, 1e6) | st.integers(-1000, 1000) | junk,
            "job": st.none() | st.sampled_from(["cook", "pilot", "x", ""]) | junk,
            "code": st.sampled_from(["1", "2", None, 1, 2, 3, 1.0, True]),
        },
        optional={"extra": junk},
    )
    | st.tuples(st.integers(0, 99), st.just("cook"), st.just("1")),
    "image": st.lists(
        st.lists(st.lists(st.floats(0, 1) | junk, min_size=3, max_size=3), min_size=2, max_size=2), max_size=2
    )
    | st.fixed_dictionaries({"b64": st.text(max_size=20) | st.binary(max_size=20).map(str)}),
    "tensor": st.lists(st.lists(st.floats() | st.integers(), min_size=2, max_size=2), min_size=2, max_size=2),
}


def bodies(kind: str) -> st.SearchStrategy[Any]:
    """Make up bodies that are nearly right."""
    return st.fixed_dictionaries(
        {"instances": st.lists(ROWS[kind] | junk, max_size=4) | junk},
        optional={
            "ids": st.lists(st.text(max_size=3) | junk, max_size=4) | junk,
            "groups": st.dictionaries(st.sampled_from(["sex", "x"]), st.lists(st.none() | st.text()) | junk) | junk,
            "parameters": st.dictionaries(st.sampled_from(["detail", "x"]), st.booleans() | junk) | junk,
            "other": junk,
        },
    )


@pytest.mark.parametrize("kind", SCHEMAS)
def test_any_json_is_rows_or_a_problem(kind: str) -> None:
    """No document crashes the decoder: it gives finite float32 rows, or faults with places that can be sent."""

    @given(bodies(kind) | junk)
    def check(body: Any) -> None:
        try:
            request = read(body, SCHEMAS[kind])
        except Problem as problem:
            _can_be_sent(problem)
            return
        n = len(body["instances"])
        assert request.x.shape == (n, *SCHEMAS[kind].shape)
        assert request.x.dtype == np.float32
        assert not np.isinf(request.x).any()
        assert len(set(request.ids)) == n
        assert all(len(values) == n for values in request.groups.values())

    check()


def _can_be_sent(problem: Problem) -> None:
    assert problem.status in {400, 422}
    told = json.loads(problem.body("r"))
    assert problem.status == 400 or 1 <= len(told["errors"]) <= 20
    assert all(error["msg"] for error in told["errors"])


@given(st.binary(max_size=80))
def test_any_bytes_are_a_problem(body: bytes) -> None:
    """Bytes that are no body are a Problem and nothing else."""
    with pytest.raises(Problem):
        read(body)


def _declared(schema: InputSchema) -> Draft202012Validator:
    fitted = config()
    document = json.loads(pages(served_config(fitted, schema, ("no", "yes")))["/openapi.json"][0])
    return Draft202012Validator(
        document["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    )


plain = st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-9, 9) | st.sampled_from(["", "cook", "x"])
LOOSE: dict[str, st.SearchStrategy[Any]] = {
    "table": st.dictionaries(st.sampled_from(["age", "job", "code", "x"]), plain, max_size=4)
    | st.fixed_dictionaries(
        {"age": plain, "job": plain, "code": st.sampled_from(["1", None, 1, 2, 3, 1.0, 2.5, "x", True])}
    )
    | st.lists(plain, min_size=2, max_size=4),
    "tensor": st.lists(st.lists(plain, min_size=1, max_size=3), min_size=1, max_size=3) | plain,
}


@pytest.mark.parametrize("kind", LOOSE)
def test_the_decoder_takes_what_the_schema_declares(kind: str) -> None:
    """For rows of ordinary numbers, the declared JSON Schema and the decoder agree on what is well-formed."""
    declared = _declared(SCHEMAS[kind])

    @given(st.lists(LOOSE[kind], max_size=3))
    def check(instances: list[Any]) -> None:
        body = {"instances": instances}
        try:
            read(body, SCHEMAS[kind])
            taken = True
        except Problem:
            taken = False
        assert taken == declared.is_valid(body)

    check()


def test_rows_become_columns() -> None:
    """Numbers are numbers, categories their index, null is NaN, an unseen category -1."""
    request = read(
        {
            "instances": [
                {"age": 5, "job": "pilot", "code": "2"},
                [None, None, None],
                {"code": "9", "job": "x", "age": -1.5},
            ]
        }
    )
    assert np.array_equal(
        request.x, np.array([[5, 1, 1], [np.nan] * 3, [-1.5, -1, -1]], dtype=np.float32), equal_nan=True
    )


def test_an_id_that_is_too_long_is_told_with_its_length() -> None:
    """An id may have 256 characters; of a longer one the answer says how long it is."""
    assert read({"instances": [[None] * 3], "ids": ["x" * 256]}).ids == ["x" * 256]
    with pytest.raises(Problem) as problem:
        read({"instances": [[None] * 3], "ids": ["x" * 512]})
    (_, message) = problem.value.errors[0]
    assert message == "expected a string of 1 to 256 characters, got a string of 512 characters"


def test_row_ids_are_made_anew_for_each_request() -> None:
    """Without ids, row i is called ID-i, and no two requests get the same ID."""
    body = {"instances": [[None] * 3] * 3}
    made = [read(body).ids for _ in range(100)]
    ids = [name.rpartition("-")[0] for names in made for name in names]
    assert [name.rpartition("-")[2] for name in made[0]] == ["0", "1", "2"]
    assert len(set(ids)) == 100


def test_an_integer_names_a_category_that_is_written_as_one() -> None:
    """A category of digits may come as a number, but only if there is such a category."""
    assert read({"instances": [{"age": 1, "job": "cook", "code": 2}]}).x.tolist() == [[1, 0, 1]]
    with pytest.raises(Problem):
        read({"instances": [{"age": 1, "job": 2, "code": "2"}]})


def test_too_many_rows_are_not_looked_at() -> None:
    """Over max_rows_per_request there is one fault, not one for each row."""
    with pytest.raises(Problem) as refused:
        read({"instances": [5] * 51})
    assert [loc for loc, _ in refused.value.errors] == [("instances",)]


# Out


def served_like(fitted: Config, classes: tuple[str, ...]) -> ServedModel:
    """Describe a model of the table."""
    return served_config(fitted, TABLE, classes, {"quality": ("age", "job", "code")})


@st.composite
def answers(draw: st.DrawFn, k: int) -> Answer:
    """Make up what the pipeline may say of some rows: k classes, or a regression."""
    n, g = draw(st.integers(1, 5)), len(GUARDS)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    p_value = rng.uniform(0, 1, (n, g)).astype(np.float32)
    p_value[rng.random((n, g)) < 0.2] = np.nan
    flagged = (rng.random((n, g)) < 0.3) & ~np.isnan(p_value)
    classified = k > 0
    probabilities = rng.dirichlet(np.ones(max(k, 1)), n).astype(np.float32)
    return Answer(
        action=rng.integers(0, 4, n),
        p_value=p_value,
        flagged=flagged,
        violated=None,
        causes={"quality": rng.random((n, 3)) < 0.5} if rng.random() < 0.8 else {},
        probabilities=probabilities if classified else None,
        label=probabilities.argmax(1) if classified else None,
        members=probabilities > 0.3 if classified and rng.random() < 0.7 else None,
        value=None if classified else rng.normal(size=n).astype(np.float32),
        interval=None if classified or rng.random() < 0.3 else np.sort(rng.normal(size=(n, 2))).astype(np.float32),
    )


@pytest.mark.parametrize("mode", ["enforce", "shadow"])
@pytest.mark.parametrize("classes", [COLOURS, ()])
def test_any_answer_has_the_declared_shape(mode: str, classes: tuple[str, ...]) -> None:
    """Whatever guards and model answer, the answer holds the contract: nulls, absences, reasons, nothing hidden."""
    task = {"model": {"builder": "m:b", "task": "classification" if classes else "regression"}}
    fitted = config(mode=mode, **task, monitors=[])
    document = json.loads(pages(served_like(fitted, classes))["/openapi.json"][0])
    content = document["paths"]["/predict"]["post"]["responses"]["200"]["content"]
    declared = Draft202012Validator(content["application/json"]["schema"])

    @given(answers(len(classes)), st.booleans(), st.sampled_from([None, 1, 2, 3]))
    def check(answer: Answer, detail: bool, top_k: int | None) -> None:
        ids = [f"i{row}" for row in range(len(answer))]
        top_k = top_k if classes else None
        body, strictest = encode(answer, ids=ids, served=served_like(fitted, classes), detail=detail, top_k=top_k)
        said = orjson.loads(body)
        declared.validate(said)
        assert b"secret" not in body
        rows = said["predictions"]
        assert [row["id"] for row in rows] == ids
        assert strictest == max(Action[row["action"].upper()] for row in rows)
        for index, row in enumerate(rows):
            withheld = row["action"] in {"abstain", "reject"}
            assert withheld == (answer.action[index] >= Action.ABSTAIN)
            if withheld:
                assert row["label"] is None
            assert not withheld or not {"probabilities", "prediction_set", "value", "interval"} & row.keys()
            assert withheld or ("probabilities" in row) == bool(classes)
            assert withheld or not classes or len(row["probabilities"]) == (top_k or len(classes))
            assert withheld or ("value" in row) == (not classes)
            assert ("guards" in row) == detail
            if mode == "shadow":
                assert row["reasons"] == []
            if detail:
                assert list(row["guards"]) == ["quality", "ood"]
                for guard in row["guards"].values():
                    assert guard["flagged"] or not guard["causes"]

    check()


@pytest.mark.parametrize(
    ("action", "reasons", "shown"),
    [
        (Action.FLAG, [], Action.ALLOW),
        (Action.FLAG, ["ood"], Action.FLAG),
        (Action.ABSTAIN, [], Action.ABSTAIN),
        (Action.REJECT, [], Action.REJECT),
        (Action.ALLOW, [], Action.ALLOW),
    ],
)
def test_a_hidden_flag_is_not_shown(action: Action, reasons: list[str], shown: Action) -> None:
    """A flag without a visible reason would give away a hidden guard, so it is not shown; a withheld answer is."""
    assert shown_action(action, reasons) == shown


def classified(probabilities: Any, members: Any = None) -> Answer:
    """Answer rows of a classifier (n, k), all of them allowed."""
    n = len(probabilities)
    return Answer(
        action=np.zeros(n, dtype=np.int64),
        p_value=np.ones((n, 3), dtype=np.float32),
        flagged=np.zeros((n, 3), dtype=bool),
        violated=None,
        causes={},
        probabilities=np.asarray(probabilities, dtype=np.float32),
        label=np.argmax(probabilities, axis=1),
        members=members,
        value=None,
        interval=None,
    )


def said_of(answer: Answer, classes: tuple[str, ...], top_k: int | None = None) -> dict[str, Any]:
    """Write an answer, and read it."""
    ids = [str(row) for row in range(len(answer))]
    document: dict[str, Any] = orjson.loads(
        encode(answer, ids=ids, served=served_like(config(), classes), detail=False, top_k=top_k)[0]
    )
    return document


def test_prediction_sets_are_ordered_by_probability() -> None:
    """The likeliest label comes first, and only members are in."""
    document = said_of(classified([[0.3, 0.1, 0.6]], np.array([[True, False, True]])), COLOURS)
    (said,) = document["predictions"]
    assert said["label"] == "blue"
    assert said["prediction_set"] == ["blue", "red"]
    assert list(said["probabilities"]) == list(COLOURS)
    assert document.keys() == {"predictions", "model"}


def test_the_most_probable_labels_are_named_and_counted() -> None:
    """With `top_k` the most probable labels come first, with the same bits; the answer says of how many they are."""
    answer = classified([[0.3, 0.1, 0.6], [0.2, 0.5, 0.3]])
    whole, document = said_of(answer, COLOURS), said_of(answer, COLOURS, 2)
    assert [list(said["probabilities"]) for said in document["predictions"]] == [["blue", "red"], ["green", "blue"]]
    for said, all_of_it in zip(document["predictions"], whole["predictions"], strict=True):
        assert said["probabilities"].items() <= all_of_it["probabilities"].items()
        assert said["label"] == all_of_it["label"] == next(iter(said["probabilities"]))
    assert (document["top_k"], document["classes"]) == (2, 3)
    assert "top_k" not in said_of(answer, COLOURS, 3)


@pytest.mark.parametrize(("top_k", "named"), [(5, 100), (250, 250), (None, 400)])
def test_a_set_of_many_labels_is_cut_and_counted(top_k: int | None, named: int) -> None:
    """A set names at most 100 labels, or `top_k` if that is more, or all; a set that is cut says how many it has."""
    many = tuple(f"label {place}" for place in range(400))
    probabilities = np.random.default_rng(0).dirichlet(np.ones(400), 4)
    members = np.zeros((4, 400), bool)
    for row, size in enumerate((0, 7, 100, 400)):
        members[row, np.argsort(-probabilities[row])[:size]] = True
    document = said_of(classified(probabilities, members), many, top_k)
    sizes = [len(said["prediction_set"]) for said in document["predictions"]]
    assert sizes == [0, 7, 100, named]
    assert [said.get("prediction_set_size") for said in document["predictions"]] == [
        None, None, None, 400 if named < 400 else None,
    ]  # fmt: skip
    order = np.argsort(-probabilities[3].astype(np.float32), kind="stable")
    assert document["predictions"][3]["prediction_set"] == [many[place] for place in order[:named]]
