"""The store in its own process: the answers of a store in this process, and a word if the process or database fails."""

import pickle
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from multiprocessing import Pipe
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import pytest
from example_answers import EDITION, SETTINGS, answered, confusion, matrix
from waiting import until

from guards.config.store import StoreConfig
from guards.errors import Mistake
from guards.monitors.answered_rows import Records
from service.messages.explanations import ExplainAnswer
from service.messages.outcomes import Outcome
from service.monitoring.sums import Tallies
from service.store.database import StoreDownError
from service.store.local_store import LocalStore
from service.store.recorder import Recorder
from service.store.remote_store import GONE, RemoteStore, StoreFaultError
from service.store.store_client import StoreClient
from service.store.store_process import StoreProcess
from service.store.store_wire import receive

if TYPE_CHECKING:
    from databases import Postgres

Opened = Callable[..., RemoteStore]


@pytest.fixture
def remote(tmp_path: Path, database_url: str) -> Iterator[Opened]:
    """Open stores in processes of their own."""
    stores = []

    def start(settings: Any = SETTINGS, url: str = database_url) -> RemoteStore:
        stores.append(RemoteStore(tmp_path / f"s{len(stores)}", url, settings))
        return stores[-1]

    yield start
    for store in stores:
        store.close()


def process_of(store: RemoteStore) -> psutil.Process:
    """Find the store's process."""
    return psutil.Process(store._process._process.pid)


def tour(store: StoreClient) -> list[Any]:
    """Do everything that a store can do, and give the answers."""
    store.prepare()
    told: list[Any] = [store.write([answered(["a", "b"]), answered(["c", "b"], ["no", "yes"])], confusion)]
    told.append(store.write([answered(["c", "d"])], confusion))
    outcomes = [Outcome("a", "yes"), Outcome("b", "no"), Outcome("nobody", "yes"), Outcome("a", "no")]
    joined = store.join(outcomes, confusion)
    told += [(joined.accepted, joined.conflicting, joined.unknown)]
    told.append([(part.rows, part.tallies["confusion"].tolist()) for part in joined.parts])
    told.append(matrix(store.totals("bundle").totals))
    told += [sorted(store.totals("lifetime").bundles), store.totals("bundle").blocks.keys()]
    told.append(store.upkeep().asked)
    store.enter()
    store.settle(1)
    upkeep = store.upkeep()
    told += [upkeep.asked, upkeep.deleted, upkeep.figures.max_bytes, upkeep.figures.oldest, upkeep.figures.files_lost]
    told += [store.ask_others(), store.behind({})]
    name = store.jobs.add(b"why")
    assert name is not None
    told += [store.jobs.get(name).status, store.jobs.get("nothing").status]
    job = store.jobs.take()
    assert job is not None
    store.jobs.hold(job)
    store.jobs.leave(job)
    again = store.jobs.take()
    assert again is not None
    told += [job.question, job.attempts, again.attempts]
    store.jobs.finish(again, ExplainAnswer("ok", b"because", picture=True))
    answer = store.jobs.get(name)
    told += [answer.status, answer.body, answer.picture, store.jobs.take()]
    store.jobs.free()
    store.strike(["nobody"])
    store.leave()
    return told


def test_every_answer_is_the_answer_of_a_store_in_this_process(remote: Opened, tmp_path: Path) -> None:
    """The same work gives the same answers, whichever process does it."""
    here = LocalStore.open(f"sqlite:///{tmp_path / 'here.db'}", SETTINGS)
    expected = tour(here)
    here.close()
    store = remote(url=f"sqlite:///{tmp_path / 'there.db'}")
    assert tour(store) == expected
    assert not store.jobs.shared


def test_servers_of_one_database_are_told(remote: Opened, database_url: str) -> None:
    """Whether other servers may use the database is known at the start."""
    assert remote().jobs.shared == database_url.startswith("postgresql")


def test_many_threads_ask_at_the_same_time(remote: Opened) -> None:
    """Threads share the process, and none gets another's answer."""
    store, found = remote(), dict[int, Any]()

    def ask(number: int) -> None:
        for round_ in range(5):
            ids = [f"{number}-{round_}-{row}" for row in range(number + 1)]
            found[number] = found.get(number, 0) + store.write([answered(ids)], confusion)
            found[-1 - number] = store.join([Outcome(name, "yes") for name in ids], confusion).accepted

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(6):
        assert found[number] == 5 * (number + 1)
        assert found[-1 - number] == list(range(number + 1))
    assert matrix(store.totals("bundle").totals)[1][2] == 5 * 21


def test_a_killed_process_is_started_again(
    remote: Opened, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its end and its next start the store is down; what was stored is there, and is not counted twice."""
    store = remote()
    assert store.write([answered(["a"])], confusion) == 1
    start, go = StoreProcess._start, threading.Event()
    monkeypatch.setattr(StoreProcess, "_start", lambda process: start(process) if go.wait(60) else None)
    process_of(store).kill()
    store._process._process.wait()
    with pytest.raises(StoreDownError, match="has ended"):
        store.totals("bundle")
    go.set()
    until(lambda: writes(store, "a", "b") == 1)
    assert "the store's process ended (status -9); it is started again in 0.5 s" in caplog.text
    assert matrix(store.totals("bundle").totals)[1][0] == 2


def writes(store: StoreClient, *ids: str) -> int | None:
    """Write rows, and give how many were new; None if the store is down."""
    with suppress(StoreDownError):
        return store.write([answered(ids)], confusion)
    return None


def test_a_process_killed_in_a_transaction_stores_nothing_of_it(remote: Opened) -> None:
    """A block whose process is killed while its rows are counted is not stored, and can be written again."""
    store = remote()
    store.prepare()

    def kill(_: Records) -> Tallies:
        process_of(store).kill()
        return {}

    with pytest.raises(StoreDownError):
        store.write([answered(["a"])], kill)
    until(lambda: writes(store, "a") == 1)
    assert matrix(store.totals("bundle").totals)[1][0] == 1


def test_a_failure_to_count_rolls_back(remote: Opened) -> None:
    """If counting raises an exception, the outcome is not stored, and the store goes on."""
    store = remote()
    store.write([answered(["a"])], confusion)

    def fail(_: Records) -> Tallies:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        store.join([Outcome("a", "yes")], fail)
    assert store.join([Outcome("a", "yes")], confusion).accepted == [0]
    assert matrix(store.totals("bundle").totals)[1][2] == 1


def test_a_process_that_does_not_answer_is_down(remote: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for a stopped process for longer than the limit."""
    store = remote()
    store.prepare()
    process = process_of(store)
    process.suspend()
    try:
        monkeypatch.setattr("service.store.remote_store.READ_SECONDS", 0.5)
        with pytest.raises(StoreDownError, match=GONE):
            store.totals("bundle")
    finally:
        process.resume()
    until(lambda: writes(store, "a") == 1)


def test_a_database_that_hangs_is_late_until_it_answers(
    tmp_path: Path, postgres: "Postgres", monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Every question but the recorder's is refused at once, the recorder's is answered later, and nothing is lost."""
    store = RemoteStore(tmp_path / "s", postgres.database(), SETTINGS)
    counts = {"stored": 0, "repeated": 0, "dropped": 0}
    recorder = Recorder(
        store,
        confusion,
        queue_rows=100,
        count=lambda result, rows: counts.__setitem__(result, counts[result] + rows),
        count_deleted=lambda *_: None,
    )
    until(lambda: recorder.figures.max_bytes)
    monkeypatch.setattr("service.store.remote_store.LATE_SECONDS", 0.5)
    with postgres.hung():
        recorder.expect()
        recorder.leave(answered(["a"]))
        with pytest.raises(StoreDownError, match="the store is down"):
            store.totals("bundle")  # asked before anybody knows
        assert recorder.down
        assert not recorder.flush(60)
        asked = time.monotonic()
        for question in (store.ask_others, store.jobs.take, lambda: store.join([Outcome("a", "yes")], confusion)):
            with pytest.raises(StoreDownError, match="the store is down"):
                question()
        assert time.monotonic() - asked < 5
    until(lambda: not recorder.down)
    assert recorder.flush(60)
    assert counts == {"stored": 1, "repeated": 0, "dropped": 0}
    assert store.join([Outcome("a", "yes")], confusion).accepted == [0]
    assert caplog.text.count("the store is down") == caplog.text.count("the store is back") == 1
    recorder.close()


def test_a_locked_sqlite_is_late_until_it_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers do not wait for a lock that somebody else holds on the file."""
    path = tmp_path / "x.db"
    store = RemoteStore(tmp_path / "s", f"sqlite:///{path}", SETTINGS)
    recorder = Recorder(store, confusion, queue_rows=100, count=lambda *_: None, count_deleted=lambda *_: None)
    until(lambda: recorder.figures.max_bytes)
    monkeypatch.setattr("service.store.remote_store.LATE_SECONDS", 0.5)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        recorder.expect()
        recorder.leave(answered(["a"]))
        until(lambda: recorder.down)
        with pytest.raises(StoreDownError, match="the store is down"):
            store.totals("bundle")
        other.execute("ROLLBACK")
    until(lambda: not recorder.down)
    assert matrix(store.totals("bundle").totals)[1][0] == 1
    recorder.close()


def test_an_error_in_the_process_is_named_without_its_message(
    remote: Opened, capfd: pytest.CaptureFixture[str]
) -> None:
    """A block that can never be stored is an error of its own, and neither side logs what is in the block."""
    store = remote()
    wrong = replace(answered(["SECRET"]), groups={"region": np.array([1, 2])})
    with pytest.raises(StoreFaultError, match="ValueError"):
        store.write([wrong, answered(["b"], region=[1])], confusion)
    with pytest.raises(StoreFaultError, match="LookupError"):
        store.ask("close")
    assert store.write([answered(["c"])], confusion) == 1
    said = capfd.readouterr().err
    assert "ValueError in the store's write" in said
    assert "SECRET" not in said


def test_a_lost_database_is_down_and_its_return_is_noticed(tmp_path: Path) -> None:
    """The sentence of the database crosses from process to process."""
    folder = tmp_path / "gone"
    folder.mkdir()
    store = RemoteStore(tmp_path / "s", f"sqlite:///{folder / 'x.db'}", SETTINGS)
    folder.rmdir()
    folder.write_text("a file in the way")
    with pytest.raises(StoreDownError, match="cannot be made"):
        store.totals("bundle")
    folder.unlink()
    assert store.write([answered(["a"])], confusion) == 1
    store.close()


@pytest.mark.parametrize("url", ["sqlite:////proc/x/y.db", "mysql://x"])
def test_a_database_that_cannot_be_used_is_a_mistake(tmp_path: Path, url: str) -> None:
    """The process says in a sentence why it cannot open the database, and ends."""
    with pytest.raises(Mistake, match=r"cannot be written to|not supported"):
        RemoteStore(tmp_path / "s", url, SETTINGS)


def test_a_process_that_cannot_start_is_a_mistake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A start that fails is said in a sentence."""
    monkeypatch.setattr("service.store.store_process.MODULE", "service.store.nothing")
    with pytest.raises(Mistake, match="could not be started"):
        RemoteStore(tmp_path / "s", f"sqlite:///{tmp_path / 'x.db'}", SETTINGS)


def test_the_process_ends_with_its_engine(tmp_path: Path) -> None:
    """When the engine is killed, its store's process ends too."""
    code = (
        "import sys, time; sys.path[:0] = sys.argv[3:]; from pathlib import Path;"
        "from example_answers import SETTINGS; from service.store.remote_store import RemoteStore;"
        "store = RemoteStore(Path(sys.argv[1]), sys.argv[2], SETTINGS);"
        "print(store._process._process.pid, flush=True); time.sleep(100)"
    )
    url = f"sqlite:///{tmp_path / 'x.db'}"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "s"), url, *sys.path], stdout=subprocess.PIPE, text=True
    ) as engine:
        assert engine.stdout is not None
        store = psutil.Process(int(engine.stdout.readline()))
        store.terminate()  # a signal alone does not end it: the engine may still have rows to store
        time.sleep(0.2)
        assert store.is_running()
        engine.kill()
        assert store.wait(60) is None or not store.is_running()


def test_the_process_needs_no_torch() -> None:
    """The process imports neither torch nor anything of the fronts, so that it takes little memory."""
    code = "import sys, service.store.store_server; print({'torch', 'bentoml', 'uvicorn'} & set(sys.modules) or '')"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"


def test_a_message_makes_known_objects_alone() -> None:
    """A pickle of anything but the listed classes is refused, and nothing of it runs."""
    here, there = Pipe()
    with here, there:
        for message in (subprocess.Popen, np.random.default_rng, EDITION, print):
            here.send_bytes(pickle.dumps(message))
            with pytest.raises(pickle.UnpicklingError, match="not among the known classes"):
                receive(there)


def test_settings_cross_unchanged() -> None:
    """What the engine writes of the settings, the process reads."""
    settings = replace(SETTINGS, limits=StoreConfig(retention_days=3, max_bytes=2**30))
    assert type(settings).read(settings.written()) == settings


def test_rows_outlast_the_process(remote: Opened) -> None:
    """Rows that wait when the process is killed are stored by the next one, each once."""
    counts = {"stored": 0, "repeated": 0, "dropped": 0}

    def count(result: str, rows: int) -> None:
        counts[result] += rows

    store = remote()
    recorder = Recorder(store, confusion, queue_rows=10_000, count=count, count_deleted=lambda *_: None)
    for number in range(60):
        if number in (10, 40):
            until(lambda: writes(store, "at first") is not None)
            process_of(store).kill()
        recorder.expect()
        recorder.leave(answered([f"{number}-{row}" for row in range(10)]))
        time.sleep(0.02)
    until(lambda: counts["stored"] + counts["repeated"] == 600 and not recorder.down)
    assert counts["dropped"] == 0
    assert matrix(store.totals("bundle").totals)[1][0] == 601
    recorder.close()


def test_a_process_that_keeps_ending_is_started_less_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Every failure doubles the delay before the next start."""
    monkeypatch.setattr("service.store.store_process.FIRST_DELAY", 0.01)
    process = StoreProcess(tmp_path / "s", f"sqlite:///{tmp_path / 'x.db'}", SETTINGS)
    for delay in ("0.01", "0.02", "0.04"):
        process._process.kill()
        until(lambda delay=delay: f"it is started again in {delay} s" in caplog.text)  # type: ignore[misc]
        until(lambda: process._process.poll() is None)
    process.close()
