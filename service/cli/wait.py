"""``guardhouse wait``: waits until a bundle is whole, so that a pod stays in its init container and does not crash.

This module imports no torch, and of the library only what needs no torch: an init container has little memory.
"""

import hashlib
import json
import os
import re
import signal
import sys
import time
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from guards.bundle.folder import MANIFEST, foreign_name, odd_entry, sealed

__all__ = ["BundleFiles", "wait"]

NAMED_BY_HASH = re.compile(r"sha256-([0-9a-f]{8,64})")
POLL_SECONDS = 1.0
SAY_SECONDS = 10.0
SIGTERM_STATUS = 128 + signal.SIGTERM


class NotThereError(Exception):
    """A file of the bundle is missing or not whole yet; the message names the file and the reason."""


class BundleFiles:
    """The files of a bundle's folder, checked again and again while somebody copies them there.

    A file that has changed since the last look is still being copied, and is not read. A file that has not changed
    since it was read is not read again.
    """

    def __init__(self, path: Path) -> None:
        """Prepare, without checking anything."""
        self._path = path
        self._seen: dict[str, tuple[int, int]] = {}
        self._read: dict[str, tuple[tuple[int, int], str]] = {}

    def fault(self) -> str | None:
        """Say what keeps the bundle from being whole, in one sentence; None if it is whole."""
        try:
            files = self._manifest()
            for name, digest in files.items():
                if self._sha256(name) != digest:
                    return f"{self._path / name}: the file is not whole, or is not the file that was fitted"
            return odd_entry(self._path, files)
        except NotThereError as missing:
            return str(missing)
        except OSError as refused:
            who = f"the user {os.getuid()}" if hasattr(os, "getuid") else "this user"
            return f"{refused.filename}: {who} cannot read it ({refused.strerror})"

    def _manifest(self) -> dict[str, str]:
        """Return the sha256 of every file that the manifest names."""
        if not self._path.is_dir():
            raise NotThereError(f"{self._path}: the folder is not there yet")
        found = self._sha256(MANIFEST)
        manifest, named = self._path / MANIFEST, NAMED_BY_HASH.fullmatch(self._path.name)
        if named is not None and not found.startswith(named[1]):
            raise NotThereError(f"{manifest}: its sha256 is {found[:12]}..., and the folder's name says {named[1]}")
        content = manifest.read_bytes()
        if not sealed(content):
            raise NotThereError(f"{manifest}: the file is not a whole manifest of this version of Guardhouse")
        try:
            files = dict(json.loads(content)["sha256"])
        except (ValueError, KeyError, TypeError, RecursionError):
            raise NotThereError(f"{manifest}: the file is not a whole manifest") from None
        if (name := foreign_name(files)) is not None:
            raise NotThereError(f"{manifest}: it names {name!r}, which is no file of a bundle")
        return files

    def _sha256(self, name: str) -> str:
        """Return the hash of a file that has not changed since the last look."""
        file = self._path / name
        if file.is_symlink():
            raise NotThereError(f"{file}: it is a link; put the file itself there")
        if not file.is_file():
            raise NotThereError(f"{file}: the file is not there yet")
        status = file.stat()
        state = (status.st_size, status.st_mtime_ns)
        if self._seen.setdefault(name, state) != state:
            self._seen[name] = state
            raise NotThereError(f"{file}: the file is being copied")
        if name not in self._read or self._read[name][0] != state:
            with file.open("rb") as stream:
                self._read[name] = (state, hashlib.file_digest(stream, "sha256").hexdigest())
        return self._read[name][1]


def wait(
    bundle: Annotated[
        Path | None, typer.Argument(envvar="GUARDHOUSE_BUNDLE", help="the bundle to wait for", show_default=False)
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(min=0, help="seconds to wait; default: no limit", show_default=False)
    ] = None,
) -> None:
    """Wait until a bundle is whole: the manifest and every file that it names are there and have their sha256.

    Nothing else may be in the folder.

    In a folder called sha256-HEX the manifest's own sha256 must begin with HEX. Prints what is missing every 10 s.
    Exit status 0 if the bundle is whole, 1 if --seconds have passed.
    """
    if bundle is None:
        _end("name the bundle to wait for, or set GUARDHOUSE_BUNDLE", 2)
    # The first process of a container ignores SIGTERM unless it has a handler: the pod would wait out its grace period.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(SIGTERM_STATUS))
    files = BundleFiles(bundle)
    began = time.monotonic()
    next_line = 0.0
    while (fault := files.fault()) is not None:
        waited = time.monotonic() - began
        if seconds is not None and waited >= seconds:
            _end(f"{fault}; given up after {seconds:g} s", 1)
        if waited >= next_line:
            _say(f"waiting for the bundle: {fault}")
            next_line = waited + SAY_SECONDS
        time.sleep(POLL_SECONDS if seconds is None else min(POLL_SECONDS, seconds - waited))
    _say(f"{bundle}: the bundle is whole")


def _say(sentence: str) -> None:
    sys.stdout.write(f"{sentence}\n")
    sys.stdout.flush()


def _end(sentence: str, status: int) -> NoReturn:
    sys.stderr.write(f"{sentence}\n")
    raise typer.Exit(status)
