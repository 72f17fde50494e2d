"""The body of a change: what is wrong is said with its place, and no bytes end in another exception."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.front.protocols.monitor_changes import LONGEST_REASON, decode
from service.front.protocols.problem import Problem
from service.messages.monitor_changes import KINDS, Kind

MONITORS = ("drift", "sex")
NAMES = st.sampled_from(["principal", "monitor", "reason", "x"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5) | st.sampled_from(["drift", "shop"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner),
    max_leaves=6,
)


def test_a_sound_body_is_read() -> None:
    """The subject and the reason are given back as they were sent."""
    body = orjson.dumps({"principal": "shop.eu-1", "reason": "Müll seit Montag"})
    assert decode(body, "exclude", MONITORS) == ("shop.eu-1", "Müll seit Montag")
    assert decode(b'{"monitor": "drift", "reason": "x"}', "reset", MONITORS) == ("drift", "x")


@pytest.mark.parametrize(
    ("kind", "document", "places"),
    [
        ("exclude", {}, {"principal", "reason"}),
        ("include", {"principal": "", "reason": "x"}, {"principal"}),
        ("exclude", {"principal": "a/b", "reason": "x"}, {"principal"}),
        ("exclude", {"principal": "a\n", "reason": "x"}, {"principal"}),
        ("exclude", {"principal": ["a"], "reason": "x"}, {"principal"}),
        ("exclude", {"principal": "a", "reason": ""}, {"reason"}),
        ("exclude", {"principal": "a", "reason": "  "}, {"reason"}),
        ("exclude", {"principal": "a", "reason": "x" * (LONGEST_REASON + 1)}, {"reason"}),
        ("exclude", {"principal": "a", "reason": "two\nlines"}, {"reason"}),
        ("exclude", {"principal": "a", "reason": 7}, {"reason"}),
        ("exclude", {"monitor": "drift", "reason": "x"}, {"monitor", "principal"}),
        ("reset", {"monitor": "nothing", "reason": "x"}, {"monitor"}),
        ("reset", {"monitor": None, "reason": "x", "force": True}, {"monitor", "force"}),
    ],
)
def test_every_fault_has_its_place(kind: Kind, document: dict[str, Any], places: set[str]) -> None:
    """A body with faults is 422, and lists the key of each."""
    with pytest.raises(Problem) as refused:
        decode(orjson.dumps(document), kind, MONITORS)
    assert int(refused.value.status) == 422
    assert {str(key) for loc, _ in refused.value.errors for key in loc} == places


@given(st.sampled_from(KINDS), st.binary(max_size=60) | JSON.map(orjson.dumps))
def test_any_bytes_are_read_or_refused(kind: Kind, body: bytes) -> None:
    """Whatever a client sends is a change with a reason of one line, or 400, or 422."""
    status = 200
    try:
        subject, reason = decode(body, kind, MONITORS)
    except Problem as problem:
        status = int(problem.status)
    else:
        assert reason.isprintable()
        assert subject in MONITORS if kind == "reset" else subject.isascii()
    assert status in (200, 400, 422)
