"""Requests that are each within their limit, and together would fill the memory of a front."""

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

import pytest
from example_folders import ALLOWED
from fresh_client import FRESH
from peak_memory import Peak
from waiting import until

from service.front.memory_room import BODIES_AT_ONCE, TREES_AT_ONCE

if TYPE_CHECKING:
    from gateways import Gateway

MEGABYTE = 1 << 20
LARGEST = 16 * MEGABYTE
BODY_BYTES, TREE_BYTES = BODIES_AT_ONCE * LARGEST, TREES_AT_ONCE * LARGEST
SLACK = 160 * MEGABYTE
"""What sockets, the client's parts of bodies and the allocator add to what is counted."""
BOMBS = {
    "lists": b"[" + b"[]," * (LARGEST // 3 - 1) + b"1]",
    "objects": b"[" + b"{}," * (LARGEST // 3 - 1) + b"1]",
    "members": b"[" + b'{"":{}},' * (LARGEST // 8 - 1) + b"1]",
    "lists that just fit": b"[" + b"[]," * (LARGEST // 6) + b" " * (LARGEST // 2 - 3) + b"1]",
}
GOOD = {"instances": [ALLOWED]}


@pytest.fixture(autouse=True)
def _slow_disk(table: "Gateway") -> None:
    """While bombs take every core, the store's process, of low priority, may be late for more than five seconds."""
    table.expected += ["the database has not answered", "the store is back"]


@pytest.mark.parametrize("name", BOMBS)
def test_many_bombs_of_json_are_read_one_after_the_other(table: "Gateway", name: str) -> None:
    """A dozen bodies that unfold to many times their size are refused, or read one at a time; others are answered."""
    peak = Peak(table)
    with ThreadPoolExecutor(12) as pool:
        asked = [pool.submit(FRESH.post, f"{table.url}/predict", content=BOMBS[name], timeout=300) for _ in range(12)]
        assert FRESH.post(f"{table.url}/predict", json=GOOD, timeout=300).status_code == 200
        answers = [each.result() for each in asked]
    fits = name == "lists that just fit"
    assert {answer.status_code for answer in answers} <= ({422, 503} if fits else {413, 503})
    assert any(answer.status_code != 503 for answer in answers)  # one at a time is read
    for answer in answers:
        if answer.status_code == 503:
            assert answer.headers["retry-after"] == "1"
    assert peak.grown() < BODY_BYTES + 2 * TREE_BYTES + SLACK


def test_bodies_that_never_end_have_one_bound(table: "Gateway") -> None:
    """Many connections that each hold a body less a byte are refused beyond the bound; small requests are answered."""
    peak = Peak(table)
    head = f"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {LARGEST}\r\n\r\n"
    part = b" " * MEGABYTE
    with ExitStack() as stack:
        connections = [stack.enter_context(table.connect()) for _ in range(40)]
        for connection in connections:
            connection.sendall(head.encode())
        refused = set()
        for _ in range(15):
            for connection in connections:
                if connection not in refused:
                    try:
                        connection.sendall(part)
                    except OSError:
                        refused.add(connection)
        assert peak.grown() < BODY_BYTES + SLACK
        assert FRESH.post(f"{table.url}/predict", json=GOOD, timeout=60).status_code == 200
        shed = table.metrics()['guardhouse_shed_requests_total{reason="memory"}']
        assert shed >= 40 - BODY_BYTES // (15 * MEGABYTE) - 1
    until(lambda: _large_body_is_taken(table))


def _large_body_is_taken(gateway: "Gateway") -> bool:
    body = json.dumps(GOOD).encode() + b" " * (LARGEST - 1000)
    with suppress(OSError):
        return FRESH.post(f"{gateway.url}/predict", content=body, timeout=60).status_code == 200
    return False
