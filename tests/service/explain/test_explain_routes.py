"""The explanation routes of a front, over the control socket to a desk and to the explanation process."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from example_folders import write_values
from explanation_desk import ExplanationServer, fit

from guards.explanations.explain import methods
from service.front.protocols.problem import Problem

ROW = [1.0, 1.0, 1.0]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExplanationServer]:
    """Explain a regression, 3 a - 2 b + c, with jobs in SQLite."""
    folder = tmp_path_factory.mktemp("routes")
    bundle = fit(write_values(folder / "values"))
    server = ExplanationServer(bundle, folder, database=f"sqlite:///{folder / 'jobs.db'}")
    yield server
    server.close()
    assert not server.workers()


def body(*rows: Any, **parameters: Any) -> dict[str, Any]:
    return {"instances": list(rows or [ROW]), "parameters": parameters}


def test_the_list_of_methods_is_the_library_s(server: ExplanationServer) -> None:
    """A front lists the methods byte for byte as the library describes them, without the bundle."""
    reply = server.wait(server.routes.explainers(None))  # type: ignore[arg-type]
    assert reply.body == orjson.dumps({"explainers": methods(server.bundle.config, server.bundle.schema)})


def test_rows_are_explained_in_order_under_their_ids(server: ExplanationServer) -> None:
    """Each row gets its own explanation and id, and contributions add up to the change of the output."""
    said = server.post({**body(ROW, [2.0, 0.5, 1.0]), "ids": ["first", 'sec"ond']})
    first, second = said.explanations
    assert said.content_type == "application/json"
    assert (first["id"], second["id"]) == ("first", 'sec"ond')
    assert next(iter(first)) == "id"
    for found, value in ((first, 2.0), (second, 6.0)):
        assert found["output_value"] == pytest.approx(value, abs=1e-4)
        change = found["output_value"] - found["baseline_value"]
        assert sum(found["attributions"].values()) == pytest.approx(change, abs=1e-3)


@pytest.mark.parametrize(
    ("parameters", "place", "sentence"),
    [
        ({"method": "guess"}, "method", "not one of ['"),
        ({"target": "yes"}, "target", "regression has none; guard:NAME is a guard's score"),
        ({"target": "guard:no"}, "target", "no such guard; there are ['ood']"),
        ({"top_k": 0}, "top_k", "a positive number of columns, for tabular rows"),
        ({"steps": 10**6}, "steps", "from "),
        ({"method": "feature_ablation", "steps": 8}, "steps", "feature_ablation has none"),
        ({"steps": True}, "steps", "wrong type: "),
        ({"depth": 3}, "depth", "unknown parameter; there are ['method', 'steps', 'target', 'top_k']"),
    ],
)
@pytest.mark.parametrize("later", [False, True])
def test_a_parameter_that_does_not_fit_is_named(
    server: ExplanationServer, parameters: dict[str, Any], place: str, sentence: str, later: bool
) -> None:
    """A fault of a parameter is answered at once with its place, even if the answer may come later."""
    said = server.post(body(**parameters), **({"Prefer": "respond-async"} if later else {}))
    assert (said.status, said.detail) == (422, "the body has 1 fault")
    ((found, message),) = said.errors
    assert found == ("parameters", place)
    assert message.startswith(sentence)


def test_too_many_rows_are_refused_in_the_front(server: ExplanationServer) -> None:
    """More rows than can be explained at once, or than a request may have, are a fault of `instances`."""
    said = server.post(body(*[ROW] * 9))
    assert said.errors == [(("instances",), "9 rows, where 8 are the most in one request")]
    few = server.routes._served.model_copy(update={"explain": server.served.explain.model_copy(update={"max_rows": 2})})
    server.routes._served, whole = few, server.routes._served
    try:
        said = server.post(body(*[ROW] * 3))
        assert said.errors == [(("instances",), "3 rows, but 2 at most can be explained at once")]
    finally:
        server.routes._served = whole


def test_a_picture_is_of_one_row(server: ExplanationServer) -> None:
    """A picture comes as PNG; several rows have no picture, and an unfit parameter is refused first."""
    said = server.post(body(), Accept="image/png")
    assert (said.status, said.content_type, said.body[:4]) == (200, "image/png", b"\x89PNG")
    said = server.post(body(ROW, ROW), Accept="image/png")
    assert said.errors == [(("instances",), "2 rows, but a picture shows one row")]
    said = server.post(body(ROW, ROW, method="guess"), Accept="image/png")
    assert said.errors[0][0] == ("parameters", "method")


def test_a_row_without_an_answer_is_named(server: ExplanationServer) -> None:
    """A row on which a guard abstained is withheld, at its place, and counted as refused."""
    before = server.count.results["saliency", "refused"]
    said = server.post(body(ROW, [900.0, -900.0, 0.0], method="saliency"))
    assert said.status == 422
    ((place, message),) = said.errors
    assert place == ("instances", 1)
    assert message.startswith("the action on this row is abstain, so it was not answered")
    assert server.count.results["saliency", "refused"] == before + 1


def test_malformed_bodies_are_faults_of_the_front(server: ExplanationServer) -> None:
    """A body that is no JSON is 400; rows that cannot be read are 422 with their places."""
    assert server.post(b"{").status == 400
    said = server.post(body(["x", 1.0, 1.0]))
    assert (said.status, said.errors[0][0]) == (422, ("instances", 0, "a"))


def test_an_answer_may_come_later(server: ExplanationServer) -> None:
    """A client that prefers so gets an address, and there the very bytes of the answer at once, as often as it asks."""
    document = {**body([1.5, 0.5, 2.0]), "ids": ["later"]}
    at_once = server.post(document)
    said = server.post(document, Prefer="respond-async, wait=10")
    assert (said.status, orjson.loads(said.body)) == (202, {"state": "waiting"})
    assert said.headers["Preference-Applied"] == "respond-async"
    assert said.headers["Retry-After"] == "1"
    location = said.headers["Location"]
    assert location.startswith("/v1/explanations/")
    for _ in range(2):
        found = server.fetch(location)
        assert (found.status, found.content_type, found.body) == (200, "application/json", at_once.body)
    picture = server.fetch(server.post(document, Prefer="respond-async", Accept="image/png").headers["Location"])
    assert (picture.content_type, picture.body[:4]) == ("image/png", b"\x89PNG")


def test_a_refusal_may_come_later(server: ExplanationServer) -> None:
    """A refusal that depends on the rows stands at the address of the job, with the place of the row."""
    said = server.post(body(ROW, [900.0, -900.0, 0.0]), Prefer="respond-async")
    found = server.fetch(said.headers["Location"])
    assert (found.status, found.errors[0][0]) == (422, ("instances", 1))
    assert found.detail == "the body has 1 fault"
    assert found.headers["Retry-After"] == "1"


def test_an_unknown_job_is_not_found(server: ExplanationServer) -> None:
    """An id that was never given has no answer."""
    for name in ("x", "a" * 200, "", "é"):
        said = server.wait(server.fetched(f"/v1/explanations/{name}"))
        assert (said.status, said.detail) == (404, "there is no explanation of that id, or it is no longer kept")


def test_without_an_engine_everything_is_refused(server: ExplanationServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the engine is not there, or does not answer, a front refuses before it reads a body."""
    trouble = "the process that predicts does not answer"
    monkeypatch.setattr(type(server._channel), "trouble", property(lambda _: trouble))
    for said in (server.post(b"{"), server.wait(server.fetched("/v1/explanations/x"))):
        assert (said.status, said.detail, said.retry_after) == ("loading", trouble, 2)


def test_a_problem_is_raised_for_every_way_to_fail() -> None:
    """Each status without an explanation is one problem: its code and its sentence."""
    from service.explain.routes import _reply
    from service.messages.explanations import ExplainAnswer

    found = {}
    for status in ("unfit", "timeout", "replaced", "unknown", "fault"):
        with pytest.raises(Problem) as problem:
            _reply(ExplainAnswer(status))  # type: ignore[arg-type]
        found[status] = (int(problem.value.status), problem.value.reason)
    assert found == {
        "unfit": (422, None), "timeout": (504, None), "replaced": (503, None), "unknown": (404, None),
        "fault": (500, None),
    }  # fmt: skip


def test_paths_are_as_they_were(server: ExplanationServer) -> None:
    """The three paths have their templates and codes; a client can only see these."""
    assert {path: (route.template, set(route.codes)) for path, route in server.routes.routes().items()} == {
        "/v1/models/value:explain": (
            "/v1/models/{name}:explain", {200, 202, 400, 405, 413, 415, 422, 429, 500, 503, 504},
        ),
        "/v1/models/value/explainers": ("/v1/models/{name}/explainers", {200, 400, 405, 500, 504}),
        "/v1/explanations/*": ("/v1/explanations/{id}", {200, 202, 400, 404, 405, 422, 500, 503, 504}),
    }  # fmt: skip


def test_a_module_of_the_desk_knows_no_front() -> None:
    """The engine's process imports the desk without anything of the front."""
    import subprocess
    import sys

    code = "import sys, service.explain.desk; print([name for name in sys.modules if name.startswith('service.front')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path.cwd())
    assert done.stdout.strip() == "[]"
