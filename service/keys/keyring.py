"""The keys that a running server accepts: read from the file, and read again if the file changes."""

import asyncio
import hmac
import logging
import os
from pathlib import Path

from guards.errors import Mistake
from service.keys.key_file import KeyFile, digest_of, read_keys
from service.keys.principal import Principal

__all__ = ["Keyring"]

LOG = logging.getLogger("guardhouse")
LOOK_SECONDS = 1.0
"""How often a server looks whether the file of keys has changed."""
LONGEST_KEY = 256
Version = tuple[int, int, int, int]


class Keyring:
    """The principals of a file of keys, by the SHA-256 of their keys."""

    def __init__(self, path: Path) -> None:
        """Read the file.

        Raises:
            Mistake: the file cannot be read, or an entry is wrong.
        """
        self._path = path
        self._version = _version(path)
        self._principals = _by_digest(read_keys(path))
        self._trouble = ""

    def find(self, key: bytes) -> Principal | None:
        """Return the principal whose key this is; None if it is nobody's.

        A caller that tries keys learns nothing from the time that this takes. The time depends on the SHA-256 of what
        the caller sent, and nobody knows a key that gives a wanted SHA-256. The last comparison takes the same time
        whatever the bytes are.
        """
        if len(key) > LONGEST_KEY:
            return None
        digest = digest_of(key)
        found = self._principals.get(digest)
        return found[1] if found is not None and hmac.compare_digest(found[0], digest) else None

    def look(self) -> None:
        """Read the file again if it has changed. If it cannot be read, the keys of the last good file stay valid."""
        version = _version(self._path)
        if version == self._version and not self._trouble:
            return
        try:
            self._principals, self._version = _by_digest(read_keys(self._path)), version
        except Mistake as mistake:
            if str(mistake) != self._trouble:  # once, not every second
                LOG.error(  # noqa: TRY400 - a sentence, and no traceback
                    "the keys read before stay valid, because the file of keys cannot be used: %s", mistake
                )
            self._trouble = str(mistake)
            return
        self._trouble = ""
        principals = {principal for _, principal in self._principals.values()}
        LOG.info("the file of keys was read again; principals with a key: %d", len(principals))

    async def keep_looking(self) -> None:
        """Look every second, until this task is cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self.look()


def _by_digest(file: KeyFile) -> dict[str, tuple[str, Principal]]:
    principals = {entry.name: Principal(entry.name, frozenset(entry.scopes), entry.quotas) for entry in file.principals}
    return {digest: (digest, principals[entry.name]) for entry in file.principals for digest in entry.sha256}


def _version(path: Path) -> Version | None:
    """Return what changes if a file is written or replaced, also behind the links of a mounted Kubernetes secret."""
    try:
        found = os.stat(path)  # noqa: PTH116 - the path itself may be a link, and stat follows links
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size
