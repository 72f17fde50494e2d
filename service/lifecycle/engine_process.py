"""The engine's process: takes the engine's seat on the board, and serves.

The supervisor starts ``python -m service.lifecycle.engine_process`` twice, and starts a process again if it ends. The
process that gets the seat is the engine, the other process is its spare. If the engine dies, the kernel frees the seat,
and the spare takes the seat at once. So this module imports little: what the engine needs is imported later.
"""

import asyncio
import gc
import logging
import os
import sys

from guards.errors import Mistake
from service import memory
from service.interpreter import switch_soon
from service.lifecycle import supervisor
from service.lifecycle.process_names import STARTING, call_this_process
from service.lifecycle.spare import Spare
from service.messages.board import Board
from service.messages.paths import BOARD, run_folder
from service.settings import OWNER_ONLY
from service.telemetry.logs import configure

__all__ = ["main"]

LOG = logging.getLogger("guardhouse")
MISTAKE = 2
"""The exit status if the settings, the config or the bundle's description cannot be read."""


def main() -> None:
    """Run the engine's process."""
    folder = run_folder()
    if folder is None:
        sys.exit("only a server starts this process: run `guardhouse serve`")
    os.umask(OWNER_ONLY)
    configure("info")  # the settings are read later, and may be wrong
    call_this_process(STARTING)
    board = Board(folder / BOARD)
    try:
        seat = board.take_seat("engine")
    except OSError:
        seat = Spare(board).wait()
    from service.lifecycle.engine_service import EngineService  # noqa: PLC0415 - takes seconds

    memory.keep()
    gc.freeze()
    switch_soon()
    try:
        asyncio.run(EngineService(folder, board, seat).run())
    except Mistake as mistake:
        LOG.critical("start-up failed: %s", mistake)
        supervisor.tell_to_stop(failed=True)
        sys.exit(MISTAKE)
    os._exit(0)  # a normal exit would wait for threads that the user's model left running


if __name__ == "__main__":
    main()
