"""The content of one request changes no other request: neither its answer, nor whether it is answered."""

import asyncio
import itertools
import random
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from example_folders import ALLOWED, CRASH_HIDDEN, CRASH_MODEL, CRASH_WIRE, loans
from gateways import faults_allowed, same_answer

if TYPE_CHECKING:
    from gateways import Gateway

REQUESTS = 200
MALFORMED = [
    b"{",
    b'{"instances": [5]}',
    b'{"instances": [], "instances": []}',
    b"\xff",
    b'{"instances": [{"age": "x"}]}',
]


def _bodies() -> list[dict[str, Any]]:
    rng = random.Random(7)  # noqa: S311
    sizes = [rng.choice([1, 1, 1, 2, 3, 7, 20, 64, 130]) for _ in range(REQUESTS)]
    return [
        {
            "instances": loans(size, seed=i),
            "ids": [f"{i}/{row}" for row in range(size)],
            "parameters": {"detail": True},
        }
        for i, size in enumerate(sizes)
    ]


async def _all_at_once(gateway: "Gateway", bodies: list[dict[str, Any] | bytes]) -> list[httpx.Response]:
    async with gateway.async_client(connections=64) as client:

        async def send(body: dict[str, Any] | bytes) -> httpx.Response:
            if isinstance(body, bytes):
                headers = {"Content-Type": "application/json"}
                return await client.post(gateway.predict_path, content=body, headers=headers)
            return await client.post(gateway.predict_path, json=body)

        return await asyncio.gather(*map(send, bodies))


def test_every_concurrent_request_gets_its_own_answer(table: "Gateway") -> None:
    """200 requests at once, among them malformed ones and rows that crash guards and the model: each gets its own."""
    good = _bodies()
    alone = [table.post(body).json()["predictions"] for body in good]
    crashing_guards = {
        "instances": [ALLOWED, ALLOWED | {"trap": CRASH_HIDDEN}, ALLOWED | {"trap": CRASH_WIRE}, ALLOWED],
        "ids": ["before", "hidden", "wire", "after"],
    }
    crashing_model = {"instances": [ALLOWED, ALLOWED | {"trap": CRASH_MODEL}], "ids": ["x", "y"]}
    bodies: list[dict[str, Any] | bytes] = [*good, *MALFORMED, crashing_guards, crashing_model]
    order = list(range(len(bodies)))
    random.Random(1).shuffle(order)  # noqa: S311
    with faults_allowed(table, "a batch failed: ValueError", "ValueError while answering request"):
        shuffled = asyncio.run(_all_at_once(table, [bodies[i] for i in order]))
        for response in shuffled:
            table.check(response)
    responses = [response for _, response in sorted(zip(order, shuffled, strict=True), key=lambda pair: pair[0])]
    for response, expected in zip(responses[:REQUESTS], alone, strict=True):
        assert response.status_code == 200
        assert all(map(same_answer, response.json()["predictions"], expected))
    refused = responses[REQUESTS : REQUESTS + len(MALFORMED)]
    assert [response.status_code for response in refused] == [400, 422, 400, 400, 422]
    guarded, broken = responses[-2:]
    assert [said["action"] for said in guarded.json()["predictions"]] == ["allow", "allow", "reject", "allow"]
    assert broken.status_code == 500
    assert len({response.headers["x-request-id"] for response in responses}) == len(responses)
    metrics = table.metrics()
    assert metrics["guardhouse_queue_rows"] == 0
    assert metrics["guardhouse_inflight_requests"] == 0


@pytest.mark.parametrize("rows", [1, 2, 5, 64])
def test_same_rows_give_equal_bits(table: "Gateway", rows: int) -> None:
    """The same rows sent alone get the very same bytes, again and again and by every door."""
    body = {"instances": loans(rows, seed=99), "ids": [str(i) for i in range(rows)], "parameters": {"detail": True}}
    answers = {table.post(body, path).content for path in (None, "/predict") for _ in range(5)}
    assert len(answers) == 1


def test_order_of_rows_does_not_matter(table: "Gateway") -> None:
    """A row's answer goes with the row."""
    rows = loans(40, seed=3)
    ids = [str(i) for i in range(40)]
    forward = table.predict(rows, ids=ids, parameters={"detail": True})
    backward = table.predict(rows[::-1], ids=ids[::-1], parameters={"detail": True})
    assert all(map(same_answer, forward, reversed(backward)))


def test_answers_to_a_flood_stay_bounded(values: "Gateway") -> None:
    """More requests than the queue holds are answered, every one, with an answer or with 503 and when to come again."""
    bodies: list[dict[str, Any] | bytes] = [{"instances": [[i / 100, 1, 1]]} for i in range(150)]
    responses = asyncio.run(_all_at_once(values, bodies))
    for i, response in zip(itertools.count(), responses):
        values.check(response)
        assert response.status_code in {200, 503}
        if response.status_code == 200:
            assert response.json()["predictions"][0]["value"] == pytest.approx(3 * i / 100 - 1, abs=1e-4)
