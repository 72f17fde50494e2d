"""``guardhouse feedback``: what is in the file, and how it is sent until it is there."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from guards.types import Mistake
from service.protocols.outcomes import MAX_OUTCOMES
from service.sending import TRIES, NotSentError, Sender, read_outcomes


def written(folder: Path, text: str) -> Path:
    """Write a file."""
    path = folder / "labels.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_is_read(tmp_path: Path) -> None:
    """Labels are strings, or numbers where the model answers numbers; an empty probability is none."""
    path = written(tmp_path, 'id,label,probability\na,1,0.5\n"b,2",0,\n')
    assert read_outcomes(path, numbers=False) == [
        {"id": "a", "label": "1", "probability": 0.5}, {"id": "b,2", "label": "0"},
    ]  # fmt: skip
    assert [outcome["label"] for outcome in read_outcomes(path, numbers=True)] == [1.0, 0.0]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "first line"),
        ("id,outcome\na,b\n", "first line"),
        ("id,label,label\na,b,c\n", "first line"),
        ("id,label\na\n", "line 2: it has not as many fields"),
        ("id,label\na,1,2\n", "line 2: it has not as many fields"),
        ("id,label\na,1\n,2\n", "line 3: the id is empty"),
        ("id,label\na,x\n", "line 2: the label 'x' is no finite number"),
        ("id,label\na,nan\n", "line 2: the label 'nan'"),
        ("id,label,probability\na,1,2\n", r"line 2: the probability 2 is not in \(0, 1\]"),
        ('id,label\n"a,1\n', "cannot be read"),
    ],
)
def test_a_mistake_in_the_file_is_a_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    """It names the file, the line and what is wrong there."""
    path = written(tmp_path, text)
    with pytest.raises(Mistake, match=f"labels.csv.*{sentence}"):
        read_outcomes(path, numbers=True)


def test_many_mistakes_are_counted(tmp_path: Path) -> None:
    """The first twenty are told, and how many there are more."""
    with pytest.raises(Mistake) as mistake:
        read_outcomes(written(tmp_path, "id,label\n" + ",1\n" * 50), numbers=True)
    assert (len(mistake.value.sentences), mistake.value.sentences[-1]) == (21, "... and 30 more")


class Server:
    """Answers as it is told to, and remembers what it was asked."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.answers, self.bodies, self.slept = list(answers), list[Any](), list[float]()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/models":
            return httpx.Response(200, json={"models": ["loans"]})
        if request.url.path == "/v2/models/loans":
            return httpx.Response(200, json={"outputs": [{"name": "label"}]})
        assert request.url.path == "/v1/models/loans:feedback"
        self.bodies.append(json.loads(request.content)["outcomes"])
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def sender(self) -> Sender:
        sender = Sender("http://x", sleep=self.slept.append, transport=httpx.MockTransport(self))
        assert not sender.labels_are_numbers()
        return sender


def said(accepted: int, *unknown: str) -> httpx.Response:
    """Answer as the server does."""
    return httpx.Response(200, json={"accepted": accepted, "duplicate": [], "conflicting": [], "unknown": [*unknown]})


def test_a_large_file_goes_in_batches() -> None:
    """No batch is over the server's bound, and what became of each outcome is added up."""
    server = Server(said(MAX_OUTCOMES - 1, "x"), said(4, "y"))
    outcomes = [{"id": str(i), "label": "a"} for i in range(MAX_OUTCOMES + 5)]
    (_, _), (first, _), (second, result) = list(server.sender().send(outcomes))
    assert (first, second) == (MAX_OUTCOMES, 5)
    assert [outcome for body in server.bodies for outcome in body] == outcomes
    assert result == {"accepted": MAX_OUTCOMES + 3, "duplicate": [], "conflicting": [], "unknown": ["x", "y"]}


def test_what_is_refused_for_now_is_sent_again() -> None:
    """A full queue, a database that is down, a lost connection: each is waited out, longer every time."""
    server = Server(httpx.Response(503, text="full"), httpx.ConnectError("gone"), said(1))
    *_, (_, result) = server.sender().send([{"id": "a", "label": "b"}])
    assert result["accepted"] == 1
    assert server.bodies == [[{"id": "a", "label": "b"}]] * 3
    assert server.slept == [1.0, 2.0]


def test_a_server_that_never_takes_it_is_given_up() -> None:
    """After so many tries the command ends, and says what it was told."""
    server = Server(*[httpx.Response(503, text="the store is down")] * TRIES)
    with pytest.raises(NotSentError, match="the store is down"):
        list(server.sender().send([{"id": "a", "label": "b"}]))


def test_a_label_that_is_not_the_models_is_told_by_its_place() -> None:
    """The server's place in a batch becomes one in the file."""
    refusal = {"errors": [{"loc": ["outcomes", 2, "label"], "msg": "not of the model's labels"}]}
    server = Server(said(MAX_OUTCOMES), httpx.Response(422, json=refusal))
    with pytest.raises(Mistake, match=f"outcome {MAX_OUTCOMES + 3}, label: not of the model's labels"):
        list(server.sender().send([{"id": str(i), "label": "a"} for i in range(MAX_OUTCOMES + 5)]))


def test_another_answer_is_a_sentence() -> None:
    """As where feedback is switched off."""
    with pytest.raises(Mistake, match="answered 404"):
        list(Server(httpx.Response(404, text="nothing")).sender().send([{"id": "a", "label": "b"}]))
