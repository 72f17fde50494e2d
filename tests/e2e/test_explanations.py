"""Explanations over HTTP: methods, targets, pictures, answers that come later, and limits for each client."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest
import yaml
from example_folders import ABSTAINED, ALLOWED, FATAL, FLAGGED, NAP, TABLE_COLUMNS, TABLE_CONFIG, VALUE_CONFIG
from example_folders import images as draw
from fresh_client import FRESH
from gateways import differing, faults_allowed

if TYPE_CHECKING:
    from conftest import Bundles
    from gateways import Gateway

TABLE, IMAGES, VALUES = "/v1/models/loans", "/v1/models/colours", "/v1/models/value"
ADDING, GRADIENTS = (
    ("kernel_shap", "shapley"),
    ("integrated_gradients", "saliency", "deep_lift", "gradient_shap"),
)


def explain(server: "Gateway", path: str, row: Any, **parameters: Any) -> dict[str, Any]:
    response = server.post({"instances": [row], "parameters": parameters}, f"{path}:explain")
    assert response.status_code == 200, response.text
    (explanation,) = response.json()["explanations"]
    return dict(explanation)


def wait(server: "Gateway", location: str, seconds: float = 180) -> httpx.Response:
    end = time.monotonic() + seconds
    while (response := server.client.get(location)).status_code == 202:
        assert response.json() == {"state": "waiting"}
        assert response.headers["retry-after"] == "1"
        assert time.monotonic() < end
        time.sleep(0.05)
    return response


def size_of(picture: bytes) -> tuple[int, int]:
    assert picture[:8] == b"\x89PNG\r\n\x1a\n"
    return int.from_bytes(picture[16:20], "big"), int.from_bytes(picture[20:24], "big")


# Methods and targets


def test_rows_without_ids_get_one_that_is_never_used_twice(table: "Gateway") -> None:
    """Two questions with one X-Request-ID are answered under different ids; the header comes back."""
    table.wait_explaining(ALLOWED)
    body = {"instances": [ALLOWED], "parameters": {"method": "feature_ablation"}}
    responses = [table.post(body, f"{TABLE}:explain", X_Request_ID="asked") for _ in range(2)]
    assert [response.headers["X-Request-ID"] for response in responses] == ["asked"] * 2
    assert len({response.json()["explanations"][0]["id"] for response in responses}) == 2


def test_methods_are_listed(table: "Gateway") -> None:
    """Every method that may be chosen is there with its parameters, and each of them answers or says why not."""
    listed = table.client.get(f"{TABLE}/explainers").json()["explainers"]
    assert [each["method"] for each in listed if each["default"]] == ["integrated_gradients"]
    for each in listed:
        body = {"instances": [ALLOWED], "parameters": {"method": each["method"]}}
        response = table.post(body, f"{TABLE}:explain")
        if each["method"] in {
            "integrated_gradients",
            "saliency",
            "deep_lift",
            "gradient_shap",
        }:  # region has no gradient
            assert response.status_code == 422
            assert "explain.embeddings" in response.json()["errors"][0]["msg"]
        else:
            (explanation,) = response.json()["explanations"]
            assert explanation["method"] == each["method"]
            assert tuple(explanation["attributions"]) == TABLE_COLUMNS


@pytest.mark.parametrize("method", ADDING)
def test_contributions_of_a_table_add_up(table: "Gateway", method: str) -> None:
    """Categories and missing values are columns like any other, and their sum is the change of the logit."""
    for row in (ALLOWED, FLAGGED, ALLOWED | {"job": None}):
        found = explain(table, TABLE, row, method=method)
        change = found["output_value"] - found["baseline_value"]
        assert sum(found["attributions"].values()) == pytest.approx(change, abs=1e-4)
        assert found["label"] in {"no", "yes"}


def test_label_that_is_asked_for(table: "Gateway") -> None:
    """Either label has an explanation, of its own logit."""
    for label in ("no", "yes"):
        found = explain(table, TABLE, FLAGGED, method="shapley", target=label)
        assert (found["label"], found["target"]) == (label, label)


def test_guard_that_is_asked_for(table: "Gateway") -> None:
    """A guard's score is explained by contributions if it has gradients, and otherwise by its causes."""
    found = explain(table, TABLE, FLAGGED, method="shapley", target="guard:ood")
    assert found["label"] is None
    change = found["output_value"] - found["baseline_value"]
    assert sum(found["attributions"].values()) == pytest.approx(change, abs=1e-4)
    found = explain(table, TABLE, FLAGGED, target="guard:quality")
    assert (found["method"], found["attributions"], found["causes"]) == ("causes", None, [])


def test_hidden_guard_cannot_be_asked_for(table: "Gateway") -> None:
    """A guard that no answer shows is unknown here too."""
    response = table.post({"instances": [ALLOWED], "parameters": {"target": "guard:hidden"}}, f"{TABLE}:explain")
    assert response.status_code == 422
    assert "hidden" not in response.json()["errors"][0]["msg"]


def test_same_question_is_answered_from_memory(values: "Gateway") -> None:
    """The same row with another id costs nothing, and gets the same numbers; another method is another question."""
    row = [2.25, 1.5, 0.125]
    before = values.metrics()
    first = explain(values, VALUES, row)
    body = {"instances": [row], "ids": ["mine"]}
    (again,) = values.post(body, f"{VALUES}:explain").json()["explanations"]
    assert again == first | {"id": "mine"}
    explain(values, VALUES, row, method="saliency")
    moved = differing(values.metrics(), before, "guardhouse_explanations_total")
    assert moved == {
        'guardhouse_explanations_total{method="integrated_gradients",result="ok"}': 1,
        'guardhouse_explanations_total{method="integrated_gradients",result="cached"}': 1,
        'guardhouse_explanations_total{method="saliency",result="ok"}': 1,
    }


def test_explaining_counts_no_rows(table: "Gateway") -> None:
    """Rows that are explained are not predictions: no guard, monitor or store counts them."""
    before = table.metrics()
    explain(table, TABLE, ALLOWED | {"age": 61.5}, method="shapley")
    moved = differing(table.metrics(), before)
    assert not [name for name in moved if not name.startswith(("guardhouse_requests", "guardhouse_explan"))]


# Pictures


@pytest.mark.parametrize("parameters", [{}, {"target": "red", "method": "occlusion"}, {"target": "guard:ood"}])
def test_picture_of_an_image(images: "Gateway", parameters: dict[str, Any]) -> None:
    """One image is answered with a picture if the client prefers pictures."""
    body = {"instances": [(draw(np.array([1]), seed=3)[0] / 255).tolist()], "parameters": parameters}
    response = images.post(body, f"{IMAGES}:explain", Accept="image/png")
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "image/png"
    assert min(size_of(response.content)) > 300


def test_picture_of_a_table(table: "Gateway") -> None:
    """A row of a table is drawn as bars; the answer is JSON if the client accepts both equally."""
    body = {"instances": [ALLOWED], "parameters": {"method": "shapley"}}
    accepts = {"image/*": "image/png", "image/png, application/json;q=0.5": "image/png", "*/*": "application/json",
               "application/json, image/png": "application/json", "image/png;q=x": "application/json"}  # fmt: skip
    for accept, kind in accepts.items():
        response = table.post(body, f"{TABLE}:explain", Accept=accept)
        assert (response.status_code, response.headers["content-type"]) == (200, kind), accept


def test_picture_is_of_one_row(images: "Gateway") -> None:
    """Two rows have no picture, and what has no contributions has none either."""
    image = (draw(np.array([1]), seed=3)[0] / 255).tolist()
    response = images.post({"instances": [image, image]}, f"{IMAGES}:explain", Accept="image/png")
    assert response.status_code == 422
    assert response.json()["errors"][0]["loc"] == ["instances"]
    body = {"instances": [image], "parameters": {"target": "guard:quality"}}
    response = images.post(body, f"{IMAGES}:explain", Accept="image/png")
    assert response.status_code == 422
    assert "no contributions" in response.json()["errors"][0]["msg"]


# Later


def test_answer_that_comes_later(values: "Gateway") -> None:
    """The client gets an address, at which the same answer stands, once it is made, for any number of requests."""
    body = {"instances": [[1.5, 0.5, 2]], "ids": ["later"]}
    at_once = values.post(body, f"{VALUES}:explain").json()
    response = values.post(body, f"{VALUES}:explain", Prefer="respond-async, wait=10")
    assert response.status_code == 202
    assert response.headers["preference-applied"] == "respond-async"
    assert response.headers["location"].startswith("/v1/explanations/")
    for _ in range(2):
        answer = wait(values, response.headers["location"])
        assert answer.status_code == 200
        assert answer.json() == at_once


def test_picture_that_comes_later(images: "Gateway") -> None:
    """A picture may come later, too."""
    body = {"instances": [(draw(np.array([2]), seed=8)[0] / 255).tolist()]}
    response = images.post(body, f"{IMAGES}:explain", Prefer="respond-async", Accept="image/png")
    answer = wait(images, response.headers["location"])
    assert answer.headers["content-type"] == "image/png"
    assert min(size_of(answer.content)) > 300


def test_refusal_that_comes_later(values: "Gateway") -> None:
    """A refusal that takes time stands at the answer's address; a refusal that can be seen at once comes at once."""
    body = {"instances": [[1, 1, 1], [900, -900, 0]]}
    response = values.post(body, f"{VALUES}:explain", Prefer="respond-async")
    answer = wait(values, response.headers["location"])
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["loc"] == ["instances", 1]
    refused = values.post(body | {"parameters": {"method": "guess"}}, f"{VALUES}:explain", Prefer="respond-async")
    assert refused.status_code == 422


def test_unknown_explanation_is_404(values: "Gateway") -> None:
    """An unknown id is answered 404, and makes no series."""
    for name in ("x", "a" * 200, "%2e%2e", ""):
        assert values.client.get(f"/v1/explanations/{name}").status_code == 404
    assert values.client.get("/v1/explanations/a/b").status_code == 404
    assert values.client.delete("/v1/explanations/x").status_code == 405
    assert not [series for series in values.metrics() if "aaaa" in series]


# Bounds


def test_client_that_asks_too_often_waits(restricted: "Gateway") -> None:
    """Beyond its burst a client is refused, whoever it says it is; what cannot be read costs nothing."""
    codes = []
    for body, kind, code in ((b"{}", "text/plain", 415), (b"{", "application/json", 400)):
        for _ in range(4):
            response = restricted.client.post(f"{VALUES}:explain", content=body, headers={"Content-Type": kind})
            assert response.status_code == code
    for i in range(8):  # no explanation is needed to be refused: what is wrong with these is seen at once
        body = {"instances": [[1, 1, i / 10]], "parameters": {"method": "guess"}}
        response = restricted.post(body, f"{VALUES}:explain", X_Forwarded_For=f"203.0.113.{i}")
        codes.append(response.status_code)
        if response.status_code == 429:
            assert 1 <= int(response.headers["retry-after"]) <= 5
    assert codes[:3] == [422] * 3
    assert codes.count(429) >= 2
    assert set(codes) == {422, 429}
    assert restricted.predict([[1, 1, 1]])[0]["action"] == "allow"
    moved = restricted.metrics()
    assert moved['guardhouse_shed_requests_total{reason="explain_rate"}'] == codes.count(429)


def test_rows_without_an_answer_are_explained_where_allowed(bundles: "Bundles") -> None:
    """With `rejected: true` a row that abstains is explained; methods that are not named are unknown."""
    document = TABLE_CONFIG | {"explain": {"method": "shapley", "methods": [{"method": "shapley"}], "rejected": True}}
    path = bundles.config("table").with_name("rejected.yaml")
    path.write_text(yaml.safe_dump(document))
    gateway = bundles.serve("table", config=path).wait_ready()
    found = explain(gateway, TABLE, ABSTAINED)
    assert found["label"] in {"no", "yes"}
    assert (
        gateway.post({"instances": [ALLOWED], "parameters": {"method": "occlusion"}}, f"{TABLE}:explain").status_code
        == 422
    )
    gateway.stop()


def test_deadline_ends_an_explanation(values: "Gateway") -> None:
    """An explanation past its deadline is ended at once, and the next one is answered."""
    explain(values, VALUES, [1, 1, 0.875])  # the process is there
    before = values.metrics()
    started = time.monotonic()
    response = values.post({"instances": [[NAP, 1, 0.9]]}, f"{VALUES}:explain", X_Request_Timeout="1.5")
    assert response.status_code == 504
    assert time.monotonic() - started < VALUE_CONFIG["server"]["timeout_seconds"]
    assert explain(values, VALUES, [1, 1, 0.9375])["output_value"] == pytest.approx(1.9375, abs=1e-4)
    moved = differing(values.metrics(), before, "guardhouse_explanations_total")
    assert moved['guardhouse_explanations_total{method="integrated_gradients",result="timeout"}'] == 1


def test_questions_of_clients_that_left_keep_nobody_waiting(values: "Gateway") -> None:
    """A question is dropped from the queue when its client goes away, and counted as a timeout."""
    explain(values, VALUES, [1, 1, 0.8125])  # the process is there
    before = values.metrics()
    long = {"instances": [[NAP, 1, 0.9]]}
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(values.post, long, f"{VALUES}:explain", X_Request_Timeout="1.5")
        values.wait_in_flight(first)

        def leave(_: int) -> None:
            with pytest.raises(httpx.ReadTimeout):
                FRESH.post(
                    f"{values.url}{VALUES}:explain",
                    json=long,
                    headers={"X-Request-Timeout": "5"},
                    timeout=httpx.Timeout(120, read=0.5),
                )

        list(pool.map(leave, range(3)))
        assert explain(values, VALUES, [1, 1, 0.84375])["output_value"] == pytest.approx(1.84375, abs=1e-4)
        assert first.result().status_code == 504
    moved = differing(values.metrics(), before, "guardhouse_explanations_total")
    assert moved['guardhouse_explanations_total{method="integrated_gradients",result="timeout"}'] == 4
    assert moved['guardhouse_explanations_total{method="integrated_gradients",result="ok"}'] == 1


def test_crash_costs_one_answer(values: "Gateway") -> None:
    """A row that ends the process is a fault of ours, counted; predictions never stop, the next is explained."""
    explain(values, VALUES, [1, 1, 0.25])
    before = values.metrics()
    with faults_allowed(values, "the process that explains ended by itself"):
        response = values.post({"instances": [[FATAL, 1, 1]]}, f"{VALUES}:explain")
        assert response.status_code == 500
    assert values.predict([[1, 1, 1]])[0]["action"] == "allow"
    assert explain(values, VALUES, [1, 1, 0.375])["output_value"] == pytest.approx(1.375, abs=1e-4)
    moved = differing(values.metrics(), before, "guardhouse_explanations_total")
    assert moved['guardhouse_explanations_total{method="integrated_gradients",result="crashed"}'] == 1


def test_concurrent_methods_get_their_own_answers(values: "Gateway") -> None:
    """Questions side by side do not mix: each answer is of its own row and method."""
    rows = [[1 + i / 8, 0.5, 1] for i in range(6)]
    with ThreadPoolExecutor(6) as pool:
        bodies = [{"instances": [row], "parameters": {"method": "shapley"}} for row in rows]
        answers = list(pool.map(lambda body: FRESH.post(f"{values.url}{VALUES}:explain", json=body), bodies))
    for row, answer in zip(rows, answers, strict=True):
        (found,) = json.loads(answer.content)["explanations"]
        assert found["output_value"] == pytest.approx(3 * row[0] - 2 * row[1] + row[2], abs=1e-4)
