"""Pid files: each front writes a small file into the state folder, by which ``guardhouse drain`` finds the server.

This module imports the standard library alone, so that ``guardhouse drain`` starts fast and needs little memory in a
container.
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

__all__ = ["Notice", "Presence", "Process", "Server", "present"]

LOG = logging.getLogger("guardhouse")
LINUX = "linux"
ZOMBIE = "Z"


@dataclass(frozen=True, slots=True)
class Process:
    """A process: its number, and when it was started. The start tells it from a later process with the same number."""

    pid: int
    started: str

    @classmethod
    def of(cls, pid: int) -> Self:
        """Describe a process that exists now."""
        return cls(pid, _started(pid) or "")

    def alive(self) -> bool:
        """Return whether the process still exists and has the same start."""
        return bool(self.started) and _started(self.pid) == self.started

    def replaced(self) -> bool:
        """Return whether another process has the number now."""
        return _started(self.pid) not in (None, self.started)

    def signal(self, number: signal.Signals) -> None:
        """Send the process a signal. If another process has the number now, no signal is sent.

        Raises:
            ProcessLookupError: the process has ended.
            PermissionError: the process belongs to another user.
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
            os.kill(self.pid, number)  # the system has no pidfd, or, in some sandboxes, only half of its calls


@contextmanager
def _held(pid: int) -> Iterator[int | None]:
    """Open a handle (pidfd) to a process, so that its number cannot pass to another process; None if not supported.

    Raises:
        ProcessLookupError: no process has that number.
    """
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        raise
    except (AttributeError, OSError):  # not Linux, an old kernel, or a sandbox without this call
        yield None
        return
    try:
        yield handle
    finally:
        os.close(handle)


@dataclass(frozen=True, slots=True)
class Presence:
    """One front of a server: the server's port, the front's seat, the front's process and its supervisor."""

    port: int
    seat: int
    front: Process
    supervisor: Process
    draining: bool = False


@dataclass(frozen=True, slots=True)
class Server:
    """One server: its port, the fronts that are alive, and their supervisor.

    A server is draining if all its fronts are draining.
    """

    port: int
    fronts: tuple[Process, ...]
    supervisor: Process
    draining: bool

    def alive(self) -> bool:
        """Return whether any front is still alive."""
        return any(front.alive() for front in self.fronts)


class Notice:
    """The pid file of this front. If it cannot be written, a warning says that nobody can find the server."""

    def __init__(self, presence: Presence, folder: Path) -> None:
        """Write the file."""
        self._presence, self._path = presence, folder / f"server-{presence.port}-{presence.seat}.json"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._write()
        except OSError as refused:
            LOG.warning("%s: %s: `guardhouse drain` will not find this server", self._path, refused.strerror)

    def drains(self) -> None:
        """Write into the file that the front is draining."""
        self._presence = replace(self._presence, draining=True)
        with suppress(OSError):  # the constructor has already warned
            self._write()

    def remove(self) -> None:
        """Remove the file, unless another front has replaced the file."""
        found = _read(self._path)
        if found is not None and found.front == self._presence.front:
            with suppress(OSError):
                self._path.unlink()

    def _write(self) -> None:
        temporary = self._path.with_suffix(".tmp")
        temporary.write_text(json.dumps(asdict(self._presence)), encoding="utf-8")
        temporary.replace(self._path)


def present(folder: Path) -> list[Server]:
    """List the servers whose files are in a folder, one for each port. Files of fronts that were killed are ignored."""
    fronts: dict[int, list[Presence]] = {}
    for path in sorted(folder.glob("server-*.json")):
        found = _read(path)
        if found is not None and found.front.alive():
            fronts.setdefault(found.port, []).append(found)
    return [
        Server(port, tuple(each.front for each in found), found[0].supervisor, all(each.draining for each in found))
        for port, found in fronts.items()
    ]


def _read(path: Path) -> Presence | None:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        return Presence(
            told["port"],
            told["seat"],
            Process(**told["front"]),
            Process(**told["supervisor"]),
            draining=told["draining"],
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _started(pid: int) -> str | None:
    """Return when a process was started, by a clock that nobody can set; None if the process has ended."""
    if sys.platform == LINUX:
        try:
            stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
        except OSError:
            return None
        state, *fields = stat.rpartition(") ")[
            2
        ].split()  # proc(5): the program's name before it may hold any character
        return None if state == ZOMBIE else fields[18]
    import psutil  # noqa: PLC0415 - only systems without /proc need it

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.2f}"
    except psutil.Error:
        return None
