"""The manifest of a bundle: its schema, how it is written, and what is refused when it is read."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, StringConstraints, ValidationError, model_validator

from guards.bundle.folder import (
    MANIFEST,
    PROGRAM,
    SOURCE,
    STATE,
    WEIGHTS,
    foreign_name,
    odd_entry,
    seal,
    sealed,
)
from guards.config.config import Config, parse
from guards.input.schema import InputSchema
from guards.model.outputs import Meaning
from guards.types import Mistake
from guards.version import __version__

__all__ = ["FORMAT", "Manifest", "read_manifest", "write_manifest"]

FORMAT = 2
"""Raised with every change after which older bundles would be misread: also if fitted buffers keep their names and get
another meaning."""
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class Manifest(BaseModel):
    """What a bundle says of itself. ``sha256`` has the hash of every other file of the folder, by the file's name.

    ``classes`` are the labels in logit order, ``outputs`` is the number of the model's outputs, ``meaning`` says what
    the outputs are, and ``self_test`` describes the machine on which the self-test was recorded.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    digest: str
    format: int
    versions: Mapping[str, str]
    config: Config
    row_schema: InputSchema = Field(alias="schema")
    classes: tuple[str, ...]
    outputs: int = Field(ge=1)
    meaning: Meaning
    temperature: float = Field(gt=0, allow_inf_nan=False)
    cause_names: Mapping[str, tuple[str, ...]]
    self_test: str | None
    sha256: Mapping[str, Sha256]
    _id: str = PrivateAttr("")

    @property
    def id(self) -> str:
        """The bundle's id: ``sha256:`` and the hash of the manifest, which has the hashes of all other files."""
        return self._id

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        if (name := foreign_name(self.sha256)) is not None:
            raise ValueError(f"sha256: {name!r} is no file of a bundle")
        needed = {STATE, WEIGHTS if self.config.model.program is None else PROGRAM}
        if self.sha256.keys() - {SOURCE} != needed:
            raise ValueError(f"sha256: it must name {' and '.join(sorted(needed))}")
        if self.config.model.classes is not None and tuple(self.config.model.classes) != self.classes:
            raise ValueError("classes: the labels differ from model.classes of the config")
        return self


def read_manifest(path: Path, *, bundle_id: str | None = None, verify: bool = True) -> Manifest:
    """Read the manifest of the bundle in the folder ``path``.

    ``bundle_id`` is the only id that is accepted, if it is given. ``verify`` also looks through the folder, and
    compares the hash of every file with the manifest.

    Raises:
        Mistake: there is no bundle, the bundle is another or of another version, a file was changed, is missing, is a
            link or is not named, or this user may not read a file.
    """
    file = path / MANIFEST
    try:
        content = _content(path)
        found = f"sha256:{hashlib.sha256(content).hexdigest()}"
        if bundle_id is not None and bundle_id != found:
            raise Mistake(
                f"{path}: the id of this bundle is {found}, and the bundle id that was asked for is {bundle_id}; name "
                "the folder of that bundle, or ask for this one"
            )
        manifest = _parsed(file, content)
        manifest._id = found  # noqa: SLF001 - the id is of the file's bytes, which the model does not have
        if verify:
            _verify(path, manifest.sha256)
    except OSError as refused:
        raise Mistake(
            f"{refused.filename or path}: it cannot be read ({refused.strerror}); "
            "make it readable for the user of this process"
        ) from refused
    return manifest


def _content(path: Path) -> bytes:
    file = path / MANIFEST
    if file.is_symlink():
        raise Mistake(f"{file}: it is a link or no file; put the file itself there")
    if not file.is_file():
        raise Mistake(f"{path}: no bundle there; make one with `guardhouse fit CONFIG --out {path}`")
    return file.read_bytes()


def _parsed(file: Path, content: bytes) -> Manifest:
    try:
        document: dict[str, Any] = json.loads(content)
        written_as, config = document["format"], document["config"]
    except (ValueError, KeyError, TypeError, RecursionError) as broken:
        raise Mistake(f"{file}: it cannot be read; fit the bundle anew") from broken
    if written_as != FORMAT:
        raise Mistake(
            f"{file}: it was written by another version of Guardhouse (format {written_as!r:.20}, and this version "
            f"reads format {FORMAT}); fit the bundle anew"
        )
    if not sealed(content):
        raise Mistake(f"{file}: it is not the manifest that was fitted (its digest differs); copy the bundle anew")
    try:
        parse(config)
    except Mistake as unfit:  # parse has better sentences for the config than the schema below
        way_out = "install the plug-ins that the bundle was fitted with, or fit the bundle anew"
        raise Mistake(*(f"{file}: {sentence}; {way_out}" for sentence in unfit.sentences)) from unfit
    try:
        return Manifest.model_validate_json(content)
    except ValidationError as invalid:
        faults = [(".".join(map(str, error["loc"])), error["msg"]) for error in invalid.errors(include_url=False)]
        raise Mistake(
            *(
                f"{file}: {place + ': ' if place else ''}{message.removeprefix('Value error, ')}; fit the bundle anew"
                for place, message in faults
            )
        ) from None


def _verify(path: Path, sha256: Mapping[str, str]) -> None:
    for name in sha256:
        if not (path / name).is_file():
            raise Mistake(f"{path / name}: the file is missing; fit or copy the bundle anew")
    if (sentence := odd_entry(path, sha256)) is not None:
        raise Mistake(sentence)
    for name, digest in sha256.items():
        if _sha256_of(path / name) != digest:
            raise Mistake(f"{path / name}: it is not the file that was fitted (sha256 differs); copy the bundle anew")


def write_manifest(path: Path, **members: object) -> Manifest:
    """Write the manifest of a folder that holds all other files of the bundle already, and read the manifest back.

    Raises:
        Mistake: the manifest could not be read again.
    """
    content = seal(
        {
            "format": FORMAT,
            "versions": {"guardhouse": __version__, "torch": torch.__version__},
            **members,
            "sha256": {file.name: _sha256_of(file) for file in sorted(path.iterdir())},
        }
    )
    (path / MANIFEST).write_bytes(content)
    return read_manifest(path, verify=False)


def _sha256_of(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
