"""Unmodified clients of other projects: the same rows get the same bits by every protocol."""

import base64
import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from example_folders import ABSTAINED, ALLOWED, FLAGGED, HIDDEN, REJECTED, WIRED
from example_folders import images as draw
from gateways import NEEDS_BENTOML
from image_files import png
from v2_client import Speaker, binary_request, columns, head, json_answer, json_request, same_bits, v1_answer

if TYPE_CHECKING:
    from types import ModuleType

SUPPORT = Path(__file__).parents[2] / "support"
MISSING = ALLOWED | {"income": None, "job": None}
LOANS = [ALLOWED, FLAGGED, ABSTAINED, REJECTED, HIDDEN, WIRED, MISSING, ALLOWED | {"job": None}]
VALUES = [[1.0, 2.0, 0.5], [0.1, 0.2, 0.3], [900.0, -900.0, 900.0]]
PIXELS = draw(np.array([0, 1, 2]), 5)
BLACK = np.zeros((1, 3, 6, 8), dtype=np.uint8)
DETAIL = {"detail": True}
Case = tuple[Speaker, list[Any], list[dict[str, Any]]]


@pytest.fixture(params=["table", "images", "values"])
def case(request: pytest.FixtureRequest) -> Case:
    """Give a server, rows as v1 takes them, and the same rows as arrays; each is a request of its own."""
    if request.param == "table":
        return request.getfixturevalue("loans"), list(LOANS), [columns([row]) for row in LOANS]
    if request.param == "values":
        arrays = [{k: np.array([v], dtype=np.float32) for k, v in zip("abc", row, strict=True)} for row in VALUES]
        return request.getfixturevalue("numbers"), list(VALUES), arrays
    pixels = np.concatenate([PIXELS, BLACK])
    x = pixels.astype(np.float32) / np.float32(255)
    return request.getfixturevalue("colours"), x.tolist(), [{"x": one[None]} for one in x]


def v1(speaker: Speaker, row: Any, name: str = "same") -> dict[str, Any]:
    """Ask by v1."""
    return v1_answer(speaker.gateway.predict([row], ids=[name], parameters=DETAIL))


def test_v2_json_and_binary_are_v1(case: Case) -> None:
    """JSON, flat or nested, and binary data are read as v1's numbers are, and answered with the same bits."""
    speaker, rows, requests = case
    name = np.array(["same"], dtype=object)
    for row, arrays in zip(rows, requests, strict=True):
        expected = v1(speaker, row)
        for nested in (False, True):
            document = json_request({**arrays, "id": name}, nested=nested, parameters=DETAIL)
            response = speaker.gateway.post(document, speaker.infer_path)
            assert response.status_code == 200, response.text
            assert same_bits(json_answer(response.json()), expected)
            assert response.headers["X-Guardhouse-Action"] == expected["action"][0]
        body, headers = binary_request({**arrays, "id": name}, parameters=DETAIL)
        response = speaker.gateway.client.post(speaker.infer_path, content=body, headers=headers)
        assert same_bits(json_answer(response.json()), expected)


@pytest.mark.parametrize("door", ["http", "http-json", "grpc"])
def test_triton(case: Case, door: str) -> None:
    """Unmodified tritonclient over HTTP, with binary data and without, and over gRPC gets v1's bits."""
    module: ModuleType = pytest.importorskip(f"tritonclient.{door.removesuffix('-json')}")
    speaker, rows, requests = case
    url = speaker.rpc if door == "grpc" else speaker.gateway.url.removeprefix("http://")
    binary = {} if door == "grpc" else {"binary_data": door == "http"}
    model = speaker.gateway.name
    client = module.InferenceServerClient(url)
    try:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready(model)
        wanted = [module.InferRequestedOutput(name, **binary) for name in v1(speaker, rows[0])]
        for row, arrays in zip(rows, requests, strict=True):
            if door == "http-json" and any(a.dtype.kind == "f" and np.isnan(a).any() for a in arrays.values()):
                continue  # this client writes a NaN literal, which is no JSON
            inputs = []
            for name, array in {**arrays, "id": np.array(["same"], dtype=object)}.items():
                tensor = module.InferInput(name, list(array.shape), head(name, array)["datatype"])
                tensor.set_data_from_numpy(array, **binary)
                inputs.append(tensor)
            result = client.infer(model, inputs, outputs=wanted, request_id="42")
            expected = v1(speaker, row)
            answer = {one.name(): result.as_numpy(one.name()) for one in wanted}
            assert same_bits(answer, expected)
            assert answer.keys() >= expected.keys()
            response = result.get_response()
            assert (response["id"] if isinstance(response, dict) else response.id) == "42"
    finally:
        client.close()


def test_triton_defaults(loans: Speaker) -> None:
    """Without outputs named, tritonclient asks for binary data and gets all but the p-values."""
    http = pytest.importorskip("tritonclient.http")
    inputs = []
    for name, array in columns(LOANS).items():
        inputs.append(http.InferInput(name, [len(LOANS)], head(name, array)["datatype"]))
        inputs[-1].set_data_from_numpy(array)
    client = http.InferenceServerClient(loans.gateway.url.removeprefix("http://"))
    result = client.infer("loans", inputs, model_version="2024.1")
    client.close()
    predictions = loans.gateway.predict(LOANS)
    assert [action.decode() for action in result.as_numpy("action")] == [said["action"] for said in predictions]
    assert [label.decode() for label in result.as_numpy("label")] == [said["label"] or "" for said in predictions]
    silent = [said["label"] is None for said in predictions]
    assert np.isnan(result.as_numpy("probabilities")).all(1).tolist() == silent
    assert {True, False} == set(silent)
    assert result.as_numpy("p_value") is None


@pytest.mark.parametrize("door", ["http", "grpc"])
@pytest.mark.parametrize("server", ["loans", "colours", "numbers"])
def test_a_client_that_knows_the_metadata_alone(request: pytest.FixtureRequest, server: str, door: str) -> None:
    """All inputs of the metadata together are a request; so is each alternative; and the optional ones go with both."""
    module: ModuleType = pytest.importorskip(f"tritonclient.{door}")
    speaker: Speaker = request.getfixturevalue(server)
    described = speaker.gateway.client.get(f"/v2/models/{speaker.gateway.name}").json()
    client = module.InferenceServerClient(
        speaker.rpc if door == "grpc" else speaker.gateway.url.removeprefix("http://")
    )
    told = client.get_model_metadata(speaker.gateway.name, **({"as_json": True} if door == "grpc" else {}))
    assert [spec["name"] for spec in told["inputs"]] == [spec["name"] for spec in described["inputs"]]
    instead, beside = described["parameters"]["alternatives"], described["parameters"]["optional"]
    for specs in (described["inputs"], *instead, *[[*rows, *beside] for rows in (described["inputs"], *instead)]):
        tensors = []
        for spec in specs:
            shape = [1 if size == -1 else size for size in spec["shape"]]
            text: Any = png(pixels=PIXELS[0].transpose(1, 2, 0).copy()) if spec["name"] == "x" else "Female"
            blank = {"BYTES": np.full(shape, text, dtype=object), "UINT8": np.zeros(shape, dtype=np.uint8)}
            tensors.append(module.InferInput(spec["name"], shape, spec["datatype"]))
            tensors[-1].set_data_from_numpy(blank.get(spec["datatype"], np.zeros(shape, dtype=np.float32)))
        outputs = client.infer(speaker.gateway.name, tensors)
        assert outputs.as_numpy("action").shape == (1,), specs
    client.close()


@pytest.mark.parametrize("door", ["http", "grpc"])
def test_triton_tells_what_is_wrong(loans: Speaker, door: str) -> None:
    """Unmodified tritonclient shows the protocol's error string: which tensor, and what of it."""
    module: ModuleType = pytest.importorskip(f"tritonclient.{door}")
    from tritonclient.utils import InferenceServerException

    url = loans.rpc if door == "grpc" else loans.gateway.url.removeprefix("http://")
    client = module.InferenceServerClient(url)
    tensor = module.InferInput("age", [1], "FP32")
    tensor.set_data_from_numpy(np.zeros(1, dtype=np.float32))
    try:
        with pytest.raises(InferenceServerException, match="missing input 'income'"):
            client.infer("loans", [tensor])
        with pytest.raises(InferenceServerException, match=r"there is no|nothing"):
            client.get_model_metadata("nobody")
    finally:
        client.close()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_triton_writes_literals_in_json(loans: Speaker, value: float) -> None:
    """In its JSON mode tritonclient writes a NaN as a literal that is no JSON: refused with its place, not read."""
    http = pytest.importorskip("tritonclient.http")
    from tritonclient.utils import InferenceServerException

    inputs = []
    for name, array in columns([ALLOWED, ALLOWED | {"income": value}]).items():
        inputs.append(http.InferInput(name, [2], head(name, array)["datatype"]))
        inputs[-1].set_data_from_numpy(array, binary_data=False)
    client = http.InferenceServerClient(loans.gateway.url.removeprefix("http://"))
    with pytest.raises(InferenceServerException, match=r"inputs\.1\.data\.1: NaN, Infinity and numbers beyond") as told:
        client.infer("loans", inputs)
    client.close()
    assert told.value.status() == "422"


def test_kserve(case: Case) -> None:
    """KServe's clients over REST, as JSON and as binary data, and over gRPC, with raw and with typed contents."""
    python = os.environ.get("GUARDHOUSE_KSERVE", sys.executable)
    if python == sys.executable and find_spec("kserve") is None:
        pytest.skip("kserve is not installed, and GUARDHOUSE_KSERVE names no Python that has it: make test-clients")
    speaker, rows, requests = case
    for row, arrays in zip(rows, requests, strict=True):
        if row not in (rows[0], rows[-1]):
            continue
        inputs = [{**head(name, array), "data": array.ravel().tolist()} for name, array in arrays.items()]
        inputs.append({"name": "id", "datatype": "BYTES", "shape": [1], "data": ["same"]})
        task = {"url": speaker.gateway.url, "rpc": speaker.rpc, "model": speaker.gateway.name, "inputs": inputs}
        ran = subprocess.run(
            [python, "-W", "ignore", SUPPORT / "kserve_client.py"],
            input=json.dumps(task), capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr
        said = json.loads(ran.stdout)
        assert said.pop("ready") == [True] * 6
        expected = v1(speaker, row)
        for way, answer in said.items():
            assert answer["id"] == "kserve"
            outputs = [{"name": name, **output} for name, output in answer["outputs"].items()]
            assert same_bits(json_answer({"outputs": outputs}), expected), way


@NEEDS_BENTOML
@pytest.mark.filterwarnings("ignore")  # whatever BentoML and its dependencies deprecate is theirs
def test_bentoml(case: Case) -> None:
    """BentoML's own client finds `/predict`, and gets v1's body with the same bits."""
    import bentoml

    speaker, rows, _ = case
    with bentoml.SyncHTTPClient(speaker.gateway.url) as client:
        for row in rows:
            answer = client.predict(instances=[row], ids=["same"], parameters=DETAIL)
            assert same_bits(v1_answer(answer["predictions"]), v1(speaker, row))
    client._temp_dir.cleanup()  # which it forgets


def test_images_as_bytes(colours: Speaker) -> None:
    """UINT8 images are divided by 255 in float32: the answer has the same bits as for the numbers sent as FP32."""
    for pixels in (*PIXELS, BLACK[0]):
        x = pixels.astype(np.float32) / np.float32(255)
        body, headers = binary_request({"x": pixels[None]}, parameters=DETAIL)
        response = colours.gateway.client.post(colours.infer_path, content=body, headers=headers)
        named = {"x": x[None], "id": json_answer(response.json())["id"]}
        by_float = colours.gateway.post(json_request(named, parameters=DETAIL), colours.infer_path)
        assert same_bits(json_answer(response.json()), json_answer(by_float.json()))


def test_triton_sends_files(colours: Speaker) -> None:
    """Encoded images by Triton's clients get the bits that v1's `b64` gets: over HTTP in both forms, and over gRPC."""
    from tritonclient import grpc, http

    files = [png(pixels=pixels.transpose(1, 2, 0).copy()) for pixels in PIXELS]
    texts = [base64.b64encode(file).decode() for file in files]
    expected = v1_answer(colours.gateway.predict([{"b64": text} for text in texts], ids=["a", "b", "c"]))

    def inputs(kind: Any, values: list[Any], **options: Any) -> list[Any]:
        rows, ids = kind.InferInput("x", [3], "BYTES"), kind.InferInput("id", [3], "BYTES")
        rows.set_data_from_numpy(np.array(values, dtype=object), **options)
        ids.set_data_from_numpy(np.array(["a", "b", "c"], dtype=object), **options)
        return [rows, ids]

    with http.InferenceServerClient(colours.gateway.url.removeprefix("http://")) as client:
        binary = client.infer("colours", inputs(http, files, binary_data=True))
        plain = client.infer("colours", inputs(http, texts, binary_data=False))
    with grpc.InferenceServerClient(colours.rpc) as client:
        raw = client.infer("colours", inputs(grpc, files))
    for answer in (binary, plain, raw):
        assert same_bits({name: answer.as_numpy(name) for name in ("label", "probabilities", "action")}, expected)


def test_a_table_as_one_tensor(loans: Speaker) -> None:
    """`x` [n, d] holds all columns at once: a category's index, -1 or any other for an unseen one, NaN for missing."""
    region, job = ["north", "south", "west"], ["clerk", "cook", "pilot"]
    odd = ALLOWED | {"job": "astronaut"}
    for row in (*LOANS, odd):
        codes = {"region": region.index(row["region"]), "job": -1 if row is odd else None}
        if codes["job"] is None and row["job"] is not None:
            codes["job"] = job.index(row["job"])
        values = [codes.get(name, value) for name, value in row.items()]
        x = np.array([[np.nan if value is None else value for value in values]], dtype=np.float32)
        name = np.array(["same"], dtype=object)
        expected = v1(loans, row)
        for document in (json_request({"x": x, "id": name}), json_request({"x": x, "id": name}, nested=True)):
            response = loans.gateway.post({**document, "parameters": DETAIL}, loans.infer_path)
            assert same_bits(json_answer(response.json()), expected)
        if row is odd:
            x[0, 3] = 77
            response = loans.gateway.post(json_request({"x": x, "id": name}, parameters=DETAIL), loans.infer_path)
            assert same_bits(json_answer(response.json()), expected)
