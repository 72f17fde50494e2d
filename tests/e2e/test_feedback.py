"""Feedback over HTTP: the predictions of every protocol can be joined, and every answer and counter is exact."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
from feedback_totals import FEEDBACK, NO, NONE, YES, confusion, feedback, outcomes, report
from gateways import cli, differing, free_port
from v2_client import Speaker, binary_request, columns, head, json_request, packed, speak, unpacked

from service.front.protocols import grpc_predict_v2_pb2 as messages

if TYPE_CHECKING:
    from conftest import Bundles
    from gateways import Gateway


@pytest.fixture(scope="module")
def speaker(bundles: "Bundles", ledger: str) -> Iterator[Speaker]:
    """Serve a classifier with a monitor that tallies, over HTTP and gRPC."""
    yield from speak(bundles, ledger)


def ids_of(response: Any) -> list[str]:
    """Read the ids of a v2 answer in JSON."""
    (names,) = (output["data"] for output in response.json()["outputs"] if output["name"] == "id")
    return list(names)


SAME = "sent-with-every-request"


def by_v1(speaker: Speaker) -> list[str]:
    response = speaker.gateway.post({"instances": [YES, NO]}, X_Request_ID=SAME)
    return [one["id"] for one in response.json()["predictions"]]


def by_bentoml(speaker: Speaker) -> list[str]:
    response = speaker.gateway.post({"instances": [YES, NO]}, "/predict", X_Request_ID=SAME)
    return [one["id"] for one in response.json()["predictions"]]


def by_v2(speaker: Speaker) -> list[str]:
    request = json_request(columns([YES, NO]), id=SAME)
    response = speaker.gateway.post(request, speaker.infer_path, X_Request_ID=SAME)
    assert response.json()["id"] == SAME
    return ids_of(response)


def by_v2_binary(speaker: Speaker) -> list[str]:
    body, headers = binary_request(columns([YES, NO]))
    more = {**headers, "X-Request-ID": SAME}
    return ids_of(speaker.gateway.client.post(speaker.infer_path, content=body, headers=more))


def by_grpc(speaker: Speaker) -> list[str]:
    request = messages.ModelInferRequest(model_name="loans", id=SAME)
    for name, array in columns([YES, NO]).items():
        request.inputs.add(**head(name, array))
        request.raw_input_contents.append(packed(array))
    with grpc.insecure_channel(speaker.rpc) as channel:
        method = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        raw, call = method.with_call(request.SerializeToString(), timeout=120, metadata=[("x-request-id", SAME)])
    assert dict(call.trailing_metadata())["x-request-id"] == SAME
    response = messages.ModelInferResponse.FromString(raw)
    assert response.id == SAME
    place = [tensor.name for tensor in response.outputs].index("id")
    return unpacked(response.raw_output_contents[place])


@pytest.mark.parametrize("door", [by_v1, by_bentoml, by_v2, by_v2_binary, by_grpc])
def test_every_door_is_recorded_alike(speaker: Speaker, door: Any) -> None:
    """Two requests with one X-Request-ID and no ids have four rows, and each outcome joins its own row once."""
    gateway = speaker.gateway
    before = np.array(confusion(report(gateway)))
    first, second = door(speaker), door(speaker)
    assert len({*first, *second}) == 4
    everything = {"accepted": 2, "duplicate": [], "conflicting": [], "unknown": []}
    assert feedback(gateway, first, "yes") == everything
    assert feedback(gateway, second, "no") == everything
    after = np.array(confusion(report(gateway)))
    assert (after - before).tolist() == [[2, 1, 1], [2, 1, 1], [0, 0, 0]]


def test_what_becomes_of_outcomes(speaker: Speaker) -> None:
    """Accepted, repeated, conflicting and unknown outcomes are answered and counted."""
    gateway = speaker.gateway
    gateway.predict([YES, NO, NONE], ids=["w-1", "w-2", "w-3"])
    before = gateway.metrics()
    assert feedback(gateway, ["w-1", "w-2", "w-3", "w-1", "w-9"], "yes") == {
        "accepted": 3, "duplicate": ["w-1"], "conflicting": [], "unknown": ["w-9"],
    }  # fmt: skip
    assert feedback(gateway, ["w-1", "w-9"], "no") == {
        "accepted": 0, "duplicate": [], "conflicting": ["w-1"], "unknown": ["w-9"],
    }  # fmt: skip
    moved = {name: by for name, by in differing(gateway.metrics(), before).items() if "request" not in name}
    joined = {name: moved.pop(name) for name in list(moved) if name.startswith("guardhouse_group_outcomes")}
    groupings = {name.partition('attribute="')[2].partition('"')[0] for name in joined}
    assert sum(joined.values()) == 3 * len(groupings)
    assert moved == {
        'guardhouse_feedback_total{result="accepted"}': 3,
        'guardhouse_feedback_total{result="duplicate"}': 1,
        'guardhouse_feedback_total{result="conflicting"}': 1,
        'guardhouse_feedback_total{result="unknown"}': 2,
        'guardhouse_outcomes_total{correct="true"}': 1,
        'guardhouse_outcomes_total{correct="false"}': 1,
        'guardhouse_covered_total{covered="true"}': moved.get('guardhouse_covered_total{covered="true"}', 0),
        'guardhouse_covered_total{covered="false"}': 2 - moved.get('guardhouse_covered_total{covered="true"}', 0),
    }


def test_an_id_used_again_is_the_first_predictions(speaker: Speaker) -> None:
    """The second prediction of an id is answered, and neither counted in the totals nor joined with the outcome."""
    gateway = speaker.gateway
    before = np.array(confusion(report(gateway)))
    gateway.predict([YES], ids=["again"])
    assert gateway.predict([NO], ids=["again"])[0]["label"] == "no"
    assert feedback(gateway, ["again"], "yes")["accepted"] == 1
    assert (np.array(confusion(report(gateway))) - before).tolist() == [[0, 0, 0], [1, 0, 1], [0, 0, 0]]


def test_a_label_that_is_not_the_models_refuses_all(speaker: Speaker) -> None:
    """Nothing of such a body is stored, and the faults are listed with their places."""
    gateway = speaker.gateway
    gateway.predict([YES], ids=["strict"])
    body = {"outcomes": [{"id": "strict", "label": "yes"}, {"id": "strict", "label": "perhaps"}]}
    response = gateway.client.post(FEEDBACK, json=body)
    assert response.status_code == 422
    assert [error["loc"] for error in response.json()["errors"]] == [["outcomes", 1, "label"]]
    assert feedback(gateway, ["strict"], "no")["accepted"] == 1


def test_a_large_body(speaker: Speaker) -> None:
    """Ten thousand outcomes are one request; one more is too many."""
    gateway = speaker.gateway
    ids = [f"large-{i}" for i in range(10_000)]
    for start in range(0, len(ids), 1000):
        gateway.predict([YES] * 1000, ids=ids[start : start + 1000])
    assert feedback(gateway, ids, "yes")["accepted"] == 10_000
    assert gateway.client.post(FEEDBACK, json=outcomes([*ids, "more"], "yes")).status_code == 422


def in_this_process(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: Any) -> Any:
    """Run the command line in this process; give its status, output and error output."""
    import service.cli.commands

    monkeypatch.setattr("sys.argv", ["guardhouse", *map(str, arguments)])
    with pytest.raises(SystemExit) as left:
        service.cli.commands.run()
    said = capsys.readouterr()
    return int(left.value.code or 0), said.out, said.err


def test_the_command_sends_a_file(
    speaker: Speaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`guardhouse feedback` loads a CSV, prints what became of it, and the same file again counts once."""
    speaker.gateway.predict([YES, NO], ids=["c-1", "c-2"])
    file = tmp_path / "labels.csv"
    file.write_text("id,label,probability\nc-1,yes,0.5\nc-2,yes,\nc-3,no,\n")
    command = ("feedback", "--file", file, "--url", speaker.gateway.url)
    done = cli(*command, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"accepted": 2, "duplicate": [], "conflicting": [], "unknown": ["c-3"]}
    status, out, _ = in_this_process(monkeypatch, capsys, *command)
    assert status == 0
    assert "c-1, c-2" in out
    file.write_text("id,label\nc-1,no\nc-2,\n")
    _, out, _ = in_this_process(monkeypatch, capsys, *command, "--replace", "--json")
    assert json.loads(out) == {
        "accepted": 1, "duplicate": [], "conflicting": [], "unknown": [], "skipped": 1, "replaced": ["c-1"],
    }  # fmt: skip
    file.write_text("id,label\nc-1,perhaps\n")
    status, _, err = in_this_process(monkeypatch, capsys, *command)
    assert (status, "Traceback" in err) == (2, False)
    assert "line 2: 'perhaps' is not one of the model's labels ['no', 'yes']" in " ".join(err.split())


def test_a_label_is_corrected(speaker: Speaker) -> None:
    """With replace, the totals move from the old label to the new one, once; without it, nothing changes."""
    gateway = speaker.gateway
    gateway.predict([YES, YES], ids=["r-1", "r-2"])
    assert feedback(gateway, ["r-1", "r-2"], "no")["accepted"] == 2
    before = np.array(confusion(report(gateway)))
    assert feedback(gateway, ["r-1"], "yes")["conflicting"] == ["r-1"]
    body = {"outcomes": [{"id": "r-1", "label": "yes", "replace": True}, {"id": "r-2", "label": "no", "replace": True}]}
    for accepted, duplicate, replaced in ((1, ["r-2"], ["r-1"]), (0, ["r-1", "r-2"], [])):
        assert gateway.post(body, FEEDBACK).json() == {
            "accepted": accepted, "duplicate": duplicate, "conflicting": [], "unknown": [], "replaced": replaced,
        }  # fmt: skip
        moved = np.array(confusion(report(gateway))) - before
        assert moved.tolist() == [[0, 0, 0], [0, -1, 1], [0, 0, 0]]
    refused = gateway.client.post(FEEDBACK, json={"outcomes": [{"id": "r-1", "label": "no", "replace": "yes"}]})
    assert [error["loc"] for error in refused.json()["errors"]] == [["outcomes", 0, "replace"]]


def test_a_server_that_is_not_there(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A server that cannot be reached is a sentence and status 1."""
    monkeypatch.setattr("service.cli.feedback.TRIES", 1)
    url = f"http://127.0.0.1:{free_port()}"
    status, _, err = in_this_process(monkeypatch, capsys, "feedback", "--file", "x", "--url", url)
    assert status == 1
    assert "does not take it" in err


def test_regression_takes_numbers(values: "Gateway") -> None:
    """The outcome of a regression is a number, and what is right is whether the interval held it."""
    (said,) = values.predict([[1, 2, 0.5]], ids=["v-1"])
    before = values.metrics()
    low, high = said["interval"]
    body = {"outcomes": [{"id": "v-1", "label": (low + high) / 2}]}
    response = values.post(body, "/v1/models/value:feedback")
    assert response.json()["accepted"] == 1
    moved = differing(values.metrics(), before)
    assert moved['guardhouse_covered_total{covered="true"}'] == 1
    assert not [name for name in moved if name.startswith("guardhouse_outcomes_total")]
    assert values.post({"outcomes": [{"id": "v-1", "label": "3"}]}, "/v1/models/value:feedback").status_code == 422


def test_without_a_store_there_is_no_feedback(restricted: "Gateway") -> None:
    """Predictions go on and are not kept, feedback is 404; monitors tell what this process counted."""
    restricted.predict([[1, 1, 1]])
    body = {"outcomes": [{"id": "a", "label": 1}]}
    assert restricted.client.post("/v1/models/value:feedback", json=body).status_code == 404
    assert restricted.client.get("/v1/models/value/monitors").json()["totals"] == "process"
    assert not list(restricted.state.glob("*.db*"))
