"""The v1 routes: in which thread bodies are decoded, and what each route asks the engine and answers."""

import asyncio
import base64
import io
import json
import threading
from collections.abc import Sequence
from functools import cache
from typing import Any

import pytest
import torch
from idle_limit import idle_limit
from local_engine import LocalEngine, served_config, served_model_of
from PIL import Image
from tiny_models import document, fitted, inputs, schema
from waiting import until_in_loop

from guards import Action, Batch, Bundle
from guards.config.config import parse
from service.front import v1_routes
from service.front.dispatch import Limits
from service.front.http import Call
from service.front.prediction import Prediction
from service.front.protocols import v1
from service.front.readiness import Readiness
from service.front.v1_routes import CODES, LARGE_BODY, PREDICT_PARAMETERS, V1Routes
from service.messages.outcomes import Joined, Outcome
from service.messages.refused import Refused
from service.telemetry.metrics.front import FrontMetrics
from service.telemetry.request_record import Exchanges

IMAGE = [[[0.5] * 6] * 6]


def picture() -> str:
    """Write a small PNG."""
    file = io.BytesIO()
    Image.new("L", (6, 6), 51).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def decode(monkeypatch: pytest.MonkeyPatch, body: bytes, kind: str) -> tuple[v1.Request, bool]:
    """Decode a body as a request does; also tell whether that was on the event loop's own thread."""
    threads: list[threading.Thread] = []
    by_v1 = v1.decode

    def watched(*arguments: Any, **named: Any) -> v1.Request:
        threads.append(threading.current_thread())
        return by_v1(*arguments, **named)

    monkeypatch.setattr(v1_routes.v1, "decode", watched)
    served = served_config(parse(document(kind)), schema(kind))
    call = Call("POST", "/predict", {}, "request", 0.0)
    call.body = body
    request = asyncio.run(v1_routes.read(served, call, PREDICT_PARAMETERS))
    return request, threads == [threading.main_thread()]


@pytest.mark.parametrize(
    "body",
    [
        json.dumps({"instances": [{"b64": picture()}]}),
        json.dumps({"instances": [IMAGE, {"b64": picture()}]}),
        json.dumps({"instances": [{"b64": picture()}]}).replace("b64", r"\u006264"),
        json.dumps({"instances": [{"b64": picture()}]}).replace("b64", r"b\u00364"),
    ],
    ids=["one", "one of two", "an escaped key", "another"],
)
def test_encoded_images_never_hold_up_the_event_loop(monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    """However small the body and however its key is written, a file in it is unpacked on another thread."""
    assert len(body) < LARGE_BODY
    request, on_loop = decode(monkeypatch, body.encode(), "image")
    assert not on_loop
    assert request.x[-1].ravel().tolist() == pytest.approx([0.2] * 36)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (json.dumps({"instances": [IMAGE]}), "image"),
        (json.dumps({"instances": [[1.5, 2, 3, "b64"]]}), "tabular"),
        (json.dumps({"instances": [[0.5] * 5], "ids": ["\u00e9"]}), "tensor"),
    ],
    ids=["numbers of an image", "a table", "a tensor"],
)
def test_small_numbers_stay_on_the_event_loop(monkeypatch: pytest.MonkeyPatch, body: str, kind: str) -> None:
    """A thread hop costs more than reading a few numbers."""
    _, on_loop = decode(monkeypatch, body.encode(), kind)
    assert on_loop


def test_large_bodies_never_hold_up_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers without end are read on another thread, too."""
    body = json.dumps({"instances": [[0.5] * 5]}) + " " * LARGE_BODY
    _, on_loop = decode(monkeypatch, body.encode(), "tensor")
    assert not on_loop


# Over an engine


class Nothing:
    """No metrics."""

    async def render(self, accept: str) -> tuple[bytes, str]:
        return accept.encode(), "text/plain"


class Server:
    """The routes of one model, behind the limits of every request."""

    def __init__(self, bundle: Bundle, *, draining: bool = False) -> None:
        self.engine, self.served = LocalEngine(bundle), served_model_of(bundle)
        self.metrics = FrontMetrics({template: (*codes, 499) for template, codes in CODES.items()})
        routes = V1Routes(
            self.served,
            self.engine,
            readiness=Readiness(self.engine, lambda: draining),
            prediction=Prediction(self.engine, self.metrics.stages, idle_limit()),
            exposition=Nothing(),
        ).routes()
        self.limits = Limits(
            routes, Exchanges(self.metrics), max_body_bytes=2**20, timeout_seconds=60, closing=lambda: draining
        )

    def ask(self, path: str, body: object = None, query: str = "", **headers: str) -> tuple[int, Any, dict[str, str]]:
        """Send one request; give the status, the document and the headers of the answer."""
        sent: list[Any] = []
        content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        method = "GET" if body is None else "POST"
        fields = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        scope = {"type": "http", "method": method, "path": path, "query_string": query.encode(), "headers": fields}

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": content}

        async def send(message: Any) -> None:
            sent.append(message)

        asyncio.run(self.limits(scope, receive, send))
        start, end = sent
        told = {name.decode(): value.decode() for name, value in start["headers"]}
        is_json = "json" in told["content-type"]
        return start["status"], json.loads(end["body"]) if is_json else end["body"], told

    def shed(self, reason: str) -> float:
        """Count the requests that were refused for a reason."""
        return self.metrics.shed.total(reason)


@cache
def bundle(**changes: Any) -> Bundle:
    """Fit a model of numbers."""
    return fitted("tensor", **{name: {value[0]: value[1]} for name, value in changes.items()}).bundle


MODEL = "/v1/models/toy"


def row(seed: int = 0) -> list[float]:
    """Make up a row."""
    values: list[float] = inputs("tensor", 1, seed)[0].tolist()
    return values


def test_predictions_are_the_pipelines() -> None:
    """The route answers what the pipeline says of the rows, for the ids of the request, and its strictest action."""
    server = Server(bundle())
    status, said, headers = server.ask(f"{MODEL}:predict", {"instances": [row(), row(1)], "ids": ["a", "b"]})
    assert status == 200
    result = server.engine.pipeline(Batch(torch.tensor([row(), row(1)])))
    assert result.prediction.probabilities is not None
    for place, prediction in enumerate(said["predictions"]):
        assert list(prediction["probabilities"].values()) == result.prediction.probabilities[place].tolist()
    assert [prediction["id"] for prediction in said["predictions"]] == ["a", "b"]
    strictest = max(Action[prediction["action"].upper()] for prediction in said["predictions"])
    assert headers["x-guardhouse-action"] == strictest.label
    assert said["model"] == {"name": "toy", "version": "1", "bundle": server.served.bundle}
    assert server.ask("/predict", {"instances": [row(), row(1)], "ids": ["a", "b"]})[1] == said


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (f"{MODEL}:predict", b"no JSON"),
        (f"{MODEL}:feedback", b"no JSON"),
        (f"{MODEL}/monitors", None),
    ],
)
def test_nothing_is_read_while_the_model_is_loading(path: str, body: object) -> None:
    """Until the engine is ready, a request is 503 with its sentence, before its body is read, and counted as shed."""
    server = Server(bundle())
    server.engine.trouble = "the model is still loading"
    status, said, headers = server.ask(path, body)
    assert (status, said["detail"], headers["retry-after"]) == (503, "the model is still loading", "2")
    assert server.shed("loading") == 1


def test_health_is_the_engines() -> None:
    """/readyz and the model say whether the engine is ready; /livez says that the front answers, in any case."""
    server = Server(bundle())
    assert server.ask("/readyz")[:2] == (200, {"status": "ready"})
    assert server.ask(MODEL)[:2] == (200, {"name": "toy", "ready": True})
    server.engine.trouble = "the model cannot be served: no such file"
    status, said, headers = server.ask("/readyz")
    assert (status, said["detail"], headers["retry-after"]) == (503, "the model cannot be served: no such file", "2")
    assert server.ask(MODEL)[:2] == (200, {"name": "toy", "ready": False})
    assert server.ask("/livez")[:2] == server.ask("/healthz")[:2] == (200, {"status": "alive"})
    assert server.shed("loading") == 0


def test_a_draining_server_is_not_ready_and_answers() -> None:
    """While the server drains, /readyz is 503, and a prediction is still answered."""
    server = Server(bundle(), draining=True)
    assert server.ask("/readyz")[1]["detail"] == "the server is shutting down"
    assert server.ask(f"{MODEL}:predict", {"instances": [row()]})[0] == 200


def test_feedback_is_joined_by_the_engine() -> None:
    """The engine gets the decoded outcomes, and the answer says what became of each."""
    server = Server(bundle())
    server.ask(f"{MODEL}:predict", {"instances": [row(), row(1)], "ids": ["a", "b"]})
    first, second = server.served.classes[:2]
    body = {"outcomes": [{"id": "a", "label": first}, {"id": "b", "label": first}, {"id": "c", "label": first}]}
    assert server.ask(f"{MODEL}:feedback", body)[:2] == (
        200, {"accepted": 2, "duplicate": [], "conflicting": [], "unknown": ["c"]},
    )  # fmt: skip
    body = {"outcomes": [{"id": "a", "label": first}, {"id": "b", "label": second}]}
    assert server.ask(f"{MODEL}:feedback", body)[:2] == (
        200, {"accepted": 0, "duplicate": ["a"], "conflicting": ["b"], "unknown": []},
    )  # fmt: skip
    body = {"outcomes": [{"id": "b", "label": second, "replace": True}]}
    assert server.ask(f"{MODEL}:feedback", body)[1]["replaced"] == ["b"]
    assert server.ask(f"{MODEL}:feedback", {"outcomes": [{"id": "a", "label": "no label"}]})[0] == 422


def test_large_feedback_never_holds_up_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """A large body of outcomes is decoded on another thread, and a small one on the event loop."""
    threads: list[threading.Thread] = []
    decode_outcomes = v1_routes.feedback.decode

    def watched(*arguments: Any) -> Any:
        threads.append(threading.current_thread())
        return decode_outcomes(*arguments)

    monkeypatch.setattr(v1_routes.feedback, "decode", watched)
    server = Server(bundle())
    body = json.dumps({"outcomes": []}).encode()
    assert (
        server.ask(f"{MODEL}:feedback", body)[0] == server.ask(f"{MODEL}:feedback", body + b" " * LARGE_BODY)[0] == 200
    )
    assert [thread == threading.main_thread() for thread in threads] == [True, False]


def test_outcomes_that_arrived_are_stored_if_the_client_leaves() -> None:
    """The engine gets the outcomes of a body that was read, even if the client does not wait for the answer."""
    server = Server(bundle())
    server.ask(f"{MODEL}:predict", {"instances": [row()], "ids": ["a"]})
    label = server.served.classes[0]
    call = Call("POST", f"{MODEL}:feedback", {}, "request", 0.0)
    call.body = json.dumps({"outcomes": [{"id": "a", "label": label}]}).encode()
    join, begun = server.engine.join, asyncio.Event()

    async def slowly(outcomes: Sequence[Outcome]) -> Joined:
        begun.set()
        await asyncio.sleep(0.01)
        return await join(outcomes)

    async def main() -> None:
        server.engine.join = slowly  # type: ignore[method-assign]
        asking = asyncio.create_task(server.limits.routes[call.path].handlers["POST"](call))  # type: ignore[arg-type]
        await begun.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await until_in_loop(lambda: server.engine.stored)

    asyncio.run(main())
    assert server.engine.stored == {"a": Outcome("a", label=label)}


def test_a_server_without_a_store_takes_no_feedback() -> None:
    """Without a store feedback is 404, whatever the body holds, and not counted as shed."""
    server = Server(bundle(store=("enabled", False)))
    status, said, headers = server.ask(f"{MODEL}:feedback", b"no JSON")
    assert (status, said["detail"]) == (404, "this server keeps no predictions: store.enabled is false")
    assert "retry-after" not in headers
    assert server.metrics.shed.values.sum() == 0


def test_monitors_are_reported_over_the_scope_that_is_asked_for() -> None:
    """The query names the scope; any other query is refused."""
    server = Server(bundle())
    for query in ("", "of=bundle", "of=version", "of=lifetime"):
        assert server.ask(f"{MODEL}/monitors", query=query)[1] == {"monitors": {}, "bundle": server.served.bundle}
    assert server.engine.scopes == ["bundle", "bundle", "version", "lifetime"]
    status, said, _ = server.ask(f"{MODEL}/monitors", query="of=all")
    assert (status, said["detail"]) == (400, "`of=all`: the query is `of=` and one of bundle, version, lifetime")


def test_a_refusal_of_the_engine_is_counted() -> None:
    """A refusal by the engine during the request is answered with its time, and counted by its reason."""
    server = Server(bundle())
    server.engine.refusal = Refused("store_down", "the store is down", retry_after=10)
    status, said, headers = server.ask(f"{MODEL}/monitors")
    assert (status, said["detail"], headers["retry-after"]) == (503, "the store is down", "10")
    assert server.shed("store_down") == 1


def test_metrics_are_given_from_outside() -> None:
    """A scrape gets what the exposition writes for its Accept header."""
    server = Server(bundle())
    assert server.ask("/metrics", accept="application/openmetrics-text")[:2] == (200, b"application/openmetrics-text")
    assert server.ask("/v1/models")[1] == {"models": ["toy"]}
