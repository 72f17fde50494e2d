"""The program of the process that does the slow work of monitors; :mod:`guards.monitors.slow_work.client` starts it.

The client starts this file by its path, with this interpreter or with another one whose packages have other versions.
So a message is JSON and raw bytes, without any pickle. This file imports nothing but numpy: so the process uses only
the memory that its work needs.
"""

import contextlib
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["encode", "receive"]

Message = tuple[bytes, bytes]


def encode(head: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[np.generic]]) -> Message:
    """Turn ``head``, which is JSON, and arrays into a message.

    Raises:
        TypeError: ``head`` is not JSON, or an array holds Python objects.
    """
    plain = {str(name): np.asarray(array, order="C") for name, array in arrays.items()}
    if odd := [name for name, array in plain.items() if array.dtype.kind in "OV"]:
        raise TypeError(f"the array {odd[0]!r} holds {plain[odd[0]].dtype}: work is done on plain arrays alone")
    layout = [(name, array.dtype.str, array.shape) for name, array in plain.items()]
    return json.dumps({**head, "arrays": layout}).encode(), b"".join(array.tobytes() for array in plain.values())


def receive(connection: "Connection[Any, Any]") -> tuple[dict[str, Any], dict[str, npt.NDArray[np.generic]]]:
    """Read a message: its head, and its arrays, which may be written to.

    Raises:
        EOFError: the other end was closed.
    """
    head: dict[str, Any] = json.loads(connection.recv_bytes())
    body, arrays, start = connection.recv_bytes(), {}, 0
    for name, dtype, shape in head.pop("arrays"):
        whole = np.ndarray(shape, dtype, body, start).copy()
        arrays[name], start = whole, start + whole.nbytes
    return head, arrays


def main(descriptor: int, parent: int, niceness: int) -> None:
    """Work until the other end of the connection is closed, or the parent is gone."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a service's whole group gets it; the parent ends this process
    with contextlib.suppress(OSError):  # a container may forbid a change of niceness
        os.nice(niceness)
    logging.disable()
    threading.Thread(target=_leave_with, args=(parent,), daemon=True).start()
    connection: Connection[Any, Any] = Connection(descriptor)
    while True:
        try:
            head, arrays = receive(connection)
        except EOFError:
            return
        try:
            answer = encode({}, _function(head["function"])(head["task"], arrays))
        except Exception as failure:  # noqa: BLE001 - the parent decides what it reports of the failure
            answer = encode({"failed": type(failure).__name__, "why": str(failure)}, {})
        try:
            for part in answer:
                connection.send_bytes(part)
        except OSError:  # the parent is gone
            return


def _function(named: str) -> Any:  # noqa: ANN401 - a function of a task and arrays
    module, _, name = named.partition(":")
    if module.partition(".")[0] == "guards" and "guards" not in sys.modules:
        _load_guards()
    return getattr(import_module(module), name)


def _load_guards() -> None:
    """Load the ``guards`` that this file belongs to.

    The package's folder is not put on the import path: other packages there belong to the parent's interpreter.
    """
    folder = Path(__file__).parents[2]
    spec = spec_from_file_location("guards", folder / "__init__.py", submodule_search_locations=[str(folder)])
    assert spec is not None  # noqa: S101 - the file exists: this file lies below its folder
    assert spec.loader is not None  # noqa: S101
    sys.modules["guards"] = module_from_spec(spec)
    spec.loader.exec_module(sys.modules["guards"])


def _leave_with(parent: int) -> None:
    """End with the parent, even in the middle of work."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(0)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
