"""Ids of requests: the caller's id if it is valid, else an id that sorts by time."""

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from service.front.request_id import READ_IDS, known_or_new, new_id


def test_made_ids_are_in_the_order_of_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is made once, and a later one sorts behind earlier ones; the caller's valid id stays."""
    clock = iter(range(10**18, 10**18 + 200 * 10**6, 10**6))
    monkeypatch.setattr("service.front.request_id.time.time_ns", lambda: next(clock))
    ids = [known_or_new(b"") for _ in range(100)]
    assert ids == sorted(set(ids))
    assert {len(one) for one in ids} == {32}
    assert known_or_new(b"mine") == "mine"


def test_ids_of_one_moment_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two servers whose clocks say the same make different ids."""
    monkeypatch.setattr("service.front.request_id.time.time_ns", lambda: 10**18)
    assert len({new_id() for _ in range(1000)}) == 1000


def test_no_id_is_made_twice() -> None:
    """Threads that make many more ids than are prepared at once never get one that another thread got."""
    with ThreadPoolExecutor(8) as pool:
        made = [
            one.result() for one in [pool.submit(lambda: [new_id()[12:] for _ in range(READ_IDS)]) for _ in range(40)]
        ]
    ids = [one for several in made for one in several]
    assert len(set(ids)) == len(ids) == 40 * READ_IDS
    assert all(re.fullmatch("[0-9a-f]{20}", one) for one in ids)


def test_a_forked_process_makes_other_ids() -> None:
    """A forked process does not inherit the prepared ids."""
    script = (
        "import os; from service.front.request_id import new_id; new_id()\n"
        "child = os.fork(); os.write(1, (new_id()[12:] + '\\n').encode())\n"
        "if child: raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))"
    )
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    assert len(set(told.stdout.split())) == 2, told


def test_a_callers_id_is_kept() -> None:
    """A valid one is passed on as it is; any other is replaced."""
    assert known_or_new(b"order-17") == "order-17"
    assert {len(known_or_new(bad)) for bad in (b"", b"two words", b"x" * 129, b"\xff")} == {32}
