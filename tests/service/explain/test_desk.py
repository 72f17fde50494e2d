"""The explanation desk in trouble: killed processes, clients that disconnect, full queues, and rate limits."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import yaml
from example_folders import FATAL, HELD, NAP, write_values
from explanation_desk import KEEP_PRIORITY, ExplanationServer, Said, fit, servers
from gateways import free_port, listens
from waiting import until

SECONDS = 120
"""Far more than an answer takes."""
ROW = [1.0, 1.0, 1.0]
UNFIT = {"instances": [ROW], "parameters": {"method": "guess"}}
"""A body that can be read, with a question that cannot be answered."""
LONG = {"instances": [[NAP, 1, 0.9]]}
"""A row on which the model sleeps at each of its many evaluations."""
NEW = count(1)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fit a regression, 3 a - 2 b + c, that sleeps or ends its process on command."""
    return fit(write_values(tmp_path_factory.mktemp("desk") / "values"))


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Name the file that keeps the model asleep."""
    path = tmp_path_factory.mktemp("gate") / "closed"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MADE_UP_NAP_GATE", str(path))
        yield path


@pytest.fixture(scope="module")
def server(bundle: Path, gate: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExplanationServer]:
    """Explain with a short queue, and without a store."""
    del gate  # the process has the variable from its start
    server = ExplanationServer(bundle, tmp_path_factory.mktemp("shared"), max_queue=2, rejected=True)
    server.explain(ROW)  # the process is there
    yield server
    server.close()
    assert not server.workers()


@pytest.fixture
def start(bundle: Path, tmp_path: Path) -> Iterator[Callable[..., ExplanationServer]]:
    """Start servers that a test has for itself."""
    yield from servers(bundle, tmp_path)


@contextmanager
def explaining(server: ExplanationServer, gate: Path) -> Iterator["Future[Said]"]:
    """Keep the process at a question until the end of the block."""
    gate.touch()
    try:
        row = [NAP, 1 + next(NEW) / 64, HELD]  # a new one: answers are kept in memory
        asked = server.begin(server.asked({"instances": [row]}, seconds=300))
        until(server.desk._worker._turn.locked)
        yield asked
    finally:
        gate.unlink()


def moved(server: ExplanationServer, before: dict[tuple[str, ...], int]) -> dict[str, int]:
    """Give how often each result was counted since, whatever the method."""
    found: Counter[str] = Counter()
    for (_, result), times in (server.count.results - Counter(before)).items():
        found[result] += times
    return dict(found)


# The process, and who waits for it


def test_the_process_is_started_by_the_first_question(
    start: Callable[..., ExplanationServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No process is there before the first question; one process answers them all, at the lowest priority."""
    server = start()
    monkeypatch.setattr("sys.path", [path for path in sys.path if path != KEEP_PRIORITY])
    server.post({"instances": [ROW], "parameters": {"method": "guess"}})
    assert not server.workers()
    for value in (0.5, 0.25):
        server.explain([1.0, 1.0, value])
    (worker,) = server.workers()
    assert worker.nice() == 19


def test_the_process_compiles_nothing(
    start: Callable[..., ExplanationServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the server's model is compiled, its explanations need no compiler, however many rows a question has."""
    server = start()
    config = Path(os.environ["GUARDHOUSE_CONFIG"])  # the process reads it when it starts
    document = yaml.safe_load(config.read_text())
    document["model"]["compile"] = True
    config.write_text(yaml.safe_dump(document))
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "graphs"))
    for rows in (1, 3):
        assert len(server.post({"instances": [ROW] * rows}).explanations) == rows


def test_the_same_question_is_answered_from_memory(server: ExplanationServer) -> None:
    """A row that was explained of late gets the same numbers under another id, and is counted as cached."""
    before = dict(server.count.results)
    document = {"instances": [[2.25, 1.5, 0.125]], "ids": ["first"]}
    (first,) = server.post(document).explanations
    (again,) = server.post({**document, "ids": ["again"]}).explanations
    assert again == first | {"id": "again"}
    (other,) = server.post({**document, "parameters": {"method": "saliency"}}).explanations
    assert other["method"] == "saliency"
    assert moved(server, before) == {"ok": 2, "cached": 1}
    assert len(server.count.seconds) == sum(server.count.results.values())


def test_a_killed_process_costs_no_answer(
    server: ExplanationServer, gate: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """If the process is killed under a question, a new process answers the question, and the next one."""
    before = dict(server.count.results)
    with explaining(server, gate) as waiting:
        (worker,) = server.workers()
        worker.kill()
        until(lambda: worker.pid not in [each.pid for each in server.workers()])
    assert waiting.result(SECONDS).status == 200
    assert server.explain([1.0, 1.0, 0.375])["output_value"] == pytest.approx(1.375, abs=1e-4)
    (other,) = server.workers()
    assert other.pid != worker.pid
    assert moved(server, before) == {"ok": 2}
    assert caplog.text.count("the process that explains ended by itself") == 1


def test_a_process_killed_while_it_rests_costs_nothing(server: ExplanationServer) -> None:
    """The first question after the process was killed is answered."""
    server.explain([1.0, 1.0, 0.40625])
    (worker,) = server.workers()
    worker.kill()
    assert server.explain([1.0, 1.0, 0.421875])["output_value"] == pytest.approx(1.421875, abs=1e-4)


def test_a_row_that_ends_the_process_costs_one_answer(server: ExplanationServer) -> None:
    """A model that ends its process on a row is a fault that is counted; the next row is explained."""
    before = dict(server.count.results)
    assert server.post({"instances": [[FATAL, 1, 1]]}).status == 500
    assert server.explain([1.0, 1.0, 0.4375])["output_value"] == pytest.approx(1.4375, abs=1e-4)
    assert moved(server, before) == {"crashed": 1, "ok": 1}


def test_a_deadline_ends_an_explanation(server: ExplanationServer) -> None:
    """An explanation past its deadline ends in the process, which goes on with the next question."""
    before = dict(server.count.results)
    (worker,) = server.workers()
    with pytest.raises(TimeoutError):
        server.post(LONG, seconds=1.5)
    assert server.explain([1.0, 1.0, 0.9375])["output_value"] == pytest.approx(1.9375, abs=1e-4)
    assert moved(server, before) == {"timeout": 1, "ok": 1}
    assert [each.pid for each in server.workers()] == [worker.pid]


def test_clients_that_leave_free_their_places_in_the_queue(server: ExplanationServer, gate: Path) -> None:
    """If a client leaves, the desk drops its question from the queue and counts a timeout; others go on."""
    before = dict(server.count.results)
    with explaining(server, gate) as first:
        leaving = [server.begin(server.asked(LONG)) for _ in range(2)]
        until(lambda: server.desk._worker._waiting == 2)
        assert server.post(LONG).status == "explain_queue_full"
        for each in leaving:
            each.cancel()
        until(lambda: server.desk._worker._waiting == 0)
    assert server.explain([1.0, 1.0, 0.84375])["output_value"] == pytest.approx(1.84375, abs=1e-4)
    assert first.result(SECONDS).status == 200
    assert moved(server, before) == {"timeout": 2, "ok": 2}


def test_a_full_queue_refuses_and_counts_no_explanation(server: ExplanationServer, gate: Path) -> None:
    """Beyond `max_queue` waiting questions the next is refused with Retry-After; those that wait are answered."""
    before = dict(server.count.results)
    with explaining(server, gate) as first:
        waiting = [server.begin(server.asked({"instances": [[1.0, 1.0, value]]})) for value in (0.0625, 0.125)]
        until(lambda: server.desk._worker._waiting == 2)
        said = server.post({"instances": [[1.0, 1.0, 0.1875]]})
        assert (said.status, said.retry_after) == ("explain_queue_full", 5)
    assert [each.result(SECONDS).status for each in (first, *waiting)] == [200] * 3
    assert moved(server, before) == {"ok": 3}


def test_answers_do_not_mix(server: ExplanationServer) -> None:
    """Questions side by side get the answers to their own rows, whichever ends first."""
    rows = [[1 + i / 8, 0.5, 1.0] for i in range(3)]
    each = [server.begin(server.asked({"instances": [row], "ids": [str(row)]})) for row in rows]
    for row, answer in zip(rows, each, strict=True):
        (found,) = answer.result(SECONDS).explanations
        assert found["id"] == str(row)
        assert found["output_value"] == pytest.approx(3 * row[0] - 2 * row[1] + row[2], abs=1e-4)


# Rates


def test_a_client_that_asks_too_often_waits(start: Callable[..., ExplanationServer]) -> None:
    """Beyond its burst a client is refused before its body is read; another client has a burst of its own."""
    server = start(rate=1, burst=3)
    said = [server.post(UNFIT, client="10.0.0.1") for _ in range(4)] + [server.post(b"{", client="10.0.0.1")]
    assert [each.status for each in said] == [422, 422, 422, "explain_rate", "explain_rate"]
    assert said[3].detail == "this client asked for too many explanations; come again later"
    assert said[3].retry_after is not None
    assert 1 <= said[3].retry_after <= 60
    assert server.post(b"{", client="10.0.0.2").status == 400
    assert server.count.losses == 0


@pytest.mark.parametrize("bad", [b"{", {"instances": [["x", 1.0, 1.0]]}, {"instances": [ROW] * 9}])
def test_a_body_that_cannot_be_read_costs_nothing(start: Callable[..., ExplanationServer], bad: Any) -> None:
    """A client whose bodies were refused has its whole burst left, and no more than the burst."""
    server = start(rate=1, burst=2)
    assert {server.post(bad).status for _ in range(5)} <= {400, 422}
    assert [server.post(UNFIT).status for _ in range(3)] == [422, 422, "explain_rate"]


def test_servers_share_a_rate_in_redis_and_count_alone_without_it(
    start: Callable[..., ExplanationServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two desks on one Redis share a client's burst; once Redis is gone, each counts alone and counts the losses."""
    monkeypatch.setattr("service.quotas.shared_buckets.SECONDS", 60.0)
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed")
    port = free_port()
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)]
    redis = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        until(lambda: listens(port))
        (tmp_path / "other").mkdir()
        first, second = (start(rate=1, burst=4, redis_url=f"redis://127.0.0.1:{port}/0") for _ in range(2))
        statuses = []
        for _ in range(3):
            statuses += [each.post(b"{").status for each in (first, second)]  # gives back what it takes
            statuses += [each.post(UNFIT).status for each in (first, second)]
        assert statuses == [400, 400, 422, 422] * 2 + ["explain_rate"] * 4
        assert (first.count.losses, second.count.losses) == (0, 0)
        redis.kill()
        redis.wait()
        assert [each.post(UNFIT).status for each in (first, second)] == [422, 422]
        assert (first.count.losses, second.count.losses) == (1, 1)
    finally:
        redis.kill()
        redis.wait()


def test_without_a_store_no_answer_comes_later(server: ExplanationServer) -> None:
    """A server that stores nothing answers at once, whatever the client prefers, and knows no job."""
    said = server.post({"instances": [ROW]}, Prefer="respond-async")
    assert said.status == 200
    assert server.wait(server.fetched("/v1/explanations/x")).status == 404


# The end


def test_a_front_whose_engine_ends_says_so(start: Callable[..., ExplanationServer]) -> None:
    """A question that is being explained when the engine ends is refused, and can be sent again."""
    server = start()
    server.explain(ROW)
    waiting = server.begin(server.asked(LONG))
    until(server.desk._worker._turn.locked)
    server.wait(server.control.close())
    said = waiting.result(SECONDS)
    assert said.status == "engine_lost"
    assert "send the request again" in said.detail


def test_a_stopped_process_is_killed_at_the_deadline(
    start: Callable[..., ExplanationServer], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A process that answers nothing any more is killed soon after the deadline; the next question gets another one."""
    monkeypatch.setattr("service.explain.worker_client.GRACE_SECONDS", 0.2)
    server = start()
    server.explain(ROW)
    (worker,) = server.workers()
    os.kill(worker.pid, signal.SIGSTOP)
    with pytest.raises((TimeoutError, asyncio.CancelledError)):
        server.post({"instances": [[1.0, 1.0, 0.5]]}, seconds=2)
    until(lambda: not worker.is_running())
    assert "did not end at its deadline: its process is killed" in caplog.text
    assert server.explain([1.0, 1.0, 0.25])["output_value"] == pytest.approx(1.25, abs=1e-4)
