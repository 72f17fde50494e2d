"""The counters of a server whose processes may be killed and started again at any time."""

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import counting_process
import pytest
from counting_process import ROUTES
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families as parse_text
from waiting import until_in_loop

from service.messages.board import ENGINE, Board
from service.messages.refused import Refused
from service.telemetry.metrics.engine import EngineMetrics
from service.telemetry.metrics.engine_families import EngineFamilies
from service.telemetry.metrics.exposition import Exposition
from service.telemetry.metrics.front import FrontMetrics
from service.telemetry.metrics.plain_families import FamiliesFile, Family
from service.telemetry.metrics.process_figures import ProcessFigures
from service.telemetry.metrics.server_counts import ServerCounts, ServerTotals

FRONTS = 3
GUARDS, METHODS = ("ood",), ("occlusion",)
SUFFIXES = ("_total", "_count", "_sum", "_bucket")


async def no_engine() -> list[Family]:
    """Refuse, as a front's client of the engine does while the engine is away."""
    raise Refused("loading", "the model is still loading")


def rendered(board: Board, folder: Path) -> str:
    """Scrape a front while the engine is away."""
    file = FamiliesFile(folder / "families.json")
    front = Exposition(board, ROUTES, GUARDS, METHODS, ask=no_engine, file=file)
    return asyncio.run(front.render(""))[0].decode()


def scraped(board: Board, folder: Path) -> dict[tuple[str, ...], float]:
    """Scrape a front while the engine is away: each series' value by its name and labels."""
    return {
        (sample.name, *map(str, sample.labels.items())): sample.value
        for family in parse_text(rendered(board, folder))
        for sample in family.samples
    }


def fallen(before: dict[tuple[str, ...], float], after: dict[tuple[str, ...], float]) -> list[tuple[str, ...]]:
    """Name the counters that stepped back or vanished."""
    counters = [key for key in before if key[0].endswith(SUFFIXES)]
    assert counters
    return [key for key in counters if after.get(key, -1.0) < before[key]]


@contextmanager
def mapped(folder: Path) -> Iterator[Board]:
    """Map the board as another process does."""
    board = Board(folder / "board")
    try:
        yield board
    finally:
        board.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Board.make(tmp_path / "board", FRONTS)
    return tmp_path


@pytest.fixture
def board(folder: Path) -> Iterator[Board]:
    with mapped(folder) as board:
        yield board


steps = st.lists(
    st.one_of(
        st.tuples(st.just("request"), st.integers(1, FRONTS), st.sampled_from(["200", "500"])),
        st.tuples(st.just("decode"), st.integers(1, FRONTS), st.sampled_from([0.25, 0.5, 4.0])),
        st.tuples(st.just("queue"), st.just(ENGINE), st.sampled_from([0.25, 0.5, 4.0])),
        st.tuples(st.just("kill"), st.integers(ENGINE, FRONTS), st.none()),
    ),
    max_size=40,
)


@given(steps)
def test_what_is_rendered_is_all_that_was_counted(taken: list[tuple[str, int, object]]) -> None:
    """Whatever processes count and are replaced, every front shows the sum of all counts."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        Board.make(folder / "board", FRONTS)
        with mapped(folder) as board, mapped(folder) as another:
            run(taken, board, another, folder)


def run(taken: list[tuple[str, int, object]], board: Board, another: Board, folder: Path) -> None:
    fronts = {number: FrontMetrics(ROUTES, board.seat(number)) for number in range(1, FRONTS + 1)}
    engine = EngineMetrics(GUARDS, METHODS, board.seat(ENGINE))
    requests: Counter[str] = Counter()
    stages: dict[str, list[float]] = {"decode": [], "queue": []}
    last = scraped(another, folder)
    for what, number, value in taken:
        if what == "kill" and number == ENGINE:  # the next process lays the families out anew, over the same seat
            engine = EngineMetrics(GUARDS, METHODS, another.seat(ENGINE))
        elif what == "kill":
            fronts[number] = FrontMetrics(ROUTES, another.seat(number))
        elif what == "request":
            fronts[number].requests.add("/predict", str(value))
            requests[str(value)] += 1
        else:
            assert isinstance(value, float)
            (engine if number == ENGINE else fronts[number]).stages.observe(value, what)
            stages[what].append(value)
        if what == "kill":
            now = scraped(another, folder)
            assert not fallen(last, now)
            last = now
    counts = ServerCounts.of(another, ROUTES, GUARDS, METHODS)
    assert [counts.requests.total("/predict", code) for code in ("200", "500")] == [requests["200"], requests["500"]]
    totals = ServerTotals(counts)
    assert totals.requests("/predict", "200") == requests["200"]
    for stage, seen in stages.items():
        assert totals.stage(stage) == (len(seen), sum(seen))
    first, second = (rendered(front, folder) for front in (board, another))
    assert first == second
    assert f'requests_total{{code="200",route="/predict"}} {float(requests["200"])}\n' in first


@contextmanager
def counting(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process that counts in a front's seat."""
    command = [sys.executable, counting_process.__file__, str(folder / "board")]
    path = os.pathsep.join(filter(None, sys.path))
    with subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": path}) as process:
        try:
            yield process
        finally:
            process.kill()


def count_then_die(folder: Path, at_least: int) -> int:
    """Let a process count, kill it in the middle of it, and say how often it counted for certain."""
    with counting(folder) as process:
        assert process.stdout is not None
        said = 0
        while said < at_least:
            said = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read().decode().split("\n")
        return max([said, *map(int, filter(None, rest[:-1]))])


def test_a_process_killed_while_it_counts_loses_nothing(board: Board, folder: Path) -> None:
    """After three SIGKILLs the seat holds every acknowledged count, and at most one more."""
    total = 0
    last = scraped(board, folder)
    for lives in (1, 2, 3):
        total += count_then_die(folder, 1000)
        now = scraped(board, folder)
        assert not fallen(last, now)
        last = now
        answered = now["guardhouse_requests_total", "('code', '200')", "('route', '/predict')"]
        assert total <= answered <= total + lives
        assert abs(now["guardhouse_request_duration_seconds_count", "('route', '/predict')"] - answered) <= lives
    # All three had the first seat, one after the other.
    assert [seat.number for seat in board.fronts if seat.pid] == [1]


def test_requests_of_a_killed_front_are_not_in_flight(board: Board, folder: Path) -> None:
    """Requests in flight count while their front lives; a free seat has none."""
    with counting(folder) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert scraped(board, folder)["guardhouse_inflight_requests",] == 1
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert board.seat(1).in_flight == 1
        assert not board.is_held(1)
        assert scraped(board, folder)["guardhouse_inflight_requests",] == 0
    assert board.take_seat().number == 1
    assert board.is_held(1)
    assert board.in_flight == board.seat(1).in_flight == 0


def test_process_figures_are_sums_that_never_step_back(board: Board, folder: Path) -> None:
    """CPU seconds and collections of a killed process stay; its memory and its files are no longer counted."""
    ProcessFigures(board.take_seat("engine"))
    alone = scraped(board, folder)
    with counting(folder) as process:
        assert process.stdout is not None
        process.stdout.readline()
        both = scraped(board, folder)
        process.send_signal(signal.SIGKILL)
        process.wait()
        after = scraped(board, folder)
    for name in ("process_resident_memory_bytes", "process_virtual_memory_bytes", "process_open_fds"):
        assert alone[name,] == after[name,] < both[name,]
    for name in ("process_cpu_seconds_total", "process_open_fds"):
        assert alone[name,] < both[name,]
    assert after["process_cpu_seconds_total",] == both["process_cpu_seconds_total",]
    assert alone["process_start_time_seconds",] == both["process_start_time_seconds",]
    assert not fallen(alone, both)
    assert not fallen(both, after)
    with counting(folder) as process:
        assert process.stdout is not None
        process.stdout.readline()
        again = scraped(board, folder)
    assert not fallen(after, again)
    assert again["process_cpu_seconds_total",] > after["process_cpu_seconds_total",]


def test_while_the_engine_is_away_its_last_families_are_shown(board: Board, folder: Path) -> None:
    """Before the engine's first answer the model has no series; later its last ones, with the self-test at 0."""
    counts = EngineMetrics(GUARDS, METHODS, board.seat(ENGINE))
    counts.rows.add("allow", by=3)
    away = scraped(board, folder)
    assert ("guardhouse_rows_total", "('action', 'allow')") not in away
    assert away["guardhouse_self_test_passed",] == 0
    file = FamiliesFile(folder / "families.json")
    engine = EngineFamilies(counts=counts, device="cpu", info={"version": "1"}, series=list, file=file)

    async def ask() -> list[Family]:
        engine.encoded()
        return engine.families()

    front = Exposition(board, ROUTES, GUARDS, METHODS, ask=ask, file=file)
    there = asyncio.run(front.render(""))[0].decode()
    gone = rendered(board, folder)
    assert "guardhouse_self_test_passed 1.0\n" in there
    assert there.replace("guardhouse_self_test_passed 1.0\n", "guardhouse_self_test_passed 0.0\n") == gone
    assert "guardhouse_store_oldest_row_timestamp_seconds NaN\n" in gone
    counts.rows.add("allow", by=4)  # counted after the engine's last answer, and shown all the same
    assert scraped(board, folder)["guardhouse_rows_total", "('action', 'allow')"] == 7


def test_an_engine_that_does_not_answer_delays_no_scrape_for_ever(
    board: Board, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the engine is stopped, a scrape is answered after a bounded time, with the engine's last families."""
    monkeypatch.setattr("service.telemetry.metrics.exposition.ANSWER_SECONDS", 0.01)

    async def silent() -> list[Family]:
        await asyncio.Event().wait()
        raise AssertionError("it never answers")

    file = FamiliesFile(folder / "families.json")
    front = Exposition(board, ROUTES, GUARDS, METHODS, ask=silent, file=file)
    assert b"guardhouse_self_test_passed 0.0\n" in asyncio.run(front.render(""))[0]


def test_many_scrapes_at_once_cost_two_renderings(board: Board, folder: Path) -> None:
    """Scrapes that come during a rendering share the next rendering, each in its own format; none is out of date."""
    asked, go = 0, asyncio.Event()
    file = FamiliesFile(folder / "families.json")

    async def ask() -> list[Family]:
        nonlocal asked
        asked += 1
        await go.wait()
        return []

    async def scene() -> None:
        exposition = Exposition(board, ROUTES, GUARDS, METHODS, ask=ask, file=file)
        counts = FrontMetrics(ROUTES, board.seat(1))
        first = asyncio.create_task(exposition.render(""))
        await until_in_loop(lambda: asked)
        formats = ["", "application/openmetrics-text", "application/openmetrics-text;version=1.0.99;x=y"]
        counts.requests.add("/predict", "200")
        others = [asyncio.create_task(exposition.render(formats[number % 3])) for number in range(60)]
        await asyncio.sleep(0)
        go.set()
        await first
        series = b'guardhouse_requests_total{code="200",route="/predict"} 1.0'
        for number, (text, kind) in enumerate(await asyncio.gather(*others)):
            assert kind.startswith("application/openmetrics-text; version=1.0.0" if number % 3 else "text/plain")
            assert text.endswith(b"# EOF\n") is bool(number % 3)
            assert series in text or b'guardhouse_requests_total{route="/predict",code="200"} 1.0' in text

    asyncio.run(scene())
    assert asked == 2


def test_totals_by_name(board: Board) -> None:
    """Totals can be read by name without rendering: 0 for an unknown route, and the time of the last batch."""
    front, engine = FrontMetrics(ROUTES, board.seat(1)), EngineMetrics(GUARDS, METHODS, board.seat(ENGINE))
    front.duration.observe(0.5, "/predict")
    nothing = ServerTotals(ServerCounts.of(board, ROUTES, GUARDS, METHODS))
    assert (nothing.rows(), nothing.last_batch()) == (0, 0.0)
    engine.rows.add("allow", by=2)
    engine.rows.add("reject")
    engine.ran(3, 0.1, 1000.0)
    totals = ServerTotals(ServerCounts.of(board, ROUTES, GUARDS, METHODS))
    assert (totals.rows(), totals.last_batch()) == (3, engine.last_batch) == (3, 1000.0)
    assert (totals.duration("/predict"), totals.duration("/nowhere")) == ((1, 0.5), (0, 0.0))
    assert totals.requests("/nowhere", "200") == 0
