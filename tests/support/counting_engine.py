"""An engine that counts batches until it is killed; its argument is a run folder that has a bundle and a board.

After every scrape the engine writes one line to standard output. After the first scrape it waits for a line on standard
input, so that the test can read what was scraped.
"""

import sys
from pathlib import Path

import tiny_models

from guards.bundle.bundle import Bundle
from guards.types import Batch
from service.engine.engine import Engine
from service.messages.board import Board
from service.messages.paths import BOARD, FAMILIES
from service.monitoring import snapshots
from service.telemetry.metrics.engine import EngineMetrics
from service.telemetry.metrics.plain_families import FamiliesFile


def main() -> None:
    folder = Path(sys.argv[1])
    snapshots.SAVE_SECONDS = snapshots.LOOK_SECONDS = 0.05
    bundle = Bundle.load(folder / "bundle")
    board = Board(folder / BOARD)
    guards, methods = [guard.name for guard in bundle.config.guards], list(bundle.config.explain.allowed)
    counts = EngineMetrics(guards, methods, board.take_seat("engine"))
    engine = Engine(bundle, board, counts, families=FamiliesFile(folder / FAMILIES), state=folder)
    engine.start()
    pipeline = bundle.pipeline()
    batch = Batch(tiny_models.inputs("tabular", 8, 3))
    result = pipeline(batch)

    def scrape() -> None:
        engine.families.encoded()
        print("scraped", flush=True)  # noqa: T201 - for the test that kills this process

    scrape()
    sys.stdin.readline()
    while True:
        for _ in range(5):
            engine.monitoring.observe(batch, result)
        scrape()


if __name__ == "__main__":
    main()
