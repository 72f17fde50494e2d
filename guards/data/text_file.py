"""Reads the text of a file: the file's name tells how to decompress it, and its first bytes how to decode it."""

import bz2
import codecs
import gzip
import io
import lzma
import zipfile
import zlib
from pathlib import Path

import pyarrow as pa

from guards.notices import Notices
from guards.sentences import first_line
from guards.types import Mistake

__all__ = ["read_text"]

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


def read_text(path: Path, notices: Notices) -> str:
    """Read a text file. .gz, .bz2, .xz, .zst and .zip are decompressed; a byte order mark tells the encoding.

    Raises:
        Mistake: the file cannot be read or decompressed, is no text, or has no mark and is not in UTF-8.
    """
    try:
        raw = _decompressed(path)
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError, zipfile.BadZipFile) as broken:
        reason = first_line(broken, "damaged")
        raise Mistake(f"{path}: cannot be read as a table: {reason}") from broken
    for start, name, advice in FORMATS:
        if raw.startswith(start):
            raise Mistake(f"{path}: cannot be read as a table: the content is {name}; {advice}")
    mark = next((mark for mark in MARKS if raw.startswith(mark[0])), None)
    if mark is not None and mark[2] != "UTF-8":
        notices.note(f"{path}: the text is read as {mark[2]}, as the mark at its beginning says")
    try:
        text = raw.decode("utf-8" if mark is None else mark[1])
    except UnicodeDecodeError as undecodable:
        raise _not_decoded(path, raw, undecodable) from None
    if "\0" in text:
        line = _line_of(text, text.index("\0"))
        raise Mistake(
            f"{path}, line {line}: cannot be read as a table: the line holds a NUL character; if the file is UTF-16, "
            "save it as UTF-8, else delete the character"
        )
    return text


def _decompressed(path: Path) -> bytes:
    raw = path.read_bytes()
    match path.suffix.lower():
        case ".gz":
            return gzip.decompress(raw)
        case ".bz2":
            return bz2.decompress(raw)
        case ".xz":
            return lzma.decompress(raw)
        case ".zst":
            with pa.CompressedInputStream(pa.py_buffer(raw), "zstd") as stream:
                return bytes(stream.read())
        case ".zip":
            with zipfile.ZipFile(io.BytesIO(raw)) as archive:
                names = [name for name in archive.namelist() if not name.endswith("/") and "__MACOSX" not in name]
                if len(names) != 1:
                    raise ValueError(f"the archive holds {len(names)} files: {sorted(names)}; it must hold one file")
                return archive.read(names[0])
    return raw


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
