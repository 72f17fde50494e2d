"""How a running server is found: a small file in the folder of its state, by the port that it serves.

The standard library alone, so that ``guardhouse drain`` is there at once in a container that has no memory to spare.
"""

import errno
import json
import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Self

__all__ = ["Notice", "Presence", "Process", "present", "state_folder"]

LOG = logging.getLogger("guardhouse")
LINUX = "linux"
ZOMBIE = "Z"


def state_folder(bundle: Path, state: Path | None) -> Path:
    """Where a server keeps what a restart must not lose: beside the bundle, which itself is never written to."""
    return state or bundle.resolve().with_name(f"{bundle.resolve().name}.state")


@dataclass(frozen=True, slots=True)
class Process:
    """A process and when it was started, since its number alone may be another's by now."""

    pid: int
    started: str

    @classmethod
    def of(cls, pid: int) -> Self:
        """Describe a process that is there."""
        return cls(pid, _started(pid) or "")

    def alive(self) -> bool:
        """Tell whether it is still there, and still the same."""
        return bool(self.started) and _started(self.pid) == self.started

    def replaced(self) -> bool:
        """Tell whether another process has its number by now."""
        return _started(self.pid) not in (None, self.started)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, and none to another process that has its number by now.

        Raises:
            ProcessLookupError: it left.
            PermissionError: it is another user's.
        """
        with _held(self.pid) as handle:
            if not self.alive():
                raise ProcessLookupError
            if handle is not None:
                try:
                    signal.pidfd_send_signal(handle, number)
                except OSError as refused:
                    if refused.errno != errno.ENOSYS:
                        raise
                else:
                    return
            os.kill(self.pid, number)  # a system that knows no handles, or, like some sandboxes, half of them


@contextmanager
def _held(pid: int) -> Iterator[int | None]:
    """Hold on to a process, so that what is found out about it stays true; None if the system cannot.

    Raises:
        ProcessLookupError: there is none of that number.
    """
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        raise
    except (AttributeError, OSError):  # not Linux, an old one, or a sandbox that knows no such call
        yield None
        return
    try:
        yield handle
    finally:
        os.close(handle)


@dataclass(frozen=True, slots=True)
class Presence:
    """One server: its port, the process that answers, and the one that supervises it."""

    port: int
    worker: Process
    supervisor: Process
    draining: bool = False


class Notice:
    """This server's own file; where it cannot be written, nobody finds the server, which costs a warning."""

    def __init__(self, presence: Presence, folder: Path) -> None:
        """Write it."""
        self._presence, self._path = presence, folder / f"server-{presence.port}.json"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._write()
        except OSError as refused:
            LOG.warning("%s: %s: `guardhouse drain` will not find this server", self._path, refused.strerror)

    def drains(self) -> None:
        """Say that the server is draining."""
        self._presence = replace(self._presence, draining=True)
        with suppress(OSError):  # which was told at the start
            self._write()

    def remove(self) -> None:
        """Take it away, unless another server's is in its place by now."""
        found = _read(self._path)
        if found is not None and found.worker == self._presence.worker:
            with suppress(OSError):
                self._path.unlink()

    def _write(self) -> None:
        temporary = self._path.with_suffix(".tmp")
        temporary.write_text(json.dumps(asdict(self._presence)), encoding="utf-8")
        temporary.replace(self._path)


def present(folder: Path) -> Iterator[Presence]:
    """Find the servers of a folder that are there; the files of those that were killed are passed over."""
    for path in sorted(folder.glob("server-*.json")):
        found = _read(path)
        if found is not None and found.worker.alive():
            yield found


def _read(path: Path) -> Presence | None:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        return Presence(
            told["port"], Process(**told["worker"]), Process(**told["supervisor"]), draining=told["draining"]
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _started(pid: int) -> str | None:
    """When a process was started, by a clock that nobody sets; None where it is gone."""
    if sys.platform == LINUX:
        try:
            stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
        except OSError:
            return None
        state, *fields = stat.rpartition(") ")[2].split()  # proc(5): the name before it may hold anything
        return None if state == ZOMBIE else fields[18]
    import psutil  # noqa: PLC0415 - where there is no /proc

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.2f}"
    except psutil.Error:
        return None
