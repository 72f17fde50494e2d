"""The file that ``GUARDHOUSE_API_KEYS_FILE`` names: principals with their scopes and the SHA-256 of their keys.

The file never holds a key. A key is random, so its SHA-256 needs no salt and no slow hash: nobody can try 2^256 keys.
"""

import hashlib
import os
import secrets
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Self

import yaml
from pydantic import Field, ValidationError, model_validator

from guards.config.base import Section
from guards.errors import Mistake
from service.keys.principal import Scope
from service.quotas.quota import Quotas

__all__ = ["KeyFile", "PrincipalEntry", "add_key", "digest_of", "read_keys"]

MARK = "guardhouse-"
"""How every key begins, so that scanners for leaked secrets can find keys."""
RANDOM_BYTES = 32
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
MOST_BYTES = 1 << 20
PRIVATE = 0o600


class PrincipalEntry(Section):
    """One principal of the file. Two keys at once let a caller change its key while the server runs."""

    name: Annotated[str, Field(pattern=NAME)]
    scopes: Annotated[tuple[Scope, ...], Field(min_length=1)]
    sha256: Annotated[tuple[Annotated[str, Field(pattern="^[0-9a-f]{64}$")], ...], Field(max_length=16)]
    quotas: Quotas | None = None


class KeyFile(Section):
    """The whole file."""

    principals: Annotated[tuple[PrincipalEntry, ...], Field(max_length=10_000)] = ()

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        names = [entry.name for entry in self.principals]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"the principal {min(twice)} is named twice")
        digests = [digest for entry in self.principals for digest in entry.sha256]
        if len(set(digests)) < len(digests):
            raise ValueError("one key stands at two places, so the server could not tell whose key it is")
        return self


def digest_of(key: bytes) -> str:
    """Return the SHA-256 of a key, as the file holds it."""
    return hashlib.sha256(key).hexdigest()


def read_keys(path: Path) -> KeyFile:
    """Read a file of keys.

    Raises:
        Mistake: the file cannot be read, is too large, is no YAML, or an entry is wrong. The message quotes no value,
            because somebody may have written a key where its SHA-256 belongs.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as unreadable:
        raise Mistake(f"{path}: the file of keys cannot be read ({unreadable.strerror})") from None
    if len(content) > MOST_BYTES:
        raise Mistake(f"{path}: a file of keys may have {MOST_BYTES} bytes")
    try:
        document = yaml.load(content, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - safe loaders
    except (yaml.YAMLError, ValueError) as broken:
        mark = getattr(broken, "problem_mark", None)
        raise Mistake(f"{path}{f':{mark.line + 1}' if mark else ''}: no valid YAML") from None
    try:
        return KeyFile.model_validate({} if document is None else document)
    except ValidationError as wrong:
        faults = wrong.errors(include_url=False, include_input=False)
        raise Mistake(
            *(f"{path}: {'.'.join(map(str, fault['loc'])) or 'the file'}: {_sentence(fault)}" for fault in faults[:20])
        ) from None


def _sentence(fault: object) -> str:
    assert isinstance(fault, dict)  # noqa: S101 - pydantic's own form
    if fault["type"] == "string_pattern_mismatch" and "sha256" in fault["loc"]:
        return "expected 64 hexadecimal digits in lower case, the SHA-256 of a key; `guardhouse keys new` writes them"
    return str(fault["msg"]).removeprefix("Value error, ")


def add_key(path: Path, name: str, scopes: Sequence[Scope]) -> str:
    """Make a key for a principal, write the key's SHA-256 into the file, and return the key.

    A principal that is in the file already keeps its other keys and its quotas, and gets these scopes. The file is
    replaced in one step, so that a server never reads half of it, and only its owner may read it.

    Raises:
        Mistake: the file cannot be read or written, or the name or a scope is wrong.
    """
    file = read_keys(path) if path.exists() else KeyFile()
    key = MARK + secrets.token_urlsafe(RANDOM_BYTES)
    known = next((entry for entry in file.principals if entry.name == name), None)
    kept = () if known is None else known.sha256
    try:
        quotas = None if known is None else known.quotas
        digests = (*kept, digest_of(key.encode()))
        entry = PrincipalEntry(name=name, scopes=tuple(scopes), sha256=digests, quotas=quotas)
    except ValidationError as wrong:
        fault = wrong.errors(include_url=False, include_input=False)[0]
        what = "has 16 keys already; delete old keys from the file" if fault["loc"] == ("sha256",) else fault["msg"]
        raise Mistake(f"the principal {name!r}: {what}") from None
    others = [each for each in file.principals if each.name != name]
    _replace(path, KeyFile(principals=(*others, entry)))
    return key


def _replace(path: Path, file: KeyFile) -> None:
    text = yaml.safe_dump(file.model_dump(mode="json", exclude_none=True), sort_keys=False)
    temporary = ""
    try:
        mode = path.stat().st_mode & 0o777 if path.exists() else PRIVATE
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(descriptor, "w", encoding="utf-8") as out:
            os.fchmod(out.fileno(), mode)
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        os.replace(temporary, path)  # noqa: PTH105 - the path of a temporary file is text
    except OSError as failed:
        if temporary:
            with suppress(OSError):
                Path(temporary).unlink()
        raise Mistake(f"{path}: the file of keys cannot be written ({failed.strerror})") from None
