"""The target behind a URL, with a made-up server that answers as the pipeline does."""

import json
import threading
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest
import tiny_models

from guards.attacks.http_target import HttpTarget
from guards.attacks.pipeline_target import PipelineTarget
from guards.attacks.target import WITHHELD, Answers, Client
from guards.bundle.bundle import Bundle
from guards.types import Mistake


class Server:
    """Answers v1 requests by the pipeline, and remembers their headers and bodies."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle, self.local = bundle, PipelineTarget(bundle)
        self.headers: list[httpx.Headers] = []
        self.bodies: list[list[Any]] = []
        self.busy = 0
        self.id = bundle.id
        self._one_at_a_time = threading.Lock()

    def client(self) -> httpx.Client:
        """Give a client that speaks to this server."""
        return httpx.Client(base_url="http://there", transport=httpx.MockTransport(self.answer))

    def answer(self, request: httpx.Request) -> httpx.Response:
        """Answer one request; accounts ask in parallel, and a pipeline serves one thread."""
        with self._one_at_a_time:
            return self._answer(request)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        assert request.url.path == "/v1/models/toy:predict"
        if self.busy:
            self.busy -= 1
            return httpx.Response(503, headers={"Retry-After": "7"})
        instances = json.loads(request.content)["instances"]
        self.headers.append(request.headers)
        self.bodies.append(instances)
        if self.bundle.schema.columns:
            x, faults = self.bundle.schema.encode(
                {name: [row[name] for row in instances] for name in self.bundle.schema.names}
            )
        else:
            x, faults = self.bundle.schema.stack(instances)
        assert not faults
        found = self.local.alone(x)
        predictions = [self.prediction(found, place) for place in range(len(found))]
        return httpx.Response(200, json={"predictions": predictions, "model": {"bundle": self.id}})

    def prediction(self, found: Answers, place: int) -> dict[str, Any]:
        """Write what a server shows of an answer."""
        if found.labels[place] == WITHHELD:
            return {"label": None, "action": "abstain"}
        names = self.bundle.classes
        return {
            "label": names[found.labels[place]],
            "probabilities": dict(zip(names, found.probabilities[place].tolist(), strict=True)),
            "action": "flag" if found.flagged[place] else "allow",
        }


@pytest.fixture
def server(fitted: Any) -> Server:
    """Serve a tiny model of each kind of rows."""
    return Server(fitted.bundle)


def test_answers_are_those_of_the_pipeline(server: Server, kind: str) -> None:
    """Rows travel as JSON without loss, and their answers come back in the rows' order."""
    x = tiny_models.inputs(kind, 300, 4).numpy()
    clients = [Client("attack", place % 3) for place in range(300)]
    with server.client() as client:
        found = HttpTarget(server.bundle, client).ask(x, clients)
    expected = server.local.alone(x)
    assert found.labels.tolist() == expected.labels.tolist()
    assert np.array_equal(found.probabilities, expected.probabilities, equal_nan=True)
    assert found.flagged.tolist() == expected.flagged.tolist() == found.refused.tolist()
    assert WITHHELD in found.labels


def asked_by(server: Server, **options: Any) -> list[httpx.Headers]:
    x = tiny_models.inputs("tensor", 4, 4).numpy()
    with server.client() as client:
        target = HttpTarget(server.bundle, client, **options)
        server.headers.clear()
        target.ask(x, [Client("nes 3", account) for account in (0, 1, 2, 0)])
    return server.headers


def test_an_account_is_a_key() -> None:
    """Each account sends its own key, in one request for its rows; with fewer keys accounts share keys."""
    headers = asked_by(Server(tiny_models.fitted("tensor").bundle), keys=["one", "two"])
    assert sorted(each["Authorization"] for each in headers) == ["Bearer one", "Bearer one", "Bearer two"]


def test_an_account_is_a_value_of_a_header() -> None:
    """Each account of each attack has a value of its own of the header, which no other run has."""
    first, second = (
        [each["X-Client"] for each in asked_by(Server(tiny_models.fitted("tensor").bundle), header="X-Client")]
        for _ in range(2)
    )
    assert len({*first, *second}) == 6
    assert all("nes 3" in value for value in first)


def test_a_busy_server_is_asked_again() -> None:
    """A server that is busy says when to come back, and the same rows are sent again then."""
    server, waits = Server(tiny_models.fitted("tensor").bundle), list[float]()
    with server.client() as client:
        target = HttpTarget(server.bundle, client, sleep=waits.append)
        server.busy = 2
        answers = target.ask(tiny_models.inputs("tensor", 3, 4).numpy(), [Client("a", 0)] * 3)
    assert (len(answers), waits) == (3, [7.0, 7.0])


def test_rows_are_sent_in_requests_that_the_server_takes() -> None:
    """No request has more rows than the server's limit."""
    fitted = tiny_models.fitted("tensor", server={"max_rows_per_request": 4})
    server = Server(fitted.bundle)
    with server.client() as client:
        HttpTarget(server.bundle, client).ask(tiny_models.inputs("tensor", 10, 4).numpy(), [Client("a", 0)] * 10)
    assert [len(body) for body in server.bodies] == [1, 4, 4, 2]


def other_bundle(server: Server) -> None:
    server.id = "sha256:other"


def refusing(server: Server) -> None:
    server.answer = lambda _: httpx.Response(401, text="no key")  # type: ignore[method-assign]


def foreign(server: Server) -> None:
    server.answer = lambda _: httpx.Response(200, text="hello")  # type: ignore[method-assign]


def silent(server: Server) -> None:
    def fail(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    server.answer = fail  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (other_bundle, "it serves the bundle sha256:other"),
        (refusing, "answered 401: no key"),
        (foreign, "no Guardhouse server"),
        (silent, "does not answer"),
    ],
)
def test_another_server_is_refused(spoil: Callable[[Server], None], said: str) -> None:
    """A server of another bundle, without access, of another make, or that is not there, is a user's mistake."""
    server = Server(tiny_models.fitted("tensor").bundle)
    spoil(server)
    with server.client() as client, pytest.raises(Mistake, match=said):
        HttpTarget(server.bundle, client)
