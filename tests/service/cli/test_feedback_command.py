"""``guardhouse feedback``: outcomes are sent until the server has them."""

import json
from typing import Any

import httpx
import pytest

from guards.types import Mistake
from service.cli.feedback import TRIES, NotSentError, Sender
from service.cli.outcomes_file import FeedbackFile
from service.front.openapi.feedback import feedback_path
from service.front.openapi.labels import label_schemas
from service.front.protocols.feedback import MAX_OUTCOMES


class Server:
    """Gives prepared answers, and remembers the requests."""

    def __init__(self, *answers: httpx.Response | Exception, labels: tuple[str, ...] = ("a", "b")) -> None:
        self.labels = labels
        self.answers, self.bodies, self.slept = list(answers), list[Any](), list[float]()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/models":
            return httpx.Response(200, json={"models": ["loans"]})
        if request.url.path == "/openapi.json":
            path = feedback_path(self.labels, lambda *_: {"405": {}})
            components = {"schemas": label_schemas(self.labels)}
            document = {"paths": {"/v1/models/loans:feedback": path}, "components": components}
            return httpx.Response(200, json=document)
        assert request.url.path == "/v1/models/loans:feedback"
        self.bodies.append(json.loads(request.content)["outcomes"])
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def sender(self) -> Sender:
        sender = Sender("http://x", sleep=self.slept.append, transport=httpx.MockTransport(self))
        assert sender.labels() == list(self.labels)
        return sender


def file_of(*outcomes: dict[str, Any]) -> FeedbackFile:
    """Make a file of outcomes, one on each line after the first."""
    return FeedbackFile([*outcomes], [*range(2, len(outcomes) + 2)])


def said(accepted: int, *unknown: str) -> httpx.Response:
    """Answer as the server does."""
    return httpx.Response(200, json={"accepted": accepted, "duplicate": [], "conflicting": [], "unknown": [*unknown]})


def test_labels_that_the_document_lists_once() -> None:
    """Of a model with many labels the sender knows all of them, too."""
    server = Server(labels=tuple(f"label {place}" for place in range(5000)))
    assert server.sender().labels() == list(server.labels)


def test_a_large_file_goes_in_batches() -> None:
    """No batch is over the server's bound, and what became of each outcome is added up."""
    server = Server(said(MAX_OUTCOMES - 1, "x"), said(4, "y"))
    outcomes = [{"id": str(i), "label": "a"} for i in range(MAX_OUTCOMES + 5)]
    (_, _), (first, _), (second, result) = list(server.sender().send(file_of(*outcomes)))
    assert (first, second) == (MAX_OUTCOMES, 5)
    assert [outcome for body in server.bodies for outcome in body] == outcomes
    assert result == {"accepted": MAX_OUTCOMES + 3, "duplicate": [], "conflicting": [], "unknown": ["x", "y"]}


def test_what_is_refused_for_now_is_sent_again() -> None:
    """A full queue, a database that is down, a lost connection: each is waited out, longer every time."""
    server = Server(httpx.Response(503, text="full"), httpx.ConnectError("gone"), said(1))
    *_, (_, result) = server.sender().send(file_of({"id": "a", "label": "b"}))
    assert result["accepted"] == 1
    assert server.bodies == [[{"id": "a", "label": "b"}]] * 3
    assert server.slept == [1.0, 2.0]


def test_a_server_that_never_takes_it_is_given_up() -> None:
    """After several tries the command ends, and prints the server's last answer."""
    server = Server(*[httpx.Response(503, text="the store is down")] * TRIES)
    with pytest.raises(NotSentError, match="the store is down"):
        list(server.sender().send(file_of({"id": "a", "label": "b"})))


def test_a_label_that_is_not_the_models_is_told_by_its_place() -> None:
    """The server's place in a batch becomes one in the file."""
    refusal = {"errors": [{"loc": ["outcomes", 2, "label"], "msg": "not of the model's labels"}]}
    server = Server(said(MAX_OUTCOMES), httpx.Response(422, json=refusal))
    with pytest.raises(Mistake, match=f"line {MAX_OUTCOMES + 4}, label: not of the model's labels"):
        list(server.sender().send(file_of(*({"id": str(i), "label": "a"} for i in range(MAX_OUTCOMES + 5)))))


def test_another_answer_is_a_sentence() -> None:
    """Any other answer, as from a server with feedback switched off, is reported in a sentence."""
    with pytest.raises(Mistake, match="answered 404"):
        list(Server(httpx.Response(404, text="nothing")).sender().send(file_of({"id": "a", "label": "b"})))


def test_repeated_ids_are_shown() -> None:
    """Ids that the server says were used again are in the result; without such ids the result has no such list."""
    again = httpx.Response(200, json={**said(1).json(), "repeated": ["b"]})
    sender = Server(again).sender()
    *_, (_, result) = sender.send(file_of({"id": "b", "label": "a"}))
    assert result["repeated"] == ["b"]
    *_, (_, result) = Server(said(1)).sender().send(file_of({"id": "b", "label": "a"}))
    assert "repeated" not in result
