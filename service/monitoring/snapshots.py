"""The monitors' live state on disk: after a restart the monitors continue, even if the server was killed."""

import errno
import fcntl
import hashlib
import json
import logging
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from service.monitoring.live_monitors import Arrays, Monitoring

__all__ = ["Snapshots"]

LOG = logging.getLogger("guardhouse")
LOOK_SECONDS = 0.25
"""How soon an alarm is saved, in seconds."""
FORMAT = "1"
SAVE_SECONDS = 3.0
"""How many seconds of observations without an alarm are lost at most if the process is killed."""


class Snapshots:
    """Keeps one file for each model in ``folder``. A thread writes the file, so the device's thread does not wait.

    The server that holds the model's lock keeps the file; a second server keeps no file. A file of another bundle is
    replaced, and a damaged file is moved aside. If the folder cannot be written to, there is a warning.
    """

    def __init__(
        self, folder: Path, *, model: str, bundle: str, configs: Mapping[str, str], monitoring: Monitoring
    ) -> None:
        """Take the lock and restore the monitors; ``bundle`` is the bundle's id, ``configs`` each monitor's config."""
        self._path = folder / f"{model}.monitors.safetensors"
        self._bundle, self._configs, self._monitoring = bundle, dict(configs), monitoring
        self._leaving = threading.Event()
        self._thread: threading.Thread | None = None
        self._failing = False
        self._lock_path = folder / f"{model}.monitors.lock"
        self._lock = _locked(self._lock_path) if configs else None
        if self._lock is not None:
            self._restore()
        self._states, self._batches, self._saved_at = monitoring.look(), monitoring.batches, time.monotonic()

    def start(self) -> None:
        """Begin to save changes."""
        if self._lock is not None:
            self._thread = threading.Thread(target=self._run, name="snapshots", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Save the current state, and release the lock, so that another server can keep the file."""
        self._leaving.set()
        if self._thread is not None:
            self._thread.join()
        if self._keep_lock():
            self.save()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _run(self) -> None:
        while not self._leaving.wait(LOOK_SECONDS):
            if self._monitoring.batches != self._batches and self._keep_lock():
                due = time.monotonic() - self._saved_at >= SAVE_SECONDS
                if due or self._monitoring.look() != self._states:
                    self.save()

    def _keep_lock(self) -> bool:
        """Lock again if the lock's file was deleted or replaced: another server may lock the file at its path."""
        if self._lock is not None and not _is_at(self._lock, self._lock_path):
            self._lock.close()
            self._lock = _locked(self._lock_path)
            if self._lock is not None:
                LOG.warning("%s was deleted or replaced: it is locked anew", self._lock_path)
        return self._lock is not None

    def save(self) -> None:
        """Write the file. A reader sees the old file or the whole new file."""
        self._batches, self._saved_at = self._monitoring.batches, time.monotonic()
        self._states = self._monitoring.look()  # read first, so that a later change is noticed and saved
        followed = dict(self._monitoring.resets.followed)  # before the arrays: a reset in between is followed again
        arrays = self._monitoring.snapshot()
        monitors = {
            name: {
                "config": config,
                "state": self._states[name][0],
                "since": self._states[name][1],
                "reset": followed.get(name),
            }
            for name, config in self._configs.items()
        }
        tensors = {f"{name}.{key}": array for name, own in arrays.items() for key, array in own.items()}
        told = {"format": FORMAT, "bundle": self._bundle, "monitors": json.dumps(monitors)}
        temporary = self._path.with_suffix(".tmp")
        try:
            with temporary.open("wb") as file:
                file.write(save(tensors, told | {"sha256": _digest(tensors, told)}))
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self._path)
        except OSError as refused:
            if not self._failing:
                LOG.warning("%s: the monitors' state cannot be saved: %s", self._path, refused.strerror)
            self._failing = True
        else:
            if self._failing:
                LOG.info("%s: the monitors' state is saved again", self._path)
            self._failing = False

    def _restore(self) -> None:
        try:
            told, tensors = _read(self._path)
            monitors: dict[str, dict[str, Any]] = json.loads(told["monitors"])
        except FileNotFoundError:
            return
        except (OSError, SafetensorError, ValueError, KeyError) as damage:
            aside = self._path.with_suffix(".damaged")
            LOG.error("%s: damaged (%s), moved to %s: the monitors start anew", self._path, damage, aside.name)  # noqa: TRY400
            self._move(aside)
            return
        if told["bundle"] != self._bundle:
            LOG.info("%s: it belongs to bundle %s: the monitors start anew", self._path, told["bundle"])
            return
        for name, saved in monitors.items():
            if name not in self._configs:
                continue
            own = {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}
            if saved["config"] != self._configs[name]:
                LOG.info("monitor %s: its config has changed since it was saved: it starts anew", name)
                continue
            try:
                self._monitoring.restore(name, own, saved["state"], saved["since"])
                self._monitoring.resets.restored(name, saved.get("reset"))
            except Exception as refused:  # noqa: BLE001 - a plug-in's code may raise anything
                LOG.error("monitor %s: it refuses what it saved (%s): it starts anew", name, refused)  # noqa: TRY400
        LOG.info("%s: the monitors go on from there", self._path)

    def _move(self, aside: Path) -> None:
        try:
            self._path.replace(aside)
        except OSError as refused:
            LOG.warning("%s: cannot be moved: %s", self._path, refused.strerror)


def _is_at(file: IO[bytes], path: Path) -> bool:
    """Return whether the file at a path is this open file."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except OSError:
        return False


def _locked(path: Path) -> IO[bytes] | None:
    """Take the lock that one server at a time holds until it ends. If that fails, log the reason and return None.

    The lock is a record lock, because a forked child does not inherit it: if a monitor forked a child and the server
    is killed, the child must not keep the lock.
    """
    file: IO[bytes] | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("ab")
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as refused:
        if file is not None:
            file.close()
        if file is not None and refused.errno in (errno.EAGAIN, errno.EACCES):
            LOG.warning("%s: another server keeps the monitors' state there: this one runs without", path)
        else:
            LOG.warning("%s: cannot be written (%s): the monitors' state is not kept", path, refused.strerror)
        return None
    return file


def _read(path: Path) -> tuple[dict[str, str], Arrays]:
    """Read a file's description and its tensors.

    Raises:
        FileNotFoundError: there is no such file.
        SafetensorError, ValueError, KeyError: the file is damaged, or is of another version.
    """
    with safe_open(path, framework="numpy") as file:
        told: dict[str, str] = file.metadata() or {}
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
    if told.get("format") != FORMAT:
        raise ValueError("it is of another version")
    digest = told.pop("sha256", "")
    if digest != _digest(tensors, told):
        raise ValueError("sha256 differs")
    return told, tensors


def _digest(tensors: Mapping[str, npt.NDArray[np.generic]], told: Mapping[str, str]) -> str:
    """Hash everything in a file, because a tensor with a flipped bit can still be read."""
    digest = hashlib.sha256(json.dumps(dict(told), sort_keys=True).encode())
    for key in sorted(tensors):
        array = tensors[key]
        digest.update(f"{key} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
