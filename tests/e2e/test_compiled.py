"""A server with a compiled model under load gives the answers of the plain model, and never compiles again."""

import json
import os
import random
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest
import yaml
from example_folders import COLOURS
from example_folders import images as draw
from fresh_client import FRESH
from gateways import same_answer
from v2_client import binary_request, json_answer, json_request

if TYPE_CHECKING:
    from conftest import Bundles
    from gateways import Gateway

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which(os.environ.get("CXX", "g++")) is None, reason="torch.compile needs a C++ compiler: g++, or CXX"
    ),
]
MOST, CALIBRATION_ROWS = 64, 300
SERVER = {"max_batch_rows": MOST, "max_rows_per_request": MOST, "max_queue_rows": 8192, "max_body_bytes": 2**24}
DETAIL = {"detail": True}
RECOMPILING = "Recompiling function"
PIXELS = np.concatenate([draw(np.arange(56) % 3, 7), np.random.default_rng(0).integers(0, 256, (8, 3, 6, 8))])
ROWS = (PIXELS / 255).astype(np.float32)


@pytest.fixture(scope="module")
def serve(bundles: "Bundles", tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., "Gateway"]]:
    """Start servers of the images' model, compiled or not; they are stopped at the end."""
    started: list[Gateway] = []

    def start(*, compiled: bool, **environment: str) -> "Gateway":
        original = bundles.config("images")
        config = yaml.safe_load(original.read_text())
        config["model"]["compile"] = compiled
        config["server"] = SERVER
        path: Path = original.with_name(f"compiled-{len(started)}.yaml")
        path.write_text(yaml.safe_dump(config))
        graphs = str(tmp_path_factory.mktemp("graphs"))
        started.append(bundles.serve("images", config=path, TORCHINDUCTOR_CACHE_DIR=graphs, **environment))
        return started[-1]

    yield start
    for gateway in started:
        gateway.stop()


@pytest.fixture(scope="module")
def plain(serve: Callable[..., "Gateway"]) -> "Gateway":
    """Serve the model as it is."""
    return serve(compiled=False).wait_ready()


@pytest.fixture(scope="module")
def compiled(serve: Callable[..., "Gateway"]) -> "Gateway":
    """Serve it compiled, and let torch log whatever is compiled again for another shape."""
    gateway = serve(compiled=True, TORCH_LOGS="recompiles")
    gateway.expected += [r"\[__recompiles\]"]
    return gateway.wait_ready()


def as_v2(predictions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Leave of v1's answers what v2 has outputs for."""
    return [
        {key: value for key, value in said.items() if key not in ("prediction_set", "reasons")} for said in predictions
    ]


def from_v2(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Turn v2's outputs into what v1 says of each row."""
    tensors = json_answer(document)
    guards = next(o for o in document["outputs"] if o["name"] == "p_value")["parameters"]["guards"].split(",")
    return [
        {
            "id": tensors["id"][row],
            "label": tensors["label"][row],
            "action": tensors["action"][row],
            "probabilities": dict(zip(COLOURS, tensors["probabilities"][row].tolist(), strict=True)),
            "guards": {name: {"p_value": p} for name, p in zip(guards, tensors["p_value"][row].tolist(), strict=True)},
        }
        for row in range(len(tensors["id"]))
    ]


def ask(client: httpx.Client, door: str, chosen: list[int]) -> list[dict[str, Any]]:
    """Ask for some of the rows, each under an id of its own, by one of the doors."""
    x, ids = ROWS[chosen], [f"row {row}" for row in chosen]
    if door == "v1":
        response = client.post(
            "/v1/models/colours:predict", json={"instances": x.tolist(), "ids": ids, "parameters": DETAIL}
        )
        assert response.status_code == 200, response.text
        predictions: list[dict[str, Any]] = response.json()["predictions"]
        return predictions
    arrays = {"x": x, "id": np.array(ids, dtype=object)}
    body, headers = binary_request(arrays, parameters=DETAIL)
    if door == "v2 JSON":
        body, headers = (
            json.dumps(json_request(arrays, parameters=DETAIL)).encode(),
            {"Content-Type": "application/json"},
        )
    response = client.post("/v2/models/colours/infer", content=body, headers=headers)
    assert response.status_code == 200, response.text
    return from_v2(response.json())


def test_compiled_answers_are_the_plain_ones(plain: "Gateway", compiled: "Gateway") -> None:
    """Requests of 1 to 64 rows at once, by v1 and v2, are answered as without compiling; and no graph is made anew."""
    before = compiled.log().count(RECOMPILING)
    assert before >= MOST.bit_length() - 1, "every batch shape but the first was compiled while it warmed up"
    with httpx.Client(base_url=plain.url, timeout=120) as client:
        expected = [ask(client, "v1", [row])[0] for row in range(len(ROWS))]
    assert len({said["label"] for said in expected}) == 3
    assert len({said["action"] for said in expected}) >= 2
    rng = random.Random(0)  # noqa: S311
    sizes = [*range(1, MOST + 1), *[1] * 40, *[MOST] * 4]
    rng.shuffle(sizes)
    requests = [(door, rng.sample(range(MOST), size)) for size in sizes for door in ("v1", "v2 JSON", "v2 binary")]
    with httpx.Client(base_url=compiled.url, timeout=120) as client, ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda request: ask(client, *request), requests))
    for (door, chosen), answer in zip(requests, answers, strict=True):
        wanted = [expected[row] for row in chosen]
        if door != "v1":
            wanted = as_v2(wanted)
            for said in wanted:
                said["guards"] = {name: {"p_value": guard["p_value"]} for name, guard in said["guards"].items()}
        assert all(same_answer(*both, rows=CALIBRATION_ROWS) for both in zip(answer, wanted, strict=True)), (
            door,
            chosen,
        )
    assert compiled.log().count(RECOMPILING) == before, compiled.log()[-3000:]


def test_explanations_compile_nothing(compiled: "Gateway") -> None:
    """Explanations of any number of rows compile nothing: the process that explains runs the model as it is."""
    before = compiled.log().count(RECOMPILING)
    for rows in (1, 3, 5, 7, 32):
        body = {"instances": ROWS[:rows].tolist(), "parameters": {"steps": 2}}
        response = FRESH.post(f"{compiled.url}/v1/models/colours:explain", json=body)
        assert response.status_code == 200, response.text
    assert compiled.log().count(RECOMPILING) == before, compiled.log()[-3000:]


def test_without_a_compiler(serve: Callable[..., "Gateway"]) -> None:
    """If nothing can be compiled, the server is never ready, and `/readyz` gives the reason and the remedy."""
    gateway = serve(compiled=True, CXX="no-such-compiler")
    gateway.wait_listening()
    gateway.expected += ["model.compile"]
    for _ in range(1200):
        response = FRESH.get(f"{gateway.url}/readyz")
        assert response.status_code == 503
        if "loading" not in response.json()["detail"]:
            break
        time.sleep(0.1)
    assert "model.compile: the model cannot be compiled here" in response.json()["detail"]
    assert "set it to false" in response.json()["detail"]
    assert "Traceback" not in gateway.log()
