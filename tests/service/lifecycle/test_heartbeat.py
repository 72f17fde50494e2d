"""The supervisor kills a process that has stopped saying that it runs, and no other process."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from waiting import until_in_loop

from service.lifecycle import heartbeat
from service.lifecycle.heartbeat import Heartbeats, keep_beating
from service.messages.board import Board
from service.messages.seat import Seat

MOST = 5
SEATED = """
import sys
from pathlib import Path
from service.messages.board import Board
seat = Board(Path(sys.argv[1])).take_seat("engine")
print("seated", flush=True)
for line in sys.stdin:
    seat.beat()
    print("beaten", flush=True)
"""


class Seated:
    """A process that has the engine's seat, and beats when it is asked to."""

    def __init__(self, board: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", SEATED, str(board)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._read()

    def beat(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("beat\n")
        self.process.stdin.flush()
        self._read()

    def _read(self) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline()

    def end(self) -> int:
        self.process.kill()
        self.process.communicate()
        return self.process.returncode


@pytest.fixture
def board(tmp_path: Path) -> Path:
    Board.make(tmp_path / "board", 1)
    return tmp_path / "board"


@pytest.fixture
def seated(board: Path) -> Iterator[Seated]:
    process = Seated(board)
    yield process
    process.end()


def test_a_process_that_stops_beating_is_killed(board: Path, seated: Seated, caplog: pytest.LogCaptureFixture) -> None:
    """After so many looks without a heartbeat the process is killed, and the log has one line with its number."""
    heartbeats = Heartbeats(Board(board), MOST)
    heartbeats.look()
    seated.beat()
    for _ in range(MOST):
        heartbeats.look()
        assert seated.process.poll() is None
    heartbeats.look()
    assert seated.process.wait(60) == -9
    for _ in range(2 * MOST):
        heartbeats.look()
    assert [str(seated.process.pid) in line for line in caplog.messages] == [True]


def test_a_process_that_beats_is_left_alone(board: Path, seated: Seated) -> None:
    """One heartbeat among many looks is enough."""
    heartbeats = Heartbeats(Board(board), MOST)
    for _ in range(5):
        seated.beat()
        for _ in range(MOST):
            heartbeats.look()
    assert seated.process.poll() is None


def test_a_process_that_has_never_beaten_is_left_alone(board: Path, seated: Seated) -> None:
    """A process that still loads its model may take as long as it wants, also in a seat that others have used."""
    heartbeats = Heartbeats(Board(board), MOST)
    for _ in range(3 * MOST):
        heartbeats.look()
    assert seated.process.poll() is None
    seated.beat()
    heartbeats.look()
    seated.end()
    successor = Seated(board)
    try:
        for _ in range(3 * MOST):
            heartbeats.look()
        assert successor.process.poll() is None
    finally:
        successor.end()


def test_a_loop_that_runs_beats(monkeypatch: pytest.MonkeyPatch) -> None:
    """The heartbeat comes from the event loop again and again, and ends with its task."""
    monkeypatch.setattr(heartbeat, "BEAT_SECONDS", 0.001)
    seat = Seat.of_no_board()

    async def main() -> None:
        task = asyncio.create_task(keep_beating(seat))
        await until_in_loop(lambda: seat.heartbeats >= 5)
        task.cancel()

    asyncio.run(main())
    assert seat.heartbeats >= 5
