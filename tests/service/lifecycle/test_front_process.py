"""A front's start: it waits for its engine, but not after a signal to stop."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from service.messages.board import Board
from service.messages.paths import BOARD, RUN_FOLDER

ROOT = Path(__file__).parents[3]
FRONT = """
import os, signal, threading
import uvicorn
from service.lifecycle.door import Door
from service.lifecycle.plain_front import nothing_behind

MOMENT = {moment!r}

class Told(Door):
    async def _lifespan(self, scope, receive, send):
        if MOMENT == "before":
            os.kill(os.getpid(), signal.{name})
        else:
            threading.Timer(0.5, os.kill, [os.getpid(), signal.{name}]).start()
        await super()._lifespan(scope, receive, send)

uvicorn.Server(uvicorn.Config(Told(nothing_behind, schema=False), port=0, log_config=None)).run()
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
@pytest.mark.parametrize("moment", ["before", "while"])
def test_a_front_that_was_told_to_stop_does_not_wait_for_its_engine(tmp_path: Path, moment: str, name: str) -> None:
    """A signal ends a front whose engine never comes: before the front begins to wait, and while the front waits."""
    Board.make(tmp_path / BOARD, 1)
    front = subprocess.Popen(
        [sys.executable, "-c", FRONT.format(moment=moment, name=name)],
        cwd=ROOT,
        env={**os.environ, RUN_FOLDER: str(tmp_path), "GUARDHOUSE_BUNDLE": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        said, _ = front.communicate(timeout=180)
    finally:
        front.kill()
    assert "Traceback" not in said
