"""What an engine says at its start of classes that have too few calibration rows for the deployed coverage."""

import asyncio
import logging
from pathlib import Path

import pytest
import tiny_models

from guards import Bundle
from guards.config.config import parse
from service.engine.engine import Engine
from service.messages.board import Board
from service.telemetry.metrics.engine import EngineMetrics
from service.telemetry.metrics.plain_families import FamiliesFile


@pytest.mark.parametrize(("coverage", "warned"), [(0.9, False), (0.998, True)])
def test_a_coverage_that_a_class_cannot_support_is_warned_of(
    coverage: float, warned: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """If a changed coverage needs more rows of a class than there are, the log names the class at the start."""
    changes = {"prediction_sets": {"by": "class"}, "guards": []}
    heldout = tiny_models.rows("tensor", 1000, 50)
    tiny_models.fitted("tensor", heldout=heldout, **changes).bundle.save(tmp_path / "bundle")
    deployed = parse(tiny_models.document("tensor", coverage=coverage, **changes))
    bundle = Bundle.load(tmp_path / "bundle", config=deployed)
    Board.make(tmp_path / "board", 1)
    with caplog.at_level(logging.WARNING, logger="guardhouse"):
        engine = Engine(
            bundle, Board(tmp_path / "board"), EngineMetrics([], []), families=FamiliesFile(tmp_path / "families")
        )
    engine.start()
    for step in engine.closing():
        asyncio.run(step.close())
    found = [record.getMessage() for record in caplog.records if "prediction_sets.by" in record.getMessage()]
    assert bool(found) == warned
    if warned:
        assert "labelled calibration rows: the threshold of all rows together is used" in found[0]
        assert "'bee', 'cat' have fewer than 499" in found[0]
