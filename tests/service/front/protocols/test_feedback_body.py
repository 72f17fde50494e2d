"""The body of feedback is read strictly, and refused as a whole, with every fault and its place."""

import json
from typing import Any

import pytest

from service.front.protocols.feedback import MAX_OUTCOMES, decode, encode
from service.front.protocols.problem import Problem
from service.messages.outcomes import Joined, Outcome

CLASSES = ("<=50K", ">50K")


def refused(outcomes: Any, classes: tuple[str, ...] = CLASSES, **more: Any) -> list[tuple[Any, ...]]:
    """Decode what must be refused, and give the places of the faults."""
    with pytest.raises(Problem) as problem:
        decode(json.dumps({"outcomes": outcomes, **more}).encode(), classes)
    assert problem.value.status == 422
    return [tuple(place) for place, _ in problem.value.errors]


def test_the_contracts_example() -> None:
    """A list of ids with labels, and what may come with them."""
    body = b'{"outcomes": [{"id": "order-17", "label": ">50K"}, {"id": "b", "label": "<=50K", "probability": 0.2}]}'
    assert decode(body, CLASSES) == [Outcome("order-17", ">50K"), Outcome("b", "<=50K", probability=0.2)]
    assert decode(b'{"outcomes": []}', CLASSES) == []


def test_regression_takes_numbers() -> None:
    """A label is a finite number if the model answers numbers."""
    assert decode(b'{"outcomes": [{"id": "a", "label": 3}]}', ()) == [Outcome("a", value=3.0)]
    for label in ("3", True, None, [1]):
        assert refused([{"id": "a", "label": label}], ()) == [("outcomes", 0, "label")]
    for literal in (b"NaN", b"Infinity", b"1e400"):
        with pytest.raises(Problem, match="1 fault"):
            decode(b'{"outcomes": [{"id": "a", "label": ' + literal + b"}]}", ())


def test_a_label_in_another_writing_is_the_models_label() -> None:
    """A string that is the same number or boolean as one label is that label; an ambiguous string is refused."""
    for written, classes, label in (
        ("7.0", ("3", "7"), "7"),
        ("7", ("3.0", "7.0"), "7.0"),
        ("7", ("7", "7.0"), "7"),
        ("true", ("False", "True"), "True"),
    ):
        body = json.dumps({"outcomes": [{"id": "a", "label": written}]}).encode()
        assert decode(body, classes) == [Outcome("a", label)]
    for written in ("7.00", "07", ""):
        assert refused([{"id": "a", "label": written}], ("7", "7.0")) == [("outcomes", 0, "label")]


@pytest.mark.parametrize(
    ("outcome", "key"),
    [
        ({"id": "a", "label": "maybe"}, "label"),
        ({"id": "a", "label": 1}, "label"),
        ({"id": "a", "label": None}, "label"),
        ({"id": "a"}, "label"),
        ({"label": ">50K"}, "id"),
        ({"id": "", "label": ">50K"}, "id"),
        ({"id": "x" * 257, "label": ">50K"}, "id"),
        ({"id": 17, "label": ">50K"}, "id"),
        ({"id": "a", "label": ">50K", "weight": 2}, "weight"),
        ({"id": "a", "label": ">50K", "probability": 0}, "probability"),
        ({"id": "a", "label": ">50K", "probability": 1.01}, "probability"),
        ({"id": "a", "label": ">50K", "probability": True}, "probability"),
        ({"id": "a", "label": ">50K", "probability": "0.5"}, "probability"),
    ],
)
def test_one_fault_refuses_the_whole_body(outcome: dict[str, Any], key: str) -> None:
    """The fault is listed with its place, even if the outcomes around it are sound."""
    sound = {"id": "b", "label": ">50K"}
    assert refused([sound, outcome, sound]) == [("outcomes", 1, key)]


def test_an_id_that_is_too_long_is_told_with_its_length() -> None:
    """An id may have 256 characters, here as with a prediction."""
    with pytest.raises(Problem) as problem:
        decode(json.dumps({"outcomes": [{"id": "x" * 512, "label": ">50K"}]}).encode(), CLASSES)
    (_, message) = problem.value.errors[0]
    assert message == "expected a string of 1 to 256 characters, got a string of 512 characters"


def test_every_fault_is_told() -> None:
    """Several outcomes, and several faults of one; the answer lists the first twenty of them."""
    assert refused([{"id": 1, "label": 2}, "x"]) == [("outcomes", 0, "id"), ("outcomes", 0, "label"), ("outcomes", 1)]
    with pytest.raises(Problem) as problem:
        decode(json.dumps({"outcomes": [{}] * 30}).encode(), CLASSES)
    assert len(json.loads(problem.value.body("r"))["errors"]) == 20


def test_bodies_that_are_no_feedback() -> None:
    """Another shape, another key and too many outcomes each have a sentence."""
    assert refused("x") == [("outcomes",)]
    assert refused([], more=1) == [("more",)]
    assert refused([{"id": "a", "label": ">50K"}] * (MAX_OUTCOMES + 1)) == [("outcomes",)]
    for body in (b"[]", b"{}"):
        with pytest.raises(Problem, match="1 fault"):
            decode(body, CLASSES)


@pytest.mark.parametrize("body", [b"", b"{", b'{"outcomes": [], "outcomes": []}', b"\xff"])
def test_what_is_no_json_is_400(body: bytes) -> None:
    """Duplicate keys too: one of two lists would be lost in silence."""
    with pytest.raises(Problem) as problem:
        decode(body, CLASSES)
    assert problem.value.status == 400


def test_the_answer_lists_ids() -> None:
    """How many were accepted, and which were not and why."""
    truths = [Outcome(name) for name in "abcd"]
    verdict = Joined(accepted=[0], duplicate=[1], conflicting=[2], unknown=[3])
    assert json.loads(encode(verdict, truths)) == {
        "accepted": 1, "duplicate": ["b"], "conflicting": ["c"], "unknown": ["d"],
    }  # fmt: skip
