"""Who may enter by the head of a request."""

from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from service.front.admission import Admission, need
from service.front.protocols.problem import Problem
from service.keys.key_file import add_key
from service.keys.keyring import Keyring


@pytest.fixture
def gate(tmp_path: Path) -> tuple[Admission, bytes]:
    """Make a door that knows one principal, which may predict."""
    path = tmp_path / "keys.yaml"
    key = add_key(path, "shop", ["predict"]).encode()
    return Admission(Keyring(path)), key


def refused(admission: Admission, fields: list[tuple[bytes, bytes]], needs: Any = "predict") -> Problem:
    with pytest.raises(Problem) as problem:
        need(admission.caller(fields, needs), needs)
    return problem.value


@pytest.mark.parametrize("form", ["bearer", "lower", "header"])
def test_a_key_enters_by_either_header(gate: tuple[Admission, bytes], form: str) -> None:
    """A key travels as a bearer token, whose scheme has no case, or in X-API-Key."""
    admission, key = gate
    forms = {
        "bearer": (b"authorization", b"Bearer " + key),
        "lower": (b"authorization", b"bEARER  " + key),
        "header": (b"x-api-key", key),
    }
    for needs in ("predict", "a key"):
        principal = admission.caller([(b"host", b"a"), forms[form]], needs)  # type: ignore[arg-type]
        assert principal is not None
        assert principal.name == "shop"


def test_without_keys_everybody_may_do_everything() -> None:
    """Nobody is refused for a scope if there are no keys."""
    need(None, "predict")


def test_probes_need_nothing(gate: tuple[Admission, bytes]) -> None:
    """A route that needs nothing looks at no key, not even a wrong one."""
    assert gate[0].caller([(b"x-api-key", b"wrong")], "nothing") is None


def test_who_is_refused(gate: tuple[Admission, bytes]) -> None:
    """No key and a wrong key are 401 with a challenge, a missing scope is 403, two keys are 400."""
    admission, key = gate
    for fields in ([], [(b"x-api-key", b"wrong")], [(b"authorization", b"Basic " + key)], [(b"authorization", key)]):
        problem = refused(admission, fields)
        assert problem.status == HTTPStatus.UNAUTHORIZED
        assert problem.headers == {"WWW-Authenticate": "Bearer"}
        assert key.decode() not in problem.sentence
    problem = refused(admission, [(b"x-api-key", key)], "feedback")
    assert problem.status == HTTPStatus.FORBIDDEN
    assert "`feedback`" in problem.sentence
    twice = [(b"x-api-key", key), (b"authorization", b"Bearer " + key)]
    assert refused(admission, twice).status == HTTPStatus.BAD_REQUEST
    assert refused(admission, [(b"x-api-key", key)] * 2).status == HTTPStatus.BAD_REQUEST
