"""Metric families as plain data, in which the engine sends them to a front and keeps them in a file."""

import logging
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, TypedDict

import orjson

__all__ = ["FamiliesFile", "Family", "Sample", "number", "sample"]

LOG = logging.getLogger("guardhouse")
Sample = tuple[Sequence[str], float | str]
"""The label values and the value. JSON has no NaN and no infinity, so these values are sent as strings."""


class Family(TypedDict):
    """One family; ``name`` has neither the prefix of this server's metrics nor the suffix ``_total``."""

    name: str
    help: str
    kind: Literal["counter", "gauge"]
    labels: Sequence[str]
    samples: list[Sample]


def sample(labels: Iterable[str], value: float) -> Sample:
    """Write a sample."""
    value = float(value)
    return list(labels), value if math.isfinite(value) else repr(value)


def number(value: float | str) -> float:
    """Read the value of a sample."""
    return float(value)


class FamiliesFile:
    """The file with the families that the engine gave last; it stays when the engine ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._failing = False

    def write(self, encoded: bytes) -> None:
        """Replace the whole file. If that fails, the old file stays, and one log line says so."""
        temporary = self._path.with_suffix(".tmp")
        try:
            temporary.write_bytes(encoded)
            temporary.replace(self._path)
        except OSError as refused:
            if not self._failing:
                LOG.warning("%s: the last metrics cannot be kept for a restart: %s", self._path, refused.strerror)
            self._failing = True
        else:
            self._failing = False

    def read(self) -> list[Family] | None:
        """Give the last families; None if the engine has given none since the server was started."""
        try:
            families: list[Family] = orjson.loads(self._path.read_bytes())
        except FileNotFoundError:
            return None
        return families

    def counters(self) -> dict[tuple[str, ...], float]:
        """Give the last value of every counter in the file, by its name and its label values."""
        return {
            (family["name"], *labels): number(value)
            for family in self.read() or ()
            if family["kind"] == "counter"
            for labels, value in family["samples"]
        }
