"""How the threads of a process share the interpreter."""

import sys

__all__ = ["SWITCH_SECONDS", "switch_soon"]

SWITCH_SECONDS = 0.0001


def switch_soon() -> None:
    """Let a thread that wants the interpreter have it after a tenth of a millisecond.

    By default another thread may keep the interpreter for 5 ms. In the engine, a batch is some fifty short torch
    operations, and the device's thread may lose the interpreter to the store's writer or a monitor at each. In a front,
    the event loop loses it whenever it waits for events, and a thread that decodes a large body may take it.
    """
    sys.setswitchinterval(SWITCH_SECONDS)
