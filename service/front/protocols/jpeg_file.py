"""Reads the segments of a JPEG file: each is used, refused, or known to change no pixel (table in docs/images.md)."""

import re
import struct
from dataclasses import dataclass, field

from service.front.protocols.icc_profile import MAX_PROFILE, is_srgb
from service.front.protocols.image_file import (
    MAX_METADATA,
    TOO_MUCH,
    ImageFile,
    UnfitImageError,
    most_parts,
    orientation_of,
)

__all__ = ["JPEG_SIGNATURE", "read_jpeg"]

JPEG_SIGNATURE = b"\xff\xd8\xff"
END, SCAN, APP0, APP1, APP2, ADOBE = 0xD9, 0xDA, 0xE0, 0xE1, 0xE2, 0xEE
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
SOUND_FRAMES = frozenset({0xC0, 0xC1, 0xC2})
"""Baseline, extended sequential and progressive frames in Huffman coding: the frames that browsers take."""
KEPT = SOUND_FRAMES | {0xC4, 0xDB, 0xDD}
"""Markers of the segments that the decoder gets: frame, Huffman tables, quantisation tables, restart interval."""
MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
"""The next marker in packed data. Markers of a restart do not count, nor does a value 0xff, which a 0 follows."""
FILLED = re.compile(rb"\xff+")
"""The first byte of a marker, which may be repeated."""
MODES = {1: "L", 3: "RGB", 4: "CMYK"}
EXIF, XMP, ICC, MULTIPLE = b"Exif\0", b"http://ns.adobe.com/xap/1.0/\0", b"ICC_PROFILE\0", b"MPF\0"
MAX_SCANS = 32
"""A progressive image has about 10 scans, and each goes over all its pixels: many scans are a bomb."""
LONGEST_NAME = len(XMP)
DAMAGED, CUT_OFF = "it is damaged: its segments do not follow each other", "it is cut off"
TOO_MANY = "it has too many segments: save it anew"


@dataclass(slots=True, eq=False)
class Segments:
    """The segments before the pixels: those kept for the decoder, and the frame, EXIF, XMP and ICC profile."""

    kept: list[memoryview] = field(default_factory=lambda: [memoryview(b"\xff\xd8")])
    frame: memoryview = field(default_factory=lambda: memoryview(b""))
    exif: list[memoryview] = field(default_factory=list)
    xmp: list[memoryview] = field(default_factory=list)
    profile: dict[int, memoryview] = field(default_factory=dict)
    profile_parts: int = 0
    metadata: int = 0
    """The bytes of the segments that are not kept."""


def read_jpeg(file: memoryview) -> ImageFile:
    """Read the segments of a JPEG.

    Raises:
        UnfitImageError: the file is damaged, or holds something that would change its pixels.
    """
    segments = Segments()
    start = _collect(file, segments)
    if len(segments.frame) < 6:  # noqa: PLR2004 - ITU T.81, B.2.2
        raise UnfitImageError("it is damaged: it has no frame")
    depth, height, width, components = struct.unpack_from(">BHHB", segments.frame)
    if depth != 8:  # noqa: PLR2004
        raise UnfitImageError(f"it has {depth} bits a sample: save it with 8")
    if not height or components not in MODES:
        raise UnfitImageError("its frame has no height, or a number of components that is none of 1, 3 and 4")
    end = _end(file, start)
    orientation, exif = orientation_of(segments.exif, segments.xmp)

    def strip() -> bytes:
        if segments.profile_parts:
            if not is_srgb(_profile(segments), grey=components == 1):
                raise UnfitImageError("its colours are not sRGB (its ICC profile): convert it to sRGB")
        elif exif.adobe_rgb:
            raise UnfitImageError("its colours are not sRGB (Adobe RGB by its EXIF): convert it to sRGB")
        return b"".join([*segments.kept, file[start:end]])

    return ImageFile("JPEG", width, height, MODES[components], orientation, strip)


def _collect(file: memoryview, segments: Segments) -> int:
    """Collect the segments before the first scan, and give the position of this scan in the file."""
    place = 2
    for _ in range(most_parts(file)):
        filled = FILLED.match(file, place)
        place = place if filled is None else filled.end() - 1
        if filled is None or place + 4 > len(file):
            raise UnfitImageError(CUT_OFF if place + 4 > len(file) else DAMAGED)
        marker = file[place + 1]
        if marker == SCAN:
            return place
        end = place + 2 + int.from_bytes(file[place + 2 : place + 4])
        if marker < 0xC0 or 0xD0 <= marker <= END or end < place + 4:  # noqa: PLR2004
            raise UnfitImageError(DAMAGED)
        if end > len(file):
            raise UnfitImageError(CUT_OFF)
        _keep(segments, marker, file[place:end])
        place = end
    raise UnfitImageError(TOO_MANY)


def _keep(segments: Segments, marker: int, whole: memoryview) -> None:
    content = whole[4:]
    start = bytes(content[:LONGEST_NAME])
    if marker in FRAMES:
        if marker not in SOUND_FRAMES:
            raise UnfitImageError("it is lossless, hierarchical or in arithmetic coding: save it as an ordinary JPEG")
        if segments.frame:
            raise UnfitImageError("it is damaged: it has two frames")
        segments.frame = content
    if (
        marker in KEPT
        or (marker == APP0 and start.startswith(b"JFIF\0"))
        or (marker == ADOBE and start.startswith(b"Adobe"))
    ):
        segments.kept.append(whole)
        return
    segments.metadata += len(whole)
    if segments.metadata > MAX_METADATA:
        raise UnfitImageError(TOO_MUCH)
    if marker == APP1 and start.startswith(EXIF):
        segments.exif.append(content)
    elif marker == APP1 and start.startswith(XMP):
        segments.xmp.append(content)
    elif marker == APP2 and start.startswith(MULTIPLE):
        raise UnfitImageError("it holds several images (MPF): send one of them as a file of its own")
    elif marker == APP2 and start.startswith(ICC) and len(content) > len(ICC) + 2:
        number, segments.profile_parts = content[len(ICC)], content[len(ICC) + 1]
        segments.profile[number] = content[len(ICC) + 2 :]


def _end(file: memoryview, start: int) -> int:
    """Find the end of the image in the file; bytes after it are no part of the image."""
    place, scans = start, 0
    for _ in range(most_parts(file)):
        found = MARKER.search(file, place)
        if found is None:
            raise UnfitImageError(CUT_OFF)
        marker = file[found.end() - 1]
        if marker == END:
            return found.end()
        scans += marker == SCAN
        if scans > MAX_SCANS:
            raise UnfitImageError(f"it has more than {MAX_SCANS} scans: save it anew")
        place = found.end() + int.from_bytes(file[found.end() : found.end() + 2])
    raise UnfitImageError(TOO_MANY)


def _profile(segments: Segments) -> bytes:
    """Join the parts of an ICC profile; empty, and so not sRGB, if a part is missing or the profile is too long."""
    whole = range(1, segments.profile_parts + 1)
    if set(segments.profile) != set(whole) or sum(map(len, segments.profile.values())) > MAX_PROFILE:
        return b""
    return b"".join(segments.profile[number] for number in whole)
