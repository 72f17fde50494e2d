"""Reads the lines of a text file: the file's name tells how to decompress it, and its first bytes how to decode it."""

import bz2
import codecs
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from guards.notices import Notices
from guards.sentences import first_line
from guards.types import Mistake

__all__ = ["TextFile"]

MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig", "UTF-8"),
    (codecs.BOM_UTF32_LE, "utf-32", "UTF-32"),  # before UTF-16, whose mark is the beginning of this mark
    (codecs.BOM_UTF32_BE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF16_LE, "utf-16", "UTF-16"),
    (codecs.BOM_UTF16_BE, "utf-16", "UTF-16"),
)
WEB_PAGE = "download the file itself, since a site may send such a page to who has to sign in"
FORMATS = (
    (b"\x1f\x8b", "gzip", "give the file a name that ends in .gz"),
    (b"BZh", "bzip2", "give the file a name that ends in .bz2"),
    (b"\xfd7zXZ\x00", "xz", "give the file a name that ends in .xz"),
    (b"\x28\xb5\x2f\xfd", "Zstandard", "give the file a name that ends in .zst"),
    (b"PK\x03\x04", "a zip archive or an Excel workbook", "save the table as CSV or Parquet"),
    (b"PAR1", "Parquet", "give the file a name that ends in .parquet"),
    (b"ARROW1", "Arrow", "give the file a name that ends in .feather"),
    (b"\x93NUMPY", "a NumPy array", "save the arrays with numpy.savez, under a name that ends in .npz"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook", "save the table as CSV or Parquet"),
    (b"\x80\x04", "a Python pickle", "save the table as CSV or Parquet"),
    (b"\x80\x05", "a Python pickle", "save the table as CSV or Parquet"),
    *((start, "a web page", WEB_PAGE) for start in (b"<!DOCTYPE", b"<!doctype", b"<html", b"<HTML")),
    (b"SQLite format 3", "an SQLite database", "save the table as CSV or Parquet"),
)
"""How files that are not texts begin, and what a user can do with such a file."""

LINE = 80
SAMPLE = 4096


class TextFile:
    """A text file that may be read more than once, line by line.

    .gz, .bz2, .xz, .zst and .zip are decompressed; a byte order mark tells the encoding, which is else UTF-8.
    """

    def __init__(self, path: Path, notices: Notices) -> None:
        """Look at the first bytes.

        Raises:
            Mistake: the file cannot be opened or decompressed, or is no text.
        """
        self.path = path
        with self._sentences(), self._opened() as stream:
            start = stream.read(max(len(mark) for mark, *_ in FORMATS))
        for bytes_, name, advice in FORMATS:
            if start.startswith(bytes_):
                raise Mistake(f"{path}: cannot be read as a table: the content is {name}; {advice}")
        mark = next((mark for mark in MARKS if start.startswith(mark[0])), None)
        if mark is not None and mark[2] != "UTF-8":
            notices.note(f"{path}: the text is read as {mark[2]}, as the mark at its beginning says")
        self._encoding = "utf-8" if mark is None else mark[1]

    def beginning(self, characters: int) -> str:
        """Read the first characters."""
        with self._sentences(), self._text() as text:
            return text.read(characters)

    def lines(self) -> Iterator[str]:
        """Read the lines, each with its own line break.

        Raises:
            Mistake: the file cannot be decompressed or decoded, or a line holds a NUL character.
        """
        with self._sentences(), self._text() as text:
            for number, line in enumerate(text, 1):
                if "\0" in line:
                    raise Mistake(
                        f"{self.path}, line {number}: cannot be read as a table: the line holds a NUL character; if "
                        "the file is UTF-16, save it as UTF-8, else delete the character"
                    )
                yield line

    @contextmanager
    def _text(self) -> Iterator[io.TextIOWrapper]:
        with self._opened() as stream, io.TextIOWrapper(stream, encoding=self._encoding, newline="") as text:
            yield text

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        match self.path.suffix.lower():
            case ".gz":
                with gzip.open(self.path) as stream:
                    yield stream
            case ".bz2":
                with bz2.open(self.path) as stream:
                    yield stream
            case ".xz":
                with lzma.open(self.path) as stream:
                    yield stream
            case ".zst":
                with pa.input_stream(str(self.path), compression="zstd") as stream:
                    yield stream
            case ".zip":
                with zipfile.ZipFile(self.path) as archive, archive.open(_only_name(archive)) as stream:
                    yield stream
            case _:
                with self.path.open("rb") as stream:
                    yield stream

    @contextmanager
    def _sentences(self) -> Iterator[None]:
        try:
            yield
        except UnicodeDecodeError:
            raise self._not_decoded() from None
        except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError, zipfile.BadZipFile) as broken:
            reason = first_line(broken, "damaged")
            raise Mistake(f"{self.path}: cannot be read as a table: {reason}") from broken

    def _not_decoded(self) -> Mistake:
        """Say which line cannot be decoded; the caller knows that there is such a line."""
        with self._opened() as stream:
            raw = stream.read()
        try:
            raw.decode(self._encoding)
        except UnicodeDecodeError as undecodable:
            return _not_decoded(self.path, raw, undecodable)
        raise AssertionError("the text can be decoded")


def _only_name(archive: zipfile.ZipFile) -> str:
    names = [name for name in archive.namelist() if not name.endswith("/") and "__MACOSX" not in name]
    if len(names) != 1:
        raise ValueError(f"the archive holds {len(names)} files: {sorted(names)}; it must hold one file")
    return names[0]


def _not_decoded(path: Path, raw: bytes, error: UnicodeDecodeError) -> Mistake:
    if b"\0" in raw[:SAMPLE]:
        return Mistake(f"{path}: cannot be read as a table: the content is no text; save the table as CSV or Parquet")
    start = max(raw.rfind(b"\n", 0, error.start), raw.rfind(b"\r", 0, error.start)) + 1
    line = _line_of(raw[: error.start].decode("latin-1"), error.start)
    shown = raw[start : start + LINE].splitlines()[0].decode("cp1252", errors="replace")
    return Mistake(
        f"{path}, line {line}: cannot be read as a table: the byte 0x{raw[error.start]:02X} is not "
        f"{error.encoding.upper().removesuffix('-SIG')}; read as Windows-1252 the line begins {shown!r}: "
        f"if that is right, save the file as UTF-8 (iconv -f WINDOWS-1252 -t UTF-8)"
    )


def _line_of(text: str, position: int) -> int:
    """Count the lines up to a position, from 1; a line ends with LF, CR LF or CR."""
    before = text[:position]
    return before.count("\n") + before.count("\r") - before.count("\r\n") + 1
