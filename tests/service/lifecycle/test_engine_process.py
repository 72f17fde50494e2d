"""What the engine's process sets before it does anything else, and how its spare takes its place."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from waiting import until

from service.lifecycle import engine_process
from service.lifecycle.engine_process import main
from service.lifecycle.engine_service import EngineService
from service.lifecycle.process_names import SPARE, WAITING
from service.messages.board import ENGINE, Board

SPARE_PROCESS = """
import sys
from pathlib import Path
from service.lifecycle import spare
from service.messages.board import Board
spare.SERVICE, spare.LOOK_SECONDS = "colorsys", 0.01
seat = spare.Spare(Board(Path(sys.argv[1]))).wait()
print(seat.number, "colorsys" in sys.modules, flush=True)
"""


def test_the_device_waits_for_no_other_thread_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread of the engine that wants the interpreter gets it after a tenth of a millisecond."""
    before, seen = sys.getswitchinterval(), []

    async def run(_: EngineService) -> None:
        seen.append(sys.getswitchinterval())

    Board.make(tmp_path / "board", 1)
    monkeypatch.setattr(engine_process, "run_folder", lambda: tmp_path)
    monkeypatch.setattr(engine_process, "call_this_process", lambda _: None)
    monkeypatch.setattr(EngineService, "__init__", lambda *_: None)
    monkeypatch.setattr(EngineService, "run", run)
    monkeypatch.setattr(engine_process, "configure", lambda _: None)
    monkeypatch.setattr(engine_process.memory, "keep", lambda: None)
    monkeypatch.setattr(engine_process.gc, "freeze", lambda: None)
    monkeypatch.setattr(os, "_exit", lambda _: None)
    try:
        main()
    finally:
        sys.setswitchinterval(before)
    assert seen == pytest.approx([0.0001])


def test_a_spare_prepares_and_takes_the_seat(tmp_path: Path) -> None:
    """The spare imports once the engine has served for some seconds, and has the seat once the engine is gone."""
    path = tmp_path / "board"
    Board.make(path, 1)
    board = Board(path)
    seat = board.take_seat("engine")
    with subprocess.Popen(
        [sys.executable, "-c", SPARE_PROCESS, str(path)], stdout=subprocess.PIPE, text=True
    ) as process:
        spare = psutil.Process(process.pid)
        until(lambda: spare.name() == WAITING)
        until(lambda: (seat.beat(), spare.name() == SPARE)[1])
        board.close()
        assert process.stdout is not None
        assert process.stdout.readline().split() == [str(ENGINE), "True"]
