"""Waiting at the start of a process that a signal, or the end of the supervisor, interrupts."""

import asyncio
import signal
from typing import Any

from service.lifecycle import supervisor
from service.lifecycle.shutdown import SIGNALS

__all__ = ["unless_told_to_stop"]


async def unless_told_to_stop(waiting: Any) -> Any:  # noqa: ANN401 - whatever is waited for
    """Wait for a result, but stop waiting if a signal arrives or the supervisor dies.

    uvicorn's handlers only set a flag, which uvicorn reads after the start. So if a signal arrived before this call,
    the flag is set, and this function reads the flag.

    Raises:
        InterruptedError: a signal arrived, or the supervisor died.
    """
    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number, handler in before.items():
        if handler != signal.SIG_IGN:  # nohup makes a process ignore SIGHUP, and that stays so
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(told.set))
    if any(getattr(getattr(handler, "__self__", None), "should_exit", False) for handler in before.values()):
        told.set()
    supervisor.watch(lambda: loop.call_soon_threadsafe(told.set))
    wanted, stop = asyncio.ensure_future(waiting), asyncio.ensure_future(told.wait())
    try:
        await asyncio.wait([wanted, stop], return_when=asyncio.FIRST_COMPLETED)
    finally:
        stop.cancel()
        for number, handler in before.items():
            signal.signal(number, handler)
    if not wanted.done():
        wanted.cancel()
        raise InterruptedError("stopped before the engine had said what is served")
    return wanted.result()
