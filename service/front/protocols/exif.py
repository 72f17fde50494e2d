"""Reads from EXIF and XMP what changes pixels: the orientation of an image, and whether its colours are Adobe RGB.

A block of EXIF 2.32 (CIPA DC-008) is a TIFF header and folders (IFDs) of entries of 12 bytes each.
"""

import re
import struct
from dataclasses import dataclass

__all__ = ["Exif", "orientation_of_xmp", "read_exif"]

ORIENTATION, EXIF_FOLDER, COLOUR_SPACE, INTEROPERABILITY, INDEX = 0x0112, 0x8769, 0xA001, 0xA005, 0x0001
ADOBE_RGB = 2
UPRIGHT, LAST_ORIENTATION = 1, 8
MOST_ENTRIES = 512
"""The most entries of a folder. Cameras write fewer than 100, and each entry costs time."""
INTEGERS = {1: "B", 3: "H", 4: "I"}
XMP_ORIENTATION = re.compile(rb"""tiff:Orientation\s*(?:=\s*["']|>)\s*([0-9]{1,4})""")
Folder = dict[int, tuple[int, bytes]]


@dataclass(frozen=True, slots=True)
class Exif:
    """What EXIF says about pixels; ``orientation`` is 1 to 8, or None if EXIF names no orientation."""

    orientation: int | None
    adobe_rgb: bool


def read_exif(block: memoryview) -> Exif:
    """Read a block of EXIF, with or without its leading ``Exif``.

    Raises:
        ValueError: the first folder or the orientation in it cannot be read.
    """
    block = block[6:] if bytes(block[:4]) == b"Exif" else block
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(bytes(block[:4]))
    if order is None:
        raise ValueError("no TIFF header")
    first = _folder(block, _number(block, 4, order), order)
    found = _integer(first, ORIENTATION, order)
    if found is not None and not 0 <= found <= LAST_ORIENTATION:
        raise ValueError(f"orientation {found}")
    return Exif(found or None, adobe_rgb=_adobe_rgb(block, first, order))


def _adobe_rgb(block: memoryview, first: Folder, order: str) -> bool:
    """Look for Adobe RGB in the inner folders; damaged ones, which many programs write, say nothing."""
    try:
        if (start := _integer(first, EXIF_FOLDER, order)) is None:
            return False
        inner = _folder(block, start, order)
        if _integer(inner, COLOUR_SPACE, order) == ADOBE_RGB:
            return True
        if (start := _integer(inner, INTEROPERABILITY, order)) is None:
            return False
        return _folder(block, start, order).get(INDEX, (0, b""))[1][:3] == b"R03"
    except ValueError:
        return False


def orientation_of_xmp(packet: memoryview) -> int | None:
    """Read the orientation of an XMP packet, which counts if EXIF names no orientation.

    Raises:
        ValueError: the orientation is none of 1 to 8.
    """
    found = XMP_ORIENTATION.search(packet)
    if found is None or int(found[1]) == 0:
        return None
    if not UPRIGHT <= int(found[1]) <= LAST_ORIENTATION:
        raise ValueError("orientation")
    return int(found[1])


def _folder(block: memoryview, start: int, order: str) -> Folder:
    """Read the entries of a folder: type and value by tag; a value of more than 4 bytes is given by its offset."""
    try:
        (count,) = struct.unpack_from(f"{order}H", block, start)
        if count > MOST_ENTRIES:
            raise ValueError("too many entries")
        entries = [struct.unpack_from(f"{order}HHI4s", block, start + 2 + 12 * index) for index in range(count)]
    except struct.error:
        raise ValueError("cut off") from None
    return {
        tag: (kind, value) for tag, kind, _, value in reversed(entries)
    }  # if a tag is given twice, the first counts


def _integer(folder: Folder, tag: int, order: str) -> int | None:
    if tag not in folder:
        return None
    kind, value = folder[tag]
    if kind not in INTEGERS:
        raise ValueError(f"tag {tag} is no integer")
    number: int = struct.unpack_from(order + INTEGERS[kind], value)[0]
    return number


def _number(block: memoryview, start: int, order: str) -> int:
    if len(block) < start + 4:
        raise ValueError("cut off")
    number: int = struct.unpack_from(f"{order}I", block, start)[0]
    return number
