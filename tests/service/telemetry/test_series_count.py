"""How many series a server will export: the estimate that `guardhouse fit` prints for a bundle."""

import asyncio
from pathlib import Path

import orjson
import pytest
import tiny_models

from guards.bundle.bundle import Bundle
from guards.types import Batch
from service.closing import close_all
from service.engine.engine import Engine
from service.messages.board import Board
from service.telemetry.metrics.engine import EngineMetrics
from service.telemetry.metrics.exposition import Exposition
from service.telemetry.metrics.front import FrontMetrics
from service.telemetry.metrics.plain_families import FamiliesFile, Family
from service.telemetry.metrics.process_figures import ProcessFigures
from service.telemetry.metrics.series_count import count_series

ROUTES = {"/predict": (200, 422, 503), "/metrics": (200,)}


@pytest.mark.parametrize("kind", ["tabular", "image"])
def test_a_server_shows_as_many_series_as_were_counted(tmp_path: Path, kind: str) -> None:
    """From its first scrape to one after rows were watched, an engine and its fronts show the counted series."""
    tiny_models.fitted(kind).bundle.save(tmp_path / "bundle")
    bundle = Bundle.load(tmp_path / "bundle")
    guards, methods = [guard.name for guard in bundle.config.guards], list(bundle.config.explain.allowed)
    monitors = [params.name for params in bundle.config.all_monitors]
    Board.make(tmp_path / "board", 3)
    board = Board(tmp_path / "board")
    seats = board.take_seat("engine"), board.take_seat()
    for seat in seats:
        ProcessFigures(seat)
    engine_seat, front_seat = seats
    counts, front = EngineMetrics(guards, methods, engine_seat, monitors=monitors), FrontMetrics(ROUTES, front_seat)
    engine = Engine(bundle, board, counts)

    async def ask() -> list[Family]:
        families: list[Family] = orjson.loads(engine.families.encoded())
        return families

    file = FamiliesFile(tmp_path / "families.json")
    exposition = Exposition(board, ROUTES, guards, methods, monitors=monitors, ask=ask, file=file)

    def shown() -> int:
        lines = asyncio.run(exposition.render(""))[0].decode().splitlines()
        return sum(line.startswith("guardhouse_") for line in lines)

    try:
        first = shown()
        batch = Batch(tiny_models.inputs(kind, 8, 3))
        engine.monitoring.observe(batch, bundle.pipeline()(batch))
        front.requests.add("/predict", "200")
        assert [first, shown()] == [count_series(Bundle.load(tmp_path / "bundle"), ROUTES)] * 2
    finally:
        asyncio.run(close_all(*engine.closing()))
        board.close()
