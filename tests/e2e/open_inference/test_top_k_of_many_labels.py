"""A model of 2,000 labels by every protocol: the default answer, and the answer for `top_k`."""

import json
from typing import Any

import numpy as np
import pytest
from fresh_client import FRESH
from gateways import cli
from grpc_client import calling
from v2_client import HEADER, Speaker, head, json_answer, json_request, packed, unpacked

from service.front.protocols import grpc_predict_v2_pb2 as messages

LABELS = 2000
SURE, LEVEL, STRANGE = [9.0, 0.1, 0.2, 0.3], [0.0, 0.0, 0.0, 0.0], [500.0, 0.0, 0.0, 0.0]
X = np.array([[0.3, -0.2, 0.5, 0.1], LEVEL, STRANGE], np.float32)
BAD = [0, -1, True, 2.5, 1e9, "3", "most", None, [3]]


def infer(speaker: Speaker, x: Any = X, **more: Any) -> dict[str, Any]:
    """Ask by v2 in JSON."""
    response = speaker.gateway.post(json_request({"x": x}, **more), speaker.infer_path)
    assert response.status_code == 200, response.text
    return json_answer(response.json())


def ranked(speaker: Speaker, count: int) -> tuple[Any, list[list[str]]]:
    """Work out with numpy what `top_k` must answer, from all probabilities, whose columns are the labels."""
    every = infer(speaker)["probabilities"]
    order = np.argsort(-np.nan_to_num(every, nan=-1), axis=1, kind="stable")[:, :count]
    return np.take_along_axis(every, order, axis=1), [[f"label-{place}" for place in row] for row in order.tolist()]


def test_v1_names_the_hundred_most_probable(wide: Speaker) -> None:
    """Without `top_k` an answer has 100 labels of each row, says of how many, and is small; the model says it, too."""
    rows = [X[0].tolist()] * 64
    response = wide.gateway.post({"instances": rows})
    assert len(response.content) < 500_000
    document = response.json()
    assert (document["top_k"], document["classes"]) == (100, LABELS)
    probabilities, labels = ranked(wide, 100)
    for said in document["predictions"]:
        assert list(said["probabilities"]) == labels[0]
        assert np.float32(list(said["probabilities"].values())).tolist() == pytest.approx(probabilities[0].tolist())
        assert said["label"] == labels[0][0]
        assert len(said["prediction_set"]) == 100 < said["prediction_set_size"] <= LABELS
    described = wide.gateway.client.get("/v1/models/wide").json()
    assert described == {"name": "wide", "ready": True, "classes": LABELS, "top_k": 100}


@pytest.mark.parametrize(
    ("top_k", "named"), [(1, 1), (3, 3), (LABELS - 1, LABELS - 1), (10**9, LABELS), ("all", LABELS)]
)
@pytest.mark.parametrize("door", ["/v1/models/wide:predict", "/predict"])
def test_v1_names_as_many_as_are_asked_for(wide: Speaker, door: str, top_k: object, named: int) -> None:
    """Both v1 doors name the number asked for, or all; a row without an answer names none."""
    body = {"instances": X.tolist(), "parameters": {"top_k": top_k}, "ids": ["a", "b", "c"]}
    document = wide.gateway.post(body, door).json()
    assert ("top_k" in document) == (named < LABELS)
    first, level, strange = document["predictions"]
    assert [len(said["probabilities"]) for said in (first, level)] == [named, named]
    assert (strange["label"], strange["action"]) == (None, "abstain")
    assert not {"probabilities", "prediction_set"} & strange.keys()
    _, labels = ranked(wide, named)
    expected = [f"label-{place}" for place in range(LABELS)] if top_k == "all" else labels[0]
    assert list(first["probabilities"]) == expected
    assert next(iter(level["probabilities"])) == level["label"] == "label-0"


def test_v2_keeps_a_column_for_each_label_until_it_is_asked(wide: Speaker) -> None:
    """Without `top_k`, and with `all`, column j is label j; with a number the labels come beside the probabilities."""
    whole, every = infer(wide), infer(wide, parameters={"top_k": "all"})
    assert whole["probabilities"].shape == (3, LABELS)
    assert np.array_equal(whole["probabilities"], every["probabilities"], equal_nan=True)
    assert "top_k_labels" not in whole.keys() | every.keys()
    answer = infer(wide, parameters={"top_k": 4})
    assert list(answer) == ["label", "probabilities", "top_k_labels", "action", "id"]
    probabilities, labels = ranked(wide, 4)
    assert np.array_equal(answer["probabilities"], probabilities, equal_nan=True)
    assert np.isnan(probabilities).tolist() == [[False] * 4, [False] * 4, [True] * 4]
    assert answer["top_k_labels"].tolist() == [*labels[:2], [""] * 4]
    assert answer["label"].tolist() == [labels[0][0], labels[1][0], ""]


def test_v2_in_binary(wide: Speaker) -> None:
    """Strings of two dimensions are written row by row, and the output says of how many labels they are."""
    asked = json_request({"x": X}, parameters={"top_k": 3, "binary_data_output": True})
    asked["outputs"] = [{"name": "top_k_labels"}, {"name": "probabilities"}]
    response = wide.gateway.post(asked, wide.infer_path)
    start = int(response.headers[HEADER])
    labels, probabilities = json.loads(response.content[:start])["outputs"]
    assert (labels["shape"], probabilities["shape"]) == ([3, 3], [3, 3])
    assert probabilities["parameters"] == {"top_k": "3", "classes": "2000", "binary_data_size": 36}
    size = labels["parameters"]["binary_data_size"]
    values, expected = ranked(wide, 3)
    assert unpacked(response.content[start : start + size]) == [*expected[0], *expected[1], "", "", ""]
    assert np.array_equal(np.frombuffer(response.content[start + size :], "<f4").reshape(3, 3), values, equal_nan=True)


@pytest.mark.parametrize("raw", [True, False])
def test_grpc(wide: Speaker, raw: bool) -> None:
    """The same over gRPC, with raw contents and with typed ones."""
    request = messages.ModelInferRequest(model_name="wide")
    tensor = request.inputs.add(**head("x", X))
    if raw:
        request.raw_input_contents.append(packed(X))
    else:
        tensor.contents.fp32_contents.extend(X.ravel().tolist())
    request.parameters["top_k"].int64_param = 2
    with calling(wide.rpc) as call:
        answer, _ = call("ModelInfer", request)
        request.parameters["top_k"].string_param = "all"
        whole, _ = call("ModelInfer", request)
    names = [output.name for output in answer.outputs]
    assert names == ["label", "probabilities", "top_k_labels", "action", "id"]
    assert [list(output.shape) for output in answer.outputs[1:3]] == [[3, 2], [3, 2]]
    _, labels = ranked(wide, 2)
    said = (
        unpacked(answer.raw_output_contents[2])
        if raw
        else [text.decode() for text in answer.outputs[2].contents.bytes_contents]
    )
    assert said == [*labels[0], *labels[1], "", ""]
    assert [list(output.shape) for output in whole.outputs][1] == [3, LABELS]


@pytest.mark.parametrize("value", BAD)
def test_what_is_no_number_of_labels(wide: Speaker, value: object) -> None:
    """By both protocols it is 422 with the parameter's place."""
    row = X[:1]
    for body, path in (
        ({"instances": row.tolist(), "parameters": {"top_k": value}}, None),
        (json_request({"x": row}, parameters={"top_k": value}), wide.infer_path),
    ):
        response = wide.gateway.post(body, path)
        assert response.status_code == 422
        assert [error["loc"] for error in response.json()["errors"]] == [["parameters", "top_k"]]


def test_answers_that_would_be_too_large(wide: Speaker) -> None:
    """All labels of a thousand rows are refused with what would fit, which is answered; the rest is answered anyway."""
    x = np.repeat(X[:1], 1000, axis=0)
    body = {"instances": x.tolist(), "parameters": {"top_k": "all"}}
    refused = [wide.gateway.post(body), wide.gateway.post(json_request({"x": x}), wide.infer_path)]
    for response in refused:
        assert response.status_code == 422
        (error,) = response.json()["errors"]
        assert error["loc"] == ["parameters", "top_k"]
        assert "send at most" in error["msg"]
    few = int(refused[0].json()["errors"][0]["msg"].partition("at most ")[2].partition(" rows")[0])
    # Without the client that holds each of a million numbers against the declared schema.
    url = f"{wide.gateway.url}{wide.gateway.predict_path}"
    answer = FRESH.post(url, json={**body, "instances": x[:few].tolist()})
    assert answer.status_code == 200
    assert len(answer.json()["predictions"][-1]["probabilities"]) == LABELS
    assert len(answer.content) < 64 * 1024**2
    assert FRESH.post(url, json={"instances": x.tolist()}).status_code == 200
    only = [{"name": "label"}]
    assert len(infer(wide, x, outputs=only)["label"]) == len(infer(wide, x, parameters={"top_k": 5})["label"]) == 1000


def test_outputs_that_need_the_parameter(wide: Speaker, numbers: Speaker) -> None:
    """The labels are no output without a number of them, and a model without labels refuses the parameter."""
    response = wide.gateway.post(json_request({"x": X}, outputs=[{"name": "top_k_labels"}]), wide.infer_path)
    assert response.status_code == 422
    assert response.json()["errors"][0]["msg"] == "needs a number in `parameters.top_k` of the request"
    row = {name: np.ones(1, np.float32) for name in "abc"}
    for body, path in (
        ({"instances": [[1, 1, 1]], "parameters": {"top_k": 1}}, None),
        (json_request(row, parameters={"top_k": 1}), numbers.infer_path),
    ):
        response = numbers.gateway.post(body, path)
        assert response.status_code == 422
        assert "has no labels" in response.json()["errors"][0]["msg"]


def test_a_few_labels_are_answered_whole(loans: Speaker) -> None:
    """A model of two labels says nothing of how many; `top_k` orders them, and the set stays whole."""
    from example_folders import ALLOWED

    (said,) = loans.gateway.predict([ALLOWED])
    assert list(said["probabilities"]) == ["no", "yes"]
    document = loans.gateway.post({"instances": [ALLOWED], "parameters": {"top_k": 1}}).json()
    (one,) = document["predictions"]
    assert one["probabilities"] == {said["label"]: said["probabilities"][said["label"]]}
    assert one["prediction_set"] == said["prediction_set"]
    assert (document["top_k"], document["classes"]) == (1, 2)
    assert loans.gateway.client.get("/v1/models/loans").json() == {"name": "loans", "ready": True}


def test_documents_and_metrics_do_not_grow_with_the_labels(wide: Speaker) -> None:
    """The labels are in the OpenAPI document once, and 1,000 of them have series; faults name the first ten."""
    document = wide.gateway.client.get("/openapi.json").text
    assert document.count('"label-1999"') == 1
    assert "label-1999" not in wide.gateway.client.get("/docs").text
    series = [line for line in wide.gateway.client.get("/metrics").text.splitlines() if 'stream="label"' in line]
    assert len(series) == 2 * 1003 + 1
    for path, body in (
        ("/v1/models/wide:feedback", {"outcomes": [{"id": "a", "label": "none"}]}),
        ("/v1/models/wide:explain", {"instances": [LEVEL], "parameters": {"target": "none"}}),
    ):
        response = wide.gateway.post(body, path)
        assert response.status_code == 422
        assert "'label-9', '..." in response.json()["errors"][0]["msg"]
        assert len(response.content) < 1000


def test_outcomes_of_large_sets(wide: Speaker, tmp_path: Any) -> None:
    """The last label of a set that is kept as bits is covered, one outside is not; `guardhouse feedback` knows all."""
    body = {"instances": [X[0].tolist()] * 2, "ids": ["in", "out"], "parameters": {"top_k": "all"}}
    inside, outside = wide.gateway.post(body).json()["predictions"]
    assert inside["prediction_set"] == outside["prediction_set"]
    assert 100 < len(inside["prediction_set"]) < LABELS
    missed = next(label for label in reversed(outside["probabilities"]) if label not in outside["prediction_set"])

    def covered() -> dict[str, float]:
        found = wide.gateway.metrics()
        return {said: found[f'guardhouse_covered_total{{covered="{said}"}}'] for said in ("true", "false")}

    before = covered()
    (tmp_path / "outcomes.csv").write_text(f"id,label\nin,{inside['prediction_set'][-1]}\nout,{missed}\n")
    sent = cli("feedback", "--file", tmp_path / "outcomes.csv", "--url", wide.gateway.url)
    assert sent.returncode == 0, sent.stderr
    after = covered()
    assert {said: after[said] - before[said] for said in after} == {"true": 1, "false": 1}
