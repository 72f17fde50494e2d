"""What a client gets back for every action and every kind of input, by every protocol."""

import base64
import io
import json
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest
from example_folders import (
    ABSTAINED,
    ALLOWED,
    BROKEN,
    COLOURS,
    CRASH_HIDDEN,
    CRASH_WIRE,
    FLAGGED,
    HIDDEN,
    REJECTED,
    TABLE_COLUMNS,
    WIRED,
    loans,
)
from example_folders import (
    images as draw,
)
from gateways import NEEDS_BENTOML, same_answer
from PIL import Image

from service.front.protocols.pixels import LIKE_BYTES, OUTSIDE

if TYPE_CHECKING:
    from gateways import Gateway

DETAIL = {"detail": True}
ANSWERED = {"id", "label", "probabilities", "prediction_set", "action", "reasons"}
UNANSWERED = {"id", "label", "action", "reasons"}


@pytest.mark.parametrize(
    ("row", "action", "reasons"),
    [
        (ALLOWED, "allow", []),
        (FLAGGED, "flag", ["confidence"]),
        (ABSTAINED, "abstain", ["ood"]),
        (REJECTED, "reject", ["quality", "ood"]),
        (HIDDEN, "allow", []),
        (WIRED, "flag", ["wire"]),
    ],
    ids=["allow", "flag", "abstain", "reject", "hidden", "plug-in"],
)
def test_every_action_has_its_shape(table: "Gateway", row: dict[str, Any], action: str, reasons: list[str]) -> None:
    """A row's verdict is data: status 200, and a withheld answer has a null label and no numbers."""
    response = table.post({"instances": [row]})
    assert response.status_code == 200
    (said,) = response.json()["predictions"]
    assert (said["action"], said["reasons"]) == (action, reasons)
    assert said.keys() == (UNANSWERED if action in {"abstain", "reject"} else ANSWERED)
    assert response.headers["X-Guardhouse-Action"] == action
    if action in {"abstain", "reject"}:
        assert said["label"] is None
    else:
        assert said["label"] == max(said["probabilities"], key=said["probabilities"].get)
        assert sum(said["probabilities"].values()) == pytest.approx(1, abs=1e-6)


def test_neighbours_are_untouched(table: "Gateway") -> None:
    """Rows of every action in one request each get what they get alone, and the strictest is in the header."""
    rows = [ALLOWED, FLAGGED, ABSTAINED, REJECTED, HIDDEN, WIRED]
    response = table.post({"instances": rows})
    actions = [said["action"] for said in response.json()["predictions"]]
    assert actions == ["allow", "flag", "abstain", "reject", "allow", "flag"]
    assert response.headers["X-Guardhouse-Action"] == "reject"


def test_the_model_is_named(table: "Gateway") -> None:
    """An answer says which model, version and bundle it is from."""
    model = table.post({"instances": [ALLOWED]}).json()["model"]
    assert (model["name"], model["version"]) == ("loans", "2024.1")
    assert model["bundle"].startswith("sha256:")
    assert f'bundle="{model["bundle"]}"' in next(name for name in table.metrics() if "build_info" in name)


def test_detail_shows_visible_guards(table: "Gateway") -> None:
    """With detail the answer has each visible guard's p-value, and causes if the guard flagged."""
    allowed, rejected = table.predict([ALLOWED, REJECTED], parameters=DETAIL)
    assert list(allowed["guards"]) == ["quality", "ood", "confidence", "wire"]
    for guard in allowed["guards"].values():
        assert guard["flagged"] is False
        assert 0.03 < guard["p_value"] <= 1
        assert guard["causes"] == []
    assert rejected["guards"]["quality"]["flagged"] is True
    assert rejected["guards"]["quality"]["causes"][0] == "age"
    assert rejected["guards"]["quality"]["p_value"] < 0.03


@pytest.mark.parametrize("parameters", [None, {}, {"detail": False}])
def test_without_detail_no_score_is_shown(table: "Gateway", parameters: dict[str, bool] | None) -> None:
    """Scores help an attacker: an answer has them only if the request asks for them."""
    (said,) = table.predict([FLAGGED], parameters=parameters)
    assert "guards" not in said


def test_hidden_guard_is_nowhere(table: "Gateway") -> None:
    """A guard that is not visible is in no answer: no reason, no detail, no word in the interface's document."""
    answer = table.post({"instances": [HIDDEN, ALLOWED | {"trap": CRASH_HIDDEN}], "parameters": DETAIL})
    assert "hidden" not in answer.text
    assert "hidden" not in json.dumps(table.openapi)
    assert "hidden" not in table.client.get("/docs").text


def test_crashed_guard_has_no_p_value(table: "Gateway") -> None:
    """The row on which a guard crashes gets what on_error says, and its neighbours their usual answers."""
    rows = [ALLOWED, ALLOWED | {"trap": CRASH_WIRE}, ALLOWED]
    before, crashed, after = table.predict(rows, parameters=DETAIL)
    assert crashed["action"] == "reject"
    assert crashed["reasons"] == ["wire"]
    assert crashed["guards"]["wire"] == {"p_value": None, "flagged": False, "causes": []}
    assert before["action"] == after["action"] == "allow"
    assert before["guards"]["wire"]["p_value"] == after["guards"]["wire"]["p_value"] > 0.03


def test_one_request_id_on_two_requests_gives_different_row_ids(table: "Gateway") -> None:
    """The header comes back as it was sent, and the rows of both requests have ids of their own."""
    responses = [table.post({"instances": [ALLOWED] * 3}, X_Request_ID="order-4711") for _ in range(2)]
    assert [response.headers["X-Request-ID"] for response in responses] == ["order-4711"] * 2
    ids = [said["id"] for response in responses for said in response.json()["predictions"]]
    assert len(set(ids)) == 6
    assert not [name for name in ids if "order" in name]
    assert [name.rpartition("-")[2] for name in ids] == ["0", "1", "2"] * 2


def test_given_ids_come_back(table: "Gateway") -> None:
    """Ids are the caller's, of any characters that JSON has, and may be used again in another request."""
    ids = ["a", "b/ö", "日本\n\u0000", "x" * 256]
    for _ in range(2):
        assert [said["id"] for said in table.predict([ALLOWED] * 4, ids=ids)] == ids


@pytest.mark.parametrize("given", ["", "a b", "é", "a\tb", "x" * 129])
def test_odd_request_ids_are_replaced(table: "Gateway", given: str) -> None:
    """A request id that could not stand in a log or a header is not echoed, and the request goes on."""
    response = table.client.post(
        table.predict_path,
        content=json.dumps({"instances": [ALLOWED]}),
        headers=[(b"Content-Type", b"application/json"), (b"X-Request-ID", given.encode("latin-1"))],
    )
    assert response.status_code == 200
    assert response.headers["X-Request-ID"] != given
    assert len(response.headers["X-Request-ID"]) == 32


def test_rows_as_objects_and_lists_agree(table: "Gateway") -> None:
    """A row is an object in any order of keys, or a list in the order of the columns."""
    rows = loans(20, seed=1)
    as_lists = [[row[name] for name in TABLE_COLUMNS] for row in rows]
    reversed_keys = [dict(reversed(row.items())) for row in rows]
    ids = [f"row-{i}" for i in range(20)]
    expected = table.predict(rows, ids=ids, parameters=DETAIL)
    assert table.predict(as_lists, ids=ids, parameters=DETAIL) == expected
    assert table.predict(reversed_keys, ids=ids, parameters=DETAIL) == expected
    mixed = [row if i % 2 else as_list for i, (row, as_list) in enumerate(zip(rows, as_lists, strict=True))]
    assert table.predict(mixed, ids=ids, parameters=DETAIL) == expected


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"age": None}, "age"),
        ({"age": -1}, "age"),
        ({"age": 3e38}, "age"),
        ({"income": 9000}, "income"),
        ({"region": "east"}, "region"),
        ({"region": ""}, "region"),
        ({"job": "astronaut"}, "job"),
        ({"trap": 1.5}, "trap"),
    ],
)
def test_strange_values_are_judged_and_not_refused(table: "Gateway", change: dict[str, Any], cause: str) -> None:
    """A missing value, an unseen category or a value out of range is what the quality guard is for: 200."""
    (said,) = table.predict([ALLOWED | change], parameters=DETAIL)
    assert said["action"] == "reject"
    assert "quality" in said["reasons"]
    causes = said["guards"]["quality"]["causes"]
    assert [name for name in causes if name in TABLE_COLUMNS] == [cause]
    assert all(name.startswith(cause) for name in causes)  # and perhaps the unit that the value looks like


def test_missing_values_are_imputed(table: "Gateway") -> None:
    """A missing value that the reference knows is no reason to flag, and the model gets a number for it."""
    missing, usual = table.predict([ALLOWED | {"job": None}, ALLOWED])
    assert missing["action"] == "allow"
    assert missing["label"] == usual["label"]


def test_integers_and_floats_are_numbers(table: "Gateway") -> None:
    """1, 1.0 and 1e0 are one number."""
    text = json.dumps({"instances": [ALLOWED], "ids": ["a"]})
    answers = {table.post(text.replace("60", spelt).encode()).content for spelt in ("60", "60.0", "6e1", "600E-1")}
    assert len(answers) == 1


def test_groups_are_taken(table: "Gateway") -> None:
    """Declared groups may be any strings or null; null for all of it means none were given."""
    for groups in ({"sex": ["Female", "other", None]}, {}, None):
        assert len(table.predict([ALLOWED] * 3, groups=groups, ids=None)) == 3


def test_one_request_may_fill_many_batches(table: "Gateway") -> None:
    """A request of more rows than a batch takes comes back whole and in order."""
    rows = loans(1024, seed=2)
    said = table.predict(rows, ids=[str(i) for i in range(1024)])
    assert [one["id"] for one in said] == [str(i) for i in range(1024)]
    few = table.predict(rows[700:720], ids=[str(i) for i in range(700, 720)])
    assert all(same_answer(many, alone) for many, alone in zip(said[700:720], few, strict=True))


# Images


def encoded(pixels: Any, kind: str = "PNG", **options: Any) -> dict[str, str]:
    """Write an image (3, h, w) of uint8 as a file in base64."""
    file = io.BytesIO()
    Image.fromarray(pixels.transpose(1, 2, 0)).save(file, kind, **options)
    return {"b64": base64.b64encode(file.getvalue()).decode()}


def decoded(instance: dict[str, str]) -> Any:
    """Read it again, as nested lists of numbers in [0, 1]."""
    with Image.open(io.BytesIO(base64.b64decode(instance["b64"]))) as image:
        return (np.asarray(image).transpose(2, 0, 1).astype(np.float32) / np.float32(255)).tolist()


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_images_and_nested_lists_agree(images: "Gateway", kind: str) -> None:
    """A PNG or JPEG gives the very answer that its pixels divided by 255 give, channels first."""
    files = [encoded(pixels, kind) for pixels in draw(np.arange(9) % 3, seed=5)]
    ids = [str(i) for i in range(9)]
    as_files = images.predict(files, ids=ids, parameters=DETAIL)
    as_lists = images.predict([decoded(file) for file in files], ids=ids, parameters=DETAIL)
    assert as_files == as_lists
    assert [said["label"] for said in as_files] == [COLOURS[i % 3] for i in range(9)]
    mixed = [file if i % 2 else decoded(file) for i, file in enumerate(files)]
    assert images.predict(mixed, ids=ids, parameters=DETAIL) == as_lists


def test_palette_images_are_colour_images(images: "Gateway") -> None:
    """A PNG with a palette is decoded to its colours."""
    pixels = np.zeros((3, 6, 8), dtype=np.uint8)
    pixels[1] = 200
    file = io.BytesIO()
    Image.fromarray(pixels.transpose(1, 2, 0)).quantize(4).save(file, "PNG")
    (said,) = images.predict([{"b64": base64.b64encode(file.getvalue()).decode()}])
    assert said["label"] == "green"


def test_image_numbers_are_taken_as_they_are(images: "Gateway") -> None:
    """Numbers of an image are in [0, 1]; those outside are a violation that the quality guard flags, not an error."""
    image = np.full((3, 6, 8), 0.5)
    image[0, 0, 0] = 200
    (said,) = images.predict([image.tolist()], parameters=DETAIL)
    assert said["reasons"][0] == "quality"
    assert said["guards"]["quality"]["causes"] == ["brightest:0", LIKE_BYTES]


def test_pixels_that_are_no_fractions_say_so(images: "Gateway") -> None:
    """Pixels outside [0, 1] have a warning by every door, and every guard that flags them names it as a cause."""
    inside = draw(np.arange(1), seed=3)[0] / 255
    rows = [inside.tolist(), (inside * 255).tolist(), (inside - 2).tolist()]
    plain, by_bytes, negative = images.predict(rows, parameters=DETAIL)
    assert "warnings" not in plain
    for said, warning in ((by_bytes, LIKE_BYTES), (negative, OUTSIDE)):
        assert said["warnings"] == [warning]
        flagged = [guard["causes"] for guard in said["guards"].values() if guard["flagged"]]
        assert flagged
        assert all(causes[-1] == warning for causes in flagged)
    assert [said.get("warnings") for said in images.predict(rows)] == [None, [LIKE_BYTES], [OUTSIDE]]
    tensor = {"name": "x", "datatype": "FP32", "shape": [3, 3, 6, 8], "data": rows}
    answer = images.post({"inputs": [tensor]}, f"/v2/models/{images.name}/infer").json()
    assert answer["parameters"]["warnings"] == f"rows 1: {LIKE_BYTES}; rows 2: {OUTSIDE}"


# Regression


def test_regression_answers_value_and_interval(values: "Gateway") -> None:
    """A regression answers a value within its interval; an abstained row has neither."""
    fine, odd = values.predict([{"a": 2.5, "b": 1, "c": 0.5}, {"a": 900, "b": -900, "c": 0}])
    assert fine.keys() == {"id", "value", "interval", "action", "reasons"}
    assert fine["value"] == pytest.approx(6.0, abs=1e-5)
    low, high = fine["interval"]
    assert low < fine["value"] < high
    assert high - low == pytest.approx(2 * 1.645 * 0.1, rel=0.3)
    assert odd.keys() == UNANSWERED
    assert (odd["action"], odd["label"]) == ("abstain", None)


def test_an_answer_that_is_no_number_is_withheld(values: "Gateway") -> None:
    """If the model gives NaN for a row, the row's action is abstain, and the other rows are untouched."""
    before, broken, after = values.predict([[1, 1, 1], [BROKEN, 1, 1], [1, 1, 1]])
    assert (broken["action"], broken["label"]) == ("abstain", None)
    assert not {"value", "interval"} & broken.keys()
    assert before["value"] == after["value"] == pytest.approx(2, abs=1e-4)


def test_prediction_sets_hold_likely_labels(table: "Gateway") -> None:
    """A prediction set lists labels, the likeliest first: one label if the model is sure, both if it is not."""
    sure, unsure = table.predict([ALLOWED, FLAGGED])
    assert sure["prediction_set"] == ["yes"]
    assert sorted(unsure["prediction_set"]) == ["no", "yes"]


# Doors


@pytest.mark.parametrize("rows", [1, 3, 64, 200])
def test_predict_and_v1_give_equal_bytes(table: "Gateway", rows: int) -> None:
    """The BentoML door takes the v1 body and answers the v1 body, to the bit."""
    body = {"instances": loans(rows, seed=rows), "ids": [str(i) for i in range(rows)], "parameters": DETAIL}
    assert table.post(body).content == table.post(body, "/predict").content


@NEEDS_BENTOML
@pytest.mark.filterwarnings("ignore")  # whatever BentoML and its dependencies deprecate is theirs
def test_bentoml_client_works_unchanged(table: "Gateway") -> None:
    """BentoML's own client calls `predict` by its name and gets the v1 answer."""
    import bentoml

    with bentoml.SyncHTTPClient(table.url) as client:
        answer = client.predict(instances=[ALLOWED, FLAGGED], ids=["a", "b"])
        detailed = client.predict(instances=[ALLOWED], parameters=DETAIL)
    client._temp_dir.cleanup()  # which it forgets
    assert answer["predictions"] == table.predict([ALLOWED, FLAGGED], ids=["a", "b"])
    assert "quality" in detailed["predictions"][0]["guards"]


@NEEDS_BENTOML
@pytest.mark.filterwarnings("ignore")  # whatever BentoML and its dependencies deprecate is theirs
def test_bentoml_client_sends_arrays(images: "Gateway", table: "Gateway") -> None:
    """BentoML's own client sends arrays of rows as they are, beside lists, objects and files."""
    import bentoml

    pixels = draw(np.arange(3), seed=7)
    x = pixels.astype(np.float32) / np.float32(255)
    ids = ["a", "b", "c"]
    with bentoml.SyncHTTPClient(images.url) as client:
        whole = client.predict(instances=x, ids=ids)["predictions"]
        rows = client.predict(instances=list(x), ids=ids)["predictions"]
        files = client.predict(instances=[encoded(one) for one in pixels], ids=ids)["predictions"]
        odd = client.predict(instances=pixels)["predictions"]
    client._temp_dir.cleanup()
    assert whole == rows == files == images.predict(x.tolist(), ids=ids)
    assert all(said["warnings"] == [LIKE_BYTES] for said in odd)  # JSON does not say that they were bytes
    with bentoml.SyncHTTPClient(table.url) as client:
        row = list(ALLOWED.values())
        mixed = client.predict(instances=np.array([row, row], dtype=object), ids=["a", "b"])["predictions"]
        lists = client.predict(instances=[row, ALLOWED | {"job": None}], ids=["a", "b"])["predictions"]
    client._temp_dir.cleanup()
    assert mixed == table.predict([ALLOWED, ALLOWED], ids=["a", "b"])
    assert lists == table.predict([ALLOWED, ALLOWED | {"job": None}], ids=["a", "b"])


def test_model_metadata(table: "Gateway") -> None:
    """The server names its model, and says that it is ready."""
    assert table.client.get("/v1/models").json() == {"models": ["loans"]}
    assert table.client.get("/v1/models/loans").json() == {"name": "loans", "ready": True}


def test_percent_encoded_paths_are_the_same_paths(table: "Gateway") -> None:
    """A client that encodes the colon reaches the same route."""
    response = table.client.post("/v1/models/loans%3Apredict", json={"instances": [ALLOWED]})
    assert response.status_code == 200


@pytest.mark.parametrize(
    "path", ["/livez", "/healthz", "/readyz", "/v1/models", "/v1/models/loans", "/metrics", "/openapi.json", "/docs"]
)
def test_head_is_get_without_a_body(table: "Gateway", path: str) -> None:
    """HEAD tells what GET would, and sends nothing."""
    head, get = table.client.head(path), table.client.get(path)
    assert head.status_code == get.status_code == 200
    assert head.content == b""
    assert head.headers["content-type"] == get.headers["content-type"]


def test_monitors_report(table: "Gateway") -> None:
    """Every monitor tells its kind, state and statistics in the contract's shape."""
    before = _statistics(table.client)
    table.predict([ALLOWED] * 3 + [REJECTED], groups={"sex": ["Female", "Female", "x", None]})
    table.metrics()  # waits until all is counted
    after = _statistics(table.client)
    sex = {key: after[key][0] - before[key][0] for key in after if key[0] == "sex"}
    assert sex == {("sex", "Female"): 2, ("sex", "Male"): 0, ("sex", "other"): 1, ("sex", "unknown"): 0}
    bands = {key[1]: after[key][0] - before[key][0] for key in after if key[0] == "age"}
    assert bands == {"<25": 0, "25-45": 0, "45-65": 3, ">=65": 0, "other": 0, "unknown": 0}


def _statistics(client: httpx.Client) -> dict[tuple[str, str], tuple[int, float]]:
    monitors = client.get("/v1/models/loans/monitors").json()["monitors"]
    assert list(monitors) == ["streams", "region", "age", "sex", "accuracy"]
    found = {}
    for name, monitor in monitors.items():
        assert monitor.keys() == {"kind", "state", "since", "statistics", "skipped"}
        assert monitor["state"] in {"ok", "warning", "alarm", "insufficient_data"}
        for statistic in monitor["statistics"]:
            assert statistic.keys() == {"name", "value", "interval", "n", "labels"}
            if statistic["interval"] is not None:
                low, high = statistic["interval"]
                assert low - 1e-9 <= statistic["value"] <= high + 1e-9
            if statistic["name"] == "selection_rate" and statistic["labels"]["label"] == "yes":
                found[name, statistic["labels"]["group"]] = statistic["n"], statistic["value"]
    return found


@pytest.mark.parametrize("parameters", [{}, {"method": "integrated_gradients", "steps": 8, "top_k": 2}])
def test_explanations_add_up(values: "Gateway", parameters: dict[str, Any]) -> None:
    """An explanation names columns, and its attributions account for the change from baseline to output."""
    rows = [{"a": 2.5, "b": 1, "c": 0.5}, [1, 1, 1]]
    response = values.post({"instances": rows, "ids": ["a", "b"], "parameters": parameters}, "/v1/models/value:explain")
    assert response.status_code == 200, response.text
    explanations = response.json()["explanations"]
    assert [explanation["id"] for explanation in explanations] == ["a", "b"]
    for explanation, value in zip(explanations, (6.0, 2.0), strict=True):
        assert len(explanation["attributions"]) == parameters.get("top_k", 3)
        assert explanation["attributions"].keys() <= {"a", "b", "c"}
        assert explanation["output_value"] == pytest.approx(value, abs=1e-4)
        assert explanation["label"] is None
        if not parameters:
            change = explanation["output_value"] - explanation["baseline_value"]
            assert sum(explanation["attributions"].values()) == pytest.approx(change, abs=1e-3)
            assert explanation["convergence_delta"] == pytest.approx(0, abs=1e-3)


def test_explanation_of_a_label(images: "Gateway") -> None:
    """The target is the predicted label or the requested one; an image's attributions have the image's shape."""
    image = draw(np.array([1]), seed=6)[0]
    for parameters, target in (({}, "green"), ({"target": "red"}, "red")):
        body = {"instances": [encoded(image)], "parameters": parameters}
        (explanation,) = images.post(body, "/v1/models/colours:explain").json()["explanations"]
        assert explanation["label"] == target
        assert np.shape(explanation["attributions"]) == (3, 6, 8)


def test_no_explanation_of_a_withheld_answer(values: "Gateway") -> None:
    """A row that was not answered is not explained: 422 with its place, why, and what would allow it."""
    response = values.post({"instances": [[1, 1, 1], [900, -900, 0]]}, "/v1/models/value:explain")
    assert response.status_code == 422
    (error,) = response.json()["errors"]
    assert error["loc"] == ["instances", 1]
    assert "abstain" in error["msg"] or "reject" in error["msg"]
    assert "explain.rejected: true" in error["msg"]


def test_no_explanation_where_the_method_cannot_tell(table: "Gateway") -> None:
    """Gradients through category indices are no gradients: the refusal names the columns."""
    response = table.post({"instances": [ALLOWED]}, "/v1/models/loans:explain")
    assert response.status_code == 422
    assert "region" in response.json()["errors"][0]["msg"]
