"""CPU, memory, files and garbage collection: the client library's names, for the whole server."""

import gc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector

from service.messages.board import Board
from service.telemetry.metrics.plain_families import Family
from service.telemetry.metrics.process_figures import ProcessFigures, server_figures


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Board]:
    Board.make(tmp_path / "board", 2)
    board = Board(tmp_path / "board")
    yield board
    board.close()


def value(families: list[Family], name: str) -> float:
    """Give the value of a family's first sample."""
    (family,) = (family for family in families if family["name"] == name)
    return float(family["samples"][0][1])


def test_one_process_has_the_client_librarys_figures(board: Board) -> None:
    """Names, helps, kinds, labels, order and, up to the time passed, values equal prometheus_client's."""
    ProcessFigures(board.take_seat("engine"))
    ours = server_figures(board)
    registry = CollectorRegistry()
    theirs = [*ProcessCollector(registry=None).collect(), *GCCollector(registry=registry).collect()]
    assert [(f["name"], f["help"], f["kind"]) for f in ours] == [(f.name, f.documentation, f.type) for f in theirs]
    for one, other in zip(ours, theirs, strict=True):
        assert [list(labels) for labels, _ in one["samples"]] == [list(s.labels.values()) for s in other.samples]
        close = pytest.approx([sample.value for sample in other.samples], rel=0.05, abs=20)
        assert [float(number) for _, number in one["samples"]] == close
    start = value(ours, "process_start_time_seconds")
    assert start == pytest.approx(theirs[2].samples[0].value, abs=0.01)


def test_publishing_brings_the_figures_up_to_date(board: Board) -> None:
    """A collection after the last figures is in the next ones."""
    figures = ProcessFigures(board.take_seat("engine"))

    def collections() -> float:
        (family,) = (family for family in server_figures(board) if family["name"] == "python_gc_collections")
        return float(family["samples"][2][1])

    before = collections()
    gc.collect()
    assert collections() == before
    figures.publish()
    assert collections() == before + 1


def test_the_next_process_adds_to_what_the_last_one_used(board: Board) -> None:
    """Counters of a seat go on from its last process, however often figures are published; the start time stays."""
    seat = board.take_seat("engine")
    ProcessFigures(seat)
    first = server_figures(board)
    seat.process[0] = 1000.0  # a process that was started long ago
    later = ProcessFigures(seat)
    later.publish()
    second = server_figures(board)
    assert value(second, "process_cpu_seconds") >= 2 * value(first, "process_cpu_seconds") > 0
    assert value(second, "process_start_time_seconds") == 1000.0
    assert value(second, "process_open_fds") == pytest.approx(value(first, "process_open_fds"), abs=5)


def test_nothing_published_is_nothing(board: Board) -> None:
    """Before any process has published, counters are 0; a start time and a limit are unknown."""
    figures = server_figures(board)
    assert value(figures, "process_cpu_seconds") == value(figures, "process_resident_memory_bytes") == 0
    assert np.isinf(value(figures, "process_max_fds"))
