"""The messages between the engine and the store's process: Python objects of a few known kinds, over a Unix socket.

The objects are pickled, because they hold arrays of many types. A pickle from somebody else could run any code, so the
reader makes objects of the listed classes only, and nothing else. Each end is a process of this server.
"""

import io
import pickle
from multiprocessing.connection import Connection
from typing import Any

from guards.monitors.answered_rows import Records
from service.messages.answer import Answer
from service.messages.explanations import ExplainAnswer
from service.messages.monitor_changes import Change, Changed, Standing
from service.messages.outcomes import Outcome
from service.monitoring.sums import Sums
from service.store.job_table import StoredJob
from service.store.outcomes import Learnt
from service.store.rows import Answered
from service.store.store_client import Upkeep
from service.store.totals import Part
from service.telemetry.store_figures import StoreFigures

__all__ = ["COUNT", "DONE", "DOWN", "FAULT", "receive", "send"]

DONE, DOWN, FAULT = "done", "down", "fault"
"""How the store's process answers: with the result, with why the database is down, or with the name of an error."""
COUNT = "count"
"""What the store's process asks in the middle of a question: the monitors' counts of some records."""
OURS = (
    Answer, Answered, Change, Changed, ExplainAnswer, Learnt, Outcome, Part, Records, Standing, StoreFigures, StoredJob,
    Sums, Upkeep,
)  # fmt: skip
NUMPY = {
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy._core.numeric", "_frombuffer"),
}
"""What numpy's own pickles call."""
KNOWN = {(kind.__module__, kind.__qualname__) for kind in OURS} | NUMPY


class Reader(pickle.Unpickler):
    """Reads pickles of the known classes."""

    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401 - a class or a function
        """Give a known class.

        Raises:
            pickle.UnpicklingError: the class is not known.
        """
        if (module, name) not in KNOWN:
            raise pickle.UnpicklingError(f"a message holds {module}.{name}, which is not among the known classes")
        return super().find_class(module, name)


def send(connection: "Connection[Any, Any]", message: object) -> None:
    """Send an object.

    Raises:
        OSError: the other end is closed.
    """
    connection.send_bytes(pickle.dumps(message, protocol=5))


def receive(connection: "Connection[Any, Any]") -> Any:  # noqa: ANN401 - what was sent
    """Receive an object; waits until there is one.

    Raises:
        EOFError, OSError: the other end is closed.
        pickle.UnpicklingError: the object is not of the known classes.
    """
    return Reader(io.BytesIO(connection.recv_bytes())).load()
