"""The Open Inference Protocol over HTTP: paths, media types, outputs, errors and counters."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from example_folders import ABSTAINED, ALLOWED, CRASH_MODEL, CRASH_WIRE, FLAGGED, HIDDEN, REJECTED, WIRED
from v2_client import HEADER, Speaker, binary_request, columns, json_answer, json_request, speak

ROWS = [ALLOWED, FLAGGED, ABSTAINED, REJECTED, HIDDEN, WIRED]
OCTETS = "application/octet-stream"


def infer(speaker: Speaker, rows: list[Any], **more: Any) -> dict[str, Any]:
    response = speaker.gateway.post(json_request(columns(rows), **more), speaker.infer_path)
    assert response.status_code == 200, response.text
    return json_answer(response.json())


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v2", {"name": "guardhouse", "extensions": ["binary_tensor_data"]}),
        ("/v2/health/live", {"live": True}),
        ("/v2/health/ready", {"ready": True}),
        ("/v2/models/loans/ready", {"name": "loans", "ready": True}),
        ("/v2/models/loans/versions/2024.1/ready", {"name": "loans", "ready": True}),
    ],
)
def test_health_and_server(loans: Speaker, path: str, expected: dict[str, Any]) -> None:
    """The server says who it is, that it lives, and that it and its model are ready."""
    response = loans.gateway.client.get(path)
    assert response.status_code == 200
    assert expected.items() <= response.json().items()


def test_metadata_of_a_table(loans: Speaker) -> None:
    """A table has a tensor for each column: BYTES for categories, FP32 for numbers."""
    response = loans.gateway.client.get("/v2/models/loans")
    assert response.json() == loans.gateway.client.get("/v2/models/loans/versions/2024.1").json()
    kinds = {"age": "FP32", "income": "FP32", "region": "BYTES", "job": "BYTES", "trap": "FP32"}
    assert response.json()["inputs"] == [
        {"name": name, "datatype": datatype, "shape": [-1]} for name, datatype in kinds.items()
    ]
    assert response.json()["outputs"] == [
        {"name": "label", "datatype": "BYTES", "shape": [-1]},
        {"name": "probabilities", "datatype": "FP32", "shape": [-1, 2]},
        {"name": "action", "datatype": "BYTES", "shape": [-1]},
        {"name": "id", "datatype": "BYTES", "shape": [-1]},
        {"name": "p_value", "datatype": "FP32", "shape": [-1, 4]},
    ]
    assert response.json()["versions"] == ["2024.1"]
    assert response.json()["parameters"] == {
        "alternatives": [[{"name": "x", "datatype": "FP32", "shape": [-1, 5], "parameters": {"categories": "index"}}]],
        "optional": [{"name": name, "datatype": "BYTES", "shape": [-1]} for name in ("id", "group_sex")],
        "top_k": [
            {"name": "probabilities", "datatype": "FP32", "shape": [-1, -1]},
            {"name": "top_k_labels", "datatype": "BYTES", "shape": [-1, -1]},
        ],
    }


def test_metadata_of_images_and_values(colours: Speaker, numbers: Speaker) -> None:
    """An image is one tensor of its shape; a regression answers value and interval."""
    images = colours.gateway.client.get("/v2/models/colours").json()
    assert images["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 3, 6, 8]}]
    assert images["parameters"]["alternatives"] == [
        [{"name": "x", "datatype": "UINT8", "shape": [-1, 3, 6, 8]}],
        [{"name": "x", "datatype": "BYTES", "shape": [-1]}],
    ]
    values = numbers.gateway.client.get("/v2/models/value").json()
    assert [(spec["name"], spec["shape"]) for spec in values["outputs"]][:2] == [("value", [-1]), ("interval", [-1, 2])]


@pytest.mark.parametrize(
    "path", ["/v2/models/loans/versions/1", "/v2/models/nobody", "/v2/models/nobody/infer", "/v2/"]
)
def test_unknown_paths_tell_the_protocols_error(loans: Speaker, path: str) -> None:
    """Another model or version is 404, with the `error` that the protocol's clients read."""
    for response in (loans.gateway.client.get(path), loans.gateway.client.post(path, json={})):
        assert response.status_code == 404
        assert response.json()["error"].startswith("there is nothing at this path")


def test_silent_rows(loans: Speaker) -> None:
    """Abstained and rejected rows have an empty label and nulls, and their neighbours are untouched."""
    response = loans.gateway.post(json_request(columns(ROWS), id="mine"), loans.infer_path)
    document = response.json()
    assert (document["model_name"], document["model_version"], document["id"]) == ("loans", "2024.1", "mine")
    outputs = {output["name"]: output for output in document["outputs"]}
    assert outputs["label"]["data"] == ["yes", outputs["label"]["data"][1], "", "", "yes", "yes"]
    assert outputs["probabilities"]["shape"] == [6, 2]
    assert [value is None for value in outputs["probabilities"]["data"]] == [False] * 4 + [True] * 4 + [False] * 4
    assert outputs["action"]["data"] == ["allow", "flag", "abstain", "reject", "allow", "flag"]
    assert response.headers["X-Guardhouse-Action"] == "reject"
    (made,) = {name.rpartition("-")[0] for name in outputs["id"]["data"]}
    assert outputs["id"]["data"] == [f"{made}-{row}" for row in range(6)]


def test_p_values_are_of_visible_guards(loans: Speaker) -> None:
    """The p-values come when asked for, with the names of the guards that answers show."""
    assert "p_value" not in infer(loans, ROWS)
    request = json_request(columns(ROWS), outputs=[{"name": "p_value"}])
    document = loans.gateway.post(request, loans.infer_path).json()
    (output,) = document["outputs"]
    assert output["parameters"]["guards"].split(",") == ["quality", "ood", "confidence", "wire"]
    assert output["shape"] == [6, 4]
    detail = loans.gateway.predict(ROWS, parameters={"detail": True})
    expected = [[guard["p_value"] for guard in said["guards"].values()] for said in detail]
    np.testing.assert_allclose(json_answer(document)["p_value"], expected, atol=2e-3)
    assert infer(loans, ROWS, parameters={"detail": True})["p_value"].shape == (6, 4)


def test_a_crashed_guard_has_no_p_value(loans: Speaker) -> None:
    """A guard that crashed has a null, and its row the action that the config has for that."""
    answer = infer(loans, [ALLOWED | {"trap": CRASH_WIRE}], parameters={"detail": True})
    assert answer["action"].tolist() == ["reject"]
    assert np.isnan(answer["p_value"]).tolist() == [[False, False, False, True]]


def test_only_the_outputs_asked_for(loans: Speaker) -> None:
    """Named outputs come in the order asked for, each in the form asked for."""
    wanted = [
        {"name": "action"},
        {"name": "probabilities", "parameters": {"binary_data": True}},
        {"name": "label", "parameters": {"binary_data": True}},
    ]
    request = json_request(columns([ALLOWED, ABSTAINED]), outputs=wanted)
    response = loans.gateway.post(request, loans.infer_path)
    assert response.headers["Content-Type"] == OCTETS
    start = int(response.headers[HEADER])
    outputs = json.loads(response.content[:start])["outputs"]
    assert [output["name"] for output in outputs] == ["action", "probabilities", "label"]
    assert outputs[0]["data"] == ["allow", "abstain"]
    assert [output["parameters"]["binary_data_size"] for output in outputs[1:]] == [16, 11]
    probabilities = np.frombuffer(response.content[start : start + 16], dtype="<f4").reshape(2, 2)
    assert np.isnan(probabilities).tolist() == [[False] * 2, [True] * 2]
    assert response.content[start + 16 :] == b"\x03\0\0\0yes\0\0\0\0"


@pytest.mark.parametrize("overridden", [True, False])
def test_binary_data_output_is_overridden(loans: Speaker, overridden: bool) -> None:
    """What one output asks for goes before what the request asks for all outputs."""
    wanted = [{"name": "label", "parameters": {"binary_data": overridden}}, {"name": "action"}]
    request = json_request(columns([ALLOWED]), outputs=wanted, parameters={"binary_data_output": not overridden})
    response = loans.gateway.post(request, loans.infer_path)
    label, action = json.loads(response.content[: int(response.headers[HEADER])])["outputs"]
    assert ("data" in label, "data" in action) == (not overridden, overridden)


def test_regression(numbers: Speaker) -> None:
    """A value has its interval; if the guard abstains, both are null."""
    arrays = {name: np.array([1.0, 900.0], dtype=np.float32) for name in "abc"}
    answer = json_answer(numbers.gateway.post(json_request(arrays), numbers.infer_path).json())
    assert answer["action"].tolist() == ["allow", "abstain"]
    assert answer["value"][0] == pytest.approx(2.0)
    assert answer["interval"][0, 0] < 2 < answer["interval"][0, 1]
    assert np.isnan(answer["value"][1])
    assert np.isnan(answer["interval"][1]).all()


def test_groups_and_ids_are_the_rows(loans: Speaker) -> None:
    """A group tensor is counted by the monitor of its attribute, and an id tensor comes back."""
    series = 'guardhouse_group_predictions_total{attribute="sex",group="Female",label="yes"}'
    before = loans.gateway.metrics()[series]
    arrays = columns([ALLOWED, ALLOWED])
    arrays["id"] = np.array(["order-1", "order-2"], dtype=object)
    arrays["group_sex"] = np.array(["Female", ""], dtype=object)
    body, headers = binary_request(arrays)
    response = loans.gateway.client.post(loans.infer_path, content=body, headers=headers)
    assert json_answer(response.json())["id"].tolist() == ["order-1", "order-2"]
    assert loans.gateway.metrics()[series] - before == 1


@pytest.mark.parametrize("content_type", [None, "application/json", OCTETS, "application/octet-stream; x=y"])
def test_media_types_of_infer(loans: Speaker, content_type: str | None) -> None:
    """Binary data may come as octets, as JSON, or under no name at all, as clients do."""
    body, headers = binary_request(columns([ALLOWED]))
    headers = {HEADER: headers[HEADER], **({} if content_type is None else {"Content-Type": content_type})}
    assert loans.gateway.client.post(loans.infer_path, content=body, headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("path", "content_type"),
    [
        ("infer", "text/plain"),
        ("infer", "application/json; charset=latin-1"),
        ("predict", OCTETS),
        ("/predict", OCTETS),
    ],
)
def test_media_types_elsewhere(loans: Speaker, path: str, content_type: str) -> None:
    """Octets are for infer alone, and it takes nothing else but JSON."""
    path = {"infer": loans.infer_path, "predict": loans.gateway.predict_path}.get(path, path)
    response = loans.gateway.client.post(path, content=b"{}", headers={"Content-Type": content_type})
    assert response.status_code == 415


def test_malformed_framing_over_the_wire(loans: Speaker) -> None:
    """A header that contradicts the body is answered 400, with the place if there is one."""
    body, headers = binary_request(columns([ALLOWED]))
    for length in ("0", "-1", "x", str(len(body) + 1), str(int(headers[HEADER]) - 1)):
        response = loans.gateway.client.post(loans.infer_path, content=body, headers={**headers, HEADER: length})
        assert response.status_code == 400, length
    response = loans.gateway.client.post(loans.infer_path, content=body + b"more", headers=headers)
    assert response.status_code == 400
    assert response.json()["errors"] == [{"loc": ["inputs"], "msg": "4 bytes are left behind the last tensor"}]
    assert "4 bytes are left" in response.json()["error"]


def test_faults_and_their_places(loans: Speaker) -> None:
    """A body that makes no rows is answered 422; the error string names the same faults as the list."""
    document = json_request(columns([ALLOWED]))
    document["inputs"][1]["data"] = ["1.5"]
    document["inputs"][2]["shape"] = [2]
    response = loans.gateway.post(document, loans.infer_path)
    assert response.status_code == 422
    places = [error["loc"] for error in response.json()["errors"]]
    assert places == [["inputs", 2, "shape"], ["inputs", 1, "data", 0]]
    assert all(".".join(map(str, place)) in response.json()["error"] for place in places)


def test_rows_beyond_the_limit(colours: Speaker) -> None:
    """A request with too many rows is refused before any row is read."""
    x = np.zeros((17, 3, 6, 8), dtype=np.uint8)
    body, headers = binary_request({"x": x})
    response = colours.gateway.client.post(colours.infer_path, content=body, headers=headers)
    assert response.status_code == 422
    assert response.json()["errors"][0]["loc"] == ["inputs", 0, "shape"]


def test_a_body_beyond_the_limit(colours: Speaker) -> None:
    """A body over the limit is refused with 413, in the protocol's own form of an error."""
    body, headers = binary_request({"x": np.zeros((200, 3, 6, 8), dtype=np.float32)})
    response = colours.gateway.client.post(colours.infer_path, content=body, headers=headers)
    assert response.status_code == 413
    assert "over the limit" in response.json()["error"]


def test_a_fault_of_the_models(loans: Speaker) -> None:
    """A crash of the model is 500 and says nothing of the rows; the log names no value either."""
    from gateways import faults_allowed

    with faults_allowed(loans.gateway, "a batch failed", "ValueError while answering"):
        rows = columns([ALLOWED | {"trap": CRASH_MODEL, "income": 61234.5}])
        response = loans.gateway.post(json_request(rows), loans.infer_path)
    assert response.status_code == 500
    assert "PAYLOAD" not in response.text
    assert "61234.5" not in loans.gateway.log()


def test_routes_are_counted_by_template(loans: Speaker) -> None:
    """Each path counts under its template, and no client makes a series."""
    before = loans.gateway.metrics()
    infer(loans, [ALLOWED])
    path = "/v2/models/loans/versions/2024.1/infer"
    assert loans.gateway.post(json_request(columns([ALLOWED])), path).status_code == 200
    loans.gateway.client.get("/v2/models/a-name-nobody-has")
    after = loans.gateway.metrics()
    assert after.keys() == before.keys()
    for template in ("/v2/models/{name}/infer", "/v2/models/{name}/versions/{version}/infer"):
        series = f'guardhouse_requests_total{{code="200",route="{template}"}}'
        assert after[series] - before[series] == 1


def test_the_document_has_every_path(loans: Speaker) -> None:
    """/openapi.json and /docs describe the protocol's paths, and what is sent and answered fits the description."""
    paths = loans.gateway.openapi["paths"]
    assert {"/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/loans", loans.infer_path} <= paths.keys()
    assert "/v2/models/loans/versions/2024.1/infer" in loans.gateway.client.get("/docs").text
    assert set(paths[loans.infer_path]["post"]["requestBody"]["content"]) == {"application/json", OCTETS}


@pytest.fixture(scope="module")
def shadow(bundles: Any) -> Iterator[Speaker]:
    """Serve the classifier of a table in shadow mode."""
    yield from speak(bundles, "table", mode="shadow")


def test_shadow_mode_answers_as_if_there_were_no_guards(shadow: Speaker) -> None:
    """In shadow mode every row is allowed and answered, and only detail shows what would have been."""
    answer = infer(shadow, ROWS, parameters={"detail": True})
    assert answer["action"].tolist() == ["allow"] * len(ROWS)
    assert not np.isnan(answer["probabilities"]).any()
    assert answer["p_value"].min() < 0.01


def test_a_large_request_is_the_small_ones(loans: Speaker) -> None:
    """A body large enough to be read beside the event loop gives what its rows give."""
    rows = [ALLOWED, FLAGGED] * 500
    arrays = columns(rows)
    body, headers = binary_request(arrays)
    whole = json_answer(loans.gateway.post(json_request(arrays), loans.infer_path).json())
    response = loans.gateway.client.post(loans.infer_path, content=body, headers=headers)
    np.testing.assert_array_equal(json_answer(response.json())["probabilities"], whole["probabilities"])
    assert whole["action"].tolist() == ["allow", "flag"] * 500
