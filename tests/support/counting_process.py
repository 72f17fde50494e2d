"""A process that takes a seat of a board and counts there until it is killed; its argument is the board's path.

After every count the process writes the number of its counts to standard output. If the kill comes between the count
and the line, the count is in the seat without a line.
"""

import sys
from pathlib import Path

from service.messages.board import Board
from service.telemetry.metrics.front import FrontMetrics
from service.telemetry.metrics.process_figures import ProcessFigures

ROUTES = {"/predict": (200, 500), "/metrics": (200,)}


def main() -> None:
    board = Board(Path(sys.argv[1]))
    seat = board.take_seat()
    metrics = FrontMetrics(ROUTES, seat)
    ProcessFigures(seat)
    metrics.arrive()
    said = sys.stdout.buffer
    count = 0
    while True:
        metrics.requests.add("/predict", "200")
        metrics.duration.observe(0.25, "/predict")
        count += 1
        said.write(b"%d\n" % count)
        said.flush()


if __name__ == "__main__":
    main()
