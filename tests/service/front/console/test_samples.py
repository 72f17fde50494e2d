"""The ring of readings, and the rates that it gives."""

from pathlib import Path

import numpy as np
import orjson
import pytest

from service.front.console import samples
from service.front.console.samples import Samples, quantiles
from service.messages.answer import Answer
from service.messages.board import Board
from service.telemetry.metrics.engine import EngineMetrics
from service.telemetry.metrics.exposition import Exposition
from service.telemetry.metrics.front import FrontMetrics
from service.telemetry.metrics.plain_families import FamiliesFile

PREDICT, OTHER = "/v1/models/{name}:predict", "/livez"
ROUTES = {PREDICT: (200, 422, 500, 503), OTHER: (200,)}


class Server:
    """A board with one front and one engine, whose counters a test moves; ``clock`` is the time."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        Board.make(folder / "board", fronts=1)
        self.board = Board(folder / "board")
        self.front = FrontMetrics(ROUTES, self.board.take_seat())
        self.engine = EngineMetrics(["ood"], [], self.board.take_seat("engine"))
        self.clock = 100.0
        monkeypatch.setattr(samples.time, "time", lambda: self.clock)
        exposition = Exposition(self.board, ROUTES, ["ood"], [], ask=self._families, file=FamiliesFile(folder / "f"))
        self.samples = Samples(self.board, exposition.counts, [PREDICT])

    async def _families(self) -> list[dict[str, object]]:
        return []

    def pass_time(self, seconds: float) -> None:
        self.clock += seconds
        self.samples.read()

    def requests(self, count: int, *, code: int = 200, route: str = PREDICT, seconds: float = 0.002) -> None:
        self.front.requests.add(route, str(code), by=count)
        for _ in range(count):
            self.front.duration.observe(seconds, route)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    return Server(tmp_path, monkeypatch)


def test_rates_are_differences_of_counters(server: Server) -> None:
    """Only predictions count; refused and failed ones are also counted apart, and other mistakes only with all."""
    server.requests(1000)
    server.pass_time(2)
    for code, count in ((200, 10), (503, 4), (500, 2), (422, 2)):
        server.requests(count, code=code)
    server.requests(50, route=OTHER)
    server.pass_time(2)
    series = server.samples.document()["series"]
    assert series["requests"] == [500.0, 9.0]
    assert (series["refused"], series["failed"]) == ([0.0, 2.0], [0.0, 1.0])


def test_latency_is_that_of_the_interval(server: Server) -> None:
    """A slow minute does not raise the latency of the next; without requests there is none."""
    server.requests(100, seconds=0.4)
    server.pass_time(2)
    server.requests(100, seconds=0.002)
    server.pass_time(2)
    server.pass_time(2)
    slow, fast, none = server.samples.document()["series"]["p50"]
    assert 250 <= slow <= 500
    assert 1 <= fast <= 2.5
    assert none is None


def test_guards_are_counted_over_the_ring_and_over_all(server: Server) -> None:
    """A guard's recent counts begin with the ring, and its other counts with the server."""

    def answer(count: int, flagged: bool) -> Answer:
        names = dict.fromkeys(Answer.__dataclass_fields__)
        return Answer(**names | {  # type: ignore[arg-type]
            "action": np.full(count, int(flagged)), "flagged": np.full((count, 1), flagged),
            "p_value": np.full((count, 1), 0.004 if flagged else 0.55, np.float32),
        })  # fmt: skip

    server.engine.observe(answer(5, flagged=False))
    server.samples._readings.clear()
    server.pass_time(2)
    server.engine.observe(answer(3, flagged=True))
    server.pass_time(2)
    (guard,) = server.samples.document()["guards"]
    assert (guard["judged"], guard["flagged"], guard["recent"]) == (8, 3, {"judged": 3, "flagged": 3})
    assert (sum(guard["p_values"]["all"]), sum(guard["p_values"]["recent"])) == (8, 3)
    assert server.samples.document()["series"]["rows"]["flag"] == [1.5]


def test_the_ring_is_bounded(server: Server) -> None:
    """The ring holds ten minutes, however long the server runs, and its document is JSON."""
    for _ in range(samples.SAMPLES + 20):
        server.pass_time(samples.SECONDS)
    document = orjson.loads(orjson.dumps(server.samples.document()))
    assert len(document["times"]) == samples.SAMPLES
    assert {len(values) for name, values in document["series"].items() if name != "rows"} == {samples.SAMPLES}


def test_the_first_document_is_empty(server: Server) -> None:
    """Before the second reading there are no rates, and no error."""
    document = server.samples.document()
    assert (document["times"], document["series"]["requests"]) == ([], [])


def test_quantiles_lie_in_their_buckets() -> None:
    """Within a bucket a quantile is linear; beyond the last bound it is that bound; without observations it is NaN."""
    edges = np.array([0.0, 1.0, 2.0])
    found = quantiles(np.array([[4.0, 0, 0], [0, 4, 0], [0, 0, 4], [0, 0, 0]]), edges, 0.5)
    assert found[:3].tolist() == [0.5, 1.5, 2.0]
    assert np.isnan(found[3])
