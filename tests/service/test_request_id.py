"""Ids of requests: the caller's if it is valid, else one that sorts by time."""

import pytest

from service.request_id import known_or_new, new_id


def test_made_ids_are_in_the_order_of_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is made once, and a later one sorts behind earlier ones; the caller's valid id stays."""
    clock = iter(range(10**18, 10**18 + 200 * 10**6, 10**6))
    monkeypatch.setattr("service.request_id.time.time_ns", lambda: next(clock))
    ids = [known_or_new(b"") for _ in range(100)]
    assert ids == sorted(set(ids))
    assert {len(one) for one in ids} == {32}
    assert known_or_new(b"mine") == "mine"


def test_ids_of_one_moment_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two servers whose clocks say the same make different ids."""
    monkeypatch.setattr("service.request_id.time.time_ns", lambda: 10**18)
    assert len({new_id() for _ in range(1000)}) == 1000
