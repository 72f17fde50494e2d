"""Asynchronous explanations: a job outlasts the desk that took it, and every result is at the job's address."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from example_folders import FATAL, NAP, write_values
from explanation_desk import ExplanationServer, fit, servers
from waiting import until

from service.store.database import StoreDownError

ROW = [1.0, 1.0, 1.0]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fit a regression, 3 a - 2 b + c, that sleeps or ends its process on command."""
    return fit(write_values(tmp_path_factory.mktemp("jobs") / "values"))


@pytest.fixture
def start(bundle: Path, tmp_path: Path) -> Iterator[Callable[..., ExplanationServer]]:
    """Start servers that a test has for itself."""
    yield from servers(bundle, tmp_path)


def later(server: ExplanationServer, *rows: Any, **parameters: Any) -> str:
    """Ask for an answer that comes later, and give its address."""
    said = server.post({"instances": list(rows), "parameters": parameters, "ids": ["mine"]}, Prefer="respond-async")
    assert said.status == 202, said
    return said.headers["Location"]


def test_jobs_go_on_after_the_desk_has_stopped(start: Callable[..., ExplanationServer], tmp_path: Path) -> None:
    """A desk that stops in the middle of a job leaves all jobs to the next desk, which answers them."""
    server = start(database=f"sqlite:///{tmp_path / 'jobs.db'}")
    slow = later(server, [NAP, 1, 0.05], method="shapley")
    quick = later(server, [1.0, 1.0, 1.0], method="shapley")
    until(server.workers)
    until(lambda: server.desk._worker._tasks)
    server.wait(server.stop_desk())
    until(lambda: not server.workers())
    said = server.wait(server.fetched(quick))
    assert said.status == "loading"
    server.wait(server.start_desk())
    until(lambda: server._channel.trouble is None)
    for location, value in ((slow, 3 * NAP - 2 + 0.05), (quick, 2.0)):
        (found,) = server.fetch(location).explanations
        assert found["id"] == "mine"
        assert found["output_value"] == pytest.approx(value, abs=1e-4)


def test_a_job_that_ends_its_process_is_answered_with_a_fault(
    start: Callable[..., ExplanationServer], tmp_path: Path
) -> None:
    """A job on which the process ends is a fault at its address, and the next job is explained."""
    server = start(database=f"sqlite:///{tmp_path / 'jobs.db'}")
    poison, sound = later(server, [FATAL, 1, 1]), later(server, ROW)
    said = server.fetch(poison)
    assert (said.status, said.headers["Retry-After"]) == (500, "1")
    assert server.fetch(sound).explanations[0]["output_value"] == pytest.approx(2.0, abs=1e-4)


def test_jobs_of_another_bundle_are_not_answered(
    start: Callable[..., ExplanationServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that waited while the model was replaced fails with that reason, and is not explained by another model."""
    server = start(database=f"sqlite:///{tmp_path / 'jobs.db'}", max_jobs=1)
    assert server.desk._jobs is not None
    server.wait(server.desk._jobs.close())
    location = later(server, ROW)
    said = server.post({"instances": [ROW]}, Prefer="respond-async")
    assert (said.status, said.retry_after) == ("explain_queue_full", 10)
    monkeypatch.setattr(server.desk._jobs, "_bundle", "sha256:other")
    server._loop.call_soon_threadsafe(server.desk._jobs.start)
    said = server.fetch(location)
    assert (said.status, said.detail) == (503, "the model was replaced meanwhile; ask again")


def test_a_store_that_is_down_refuses_jobs_alone(start: Callable[..., ExplanationServer], tmp_path: Path) -> None:
    """While the database cannot be used, jobs are refused; an answer at once is given."""
    folder = tmp_path / "database"
    folder.mkdir()
    server = start(database=f"sqlite:///{folder / 'jobs.db'}")
    later(server, ROW)
    with pytest.MonkeyPatch.context() as patch:

        def down(*_: object) -> None:
            raise StoreDownError

        assert server.desk._jobs is not None
        patch.setattr(server.desk._jobs._table, "add", down)
        patch.setattr(server.desk._jobs._table, "get", down)
        said = server.post({"instances": [ROW]}, Prefer="respond-async")
        assert (said.status, said.detail, said.retry_after) == ("store_down", "the store is down", 10)
        assert server.wait(server.fetched("/v1/explanations/x")).status == "store_down"
        assert server.post({"instances": [ROW]}).status == 200
