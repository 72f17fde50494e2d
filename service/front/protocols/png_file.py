"""Reads the chunks of a PNG file: each is used, refused, or known to change no pixel (table in docs/images.md)."""

import struct
import zlib
from collections.abc import Iterator
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

__all__ = ["PNG_SIGNATURE", "read_png"]

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, RGB, PALETTE = 0, 2, 3
SAMPLES = {GREY: 1, RGB: 3, PALETTE: 1, 4: 2, 6: 4}
MODES = {GREY: "L", RGB: "RGB", PALETTE: "P", 4: "LA", 6: "RGBA"}
DEPTHS = {GREY: (1, 2, 4, 8, 16), PALETTE: (1, 2, 4, 8)}
DEEP = 16
SLACK = 65_536
"""How many bytes more than twice as many as its lines the data of an image may have. Packing never doubles them."""
REFUSED = {
    b"tRNS": "it has transparency (tRNS), and what shows through is not known: save it without",
    **dict.fromkeys(
        (b"acTL", b"fcTL", b"fdAT"), "it is an animation (APNG): send one of its frames as a file of its own"
    ),
}
ONCE = frozenset({b"IHDR", b"PLTE", b"IEND", b"eXIf", b"iCCP", b"sRGB", b"gAMA", b"cHRM", b"cICP"})
SRGB_CODES = bytes([1, 13, 0, 1])
SRGB_GAMMA, SRGB_CHROMATICITIES = 0.45455, (0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
NEAR_GAMMA, NEAR_CHROMATICITY = 0.05, 0.01
"""Tolerances; libpng has the same."""
TEXTS, LONGEST_KEYWORD = frozenset({b"iTXt", b"zTXt", b"tEXt"}), 79
XMP, RAW_EXIF = b"XML:com.adobe.xmp", (b"Raw profile type exif", b"Raw profile type APP1")
NOT_SRGB = "its colours are not sRGB ({}): convert it to sRGB"
NOTHING = memoryview(b"")
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""For each pass of an interlaced image: the first column, the first row, and the steps to the next column and row."""


@dataclass(slots=True, eq=False)
class Chunks:
    """The chunks that matter: chunks that may come ``once``, by name; the compressed ``data``; the packets of XMP.

    ``metadata`` is the number of bytes in all chunks but the data.
    """

    once: dict[bytes, memoryview] = field(default_factory=dict)
    data: list[memoryview] = field(default_factory=list)
    texts: list[memoryview] = field(default_factory=list)
    metadata: int = 0


def read_png(file: memoryview) -> ImageFile:
    """Read the chunks of a PNG; only ``strip()`` of the result unpacks the pixels.

    Raises:
        UnfitImageError: the file is damaged, or holds something that would change its pixels.
    """
    chunks = _collect(file)
    header = chunks.once.get(b"IHDR", NOTHING)
    if len(header) != 13 or not chunks.data:  # noqa: PLR2004 - PNG, 11.2.2
        raise UnfitImageError("it is damaged: a PNG has one header and some data")
    width, height, depth, kind, compression, filtering, interlaced = struct.unpack(">IIBBBBB", header)
    if kind not in SAMPLES or depth not in DEPTHS.get(kind, (8, DEEP)) or compression or filtering or interlaced > 1:
        raise UnfitImageError("its header asks for what PNG does not have")
    if depth == DEEP:
        raise UnfitImageError("it has 16 bits a sample: save it with 8")
    colours = None
    if kind == PALETTE:
        colours, odd = divmod(len(chunks.once.get(b"PLTE", NOTHING)), 3)
        if odd or not 1 <= colours <= 1 << depth:
            raise UnfitImageError("it is damaged: its palette is missing, or has a wrong size")
    blocks = [chunks.once[b"eXIf"]] if b"eXIf" in chunks.once else []
    orientation, exif = orientation_of(blocks, chunks.texts)
    size = _size_of_lines(width, height, SAMPLES[kind] * depth, interlaced=bool(interlaced))
    if sum(map(len, chunks.data)) > 2 * size + SLACK:
        raise UnfitImageError("it has far more data than its pixels need: save it anew")

    def strip() -> bytes:
        _check_colours(chunks, adobe_rgb=exif.adobe_rgb, grey=kind == GREY)
        return _rebuilt(chunks, _unpacked(chunks, size))

    mode = "1" if kind == GREY and depth == 1 else MODES[kind]
    return ImageFile("PNG", width, height, mode, orientation, strip, colours)


def _collect(file: memoryview) -> Chunks:
    chunks = Chunks()
    name = b""
    most = most_parts(file)
    for number, (name, content) in enumerate(_chunks(file)):
        if number > most:
            raise UnfitImageError("it has too many chunks for its size: save it anew")
        if (number == 0) != (name == b"IHDR"):
            raise UnfitImageError("it is damaged: a PNG begins with its header, and has one")
        _keep(chunks, name, content)
        if name == b"IEND":
            break  # later bytes are no part of the image
    if name != b"IEND":
        raise UnfitImageError("it is cut off")
    return chunks


def _keep(chunks: Chunks, name: bytes, content: memoryview) -> None:
    if name != b"IDAT":
        chunks.metadata += len(content)
        if chunks.metadata > MAX_METADATA:
            raise UnfitImageError(TOO_MUCH)
    if name in REFUSED:
        raise UnfitImageError(REFUSED[name])
    if name in ONCE:
        if name in chunks.once or (name == b"PLTE" and chunks.data):
            raise UnfitImageError(f"it is damaged: its chunk {name.decode()} is there twice, or too late")
        chunks.once[name] = content
    elif name == b"IDAT":
        chunks.data.append(content)
    elif name in TEXTS:
        _keep_text(chunks, content)
    elif not name[0] & 0x20:  # a capital letter: a reader that does not know the chunk must refuse the file
        raise UnfitImageError("it has a chunk that PNG does not have, and that has to be known: save it anew")


def _chunks(file: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    place = len(PNG_SIGNATURE)
    while place + 12 <= len(file):
        length, name = struct.unpack_from(">I4s", file, place)
        end = place + 8 + length
        if end + 4 > len(file):
            break
        if not name.isalpha() or zlib.crc32(file[place + 4 : end]) != int.from_bytes(file[end : end + 4]):
            raise UnfitImageError("it is damaged: a chunk does not have its checksum")
        yield name, file[place + 8 : end]
        place = end + 4


def _keep_text(chunks: Chunks, content: memoryview) -> None:
    """Keep a packet of XMP, which may name an orientation; other texts are ignored without being unpacked.

    Raises:
        UnfitImageError: the text holds EXIF, or compressed XMP.
    """
    keyword, _, flags = bytes(content[: LONGEST_KEYWORD + 3]).partition(b"\0")
    if keyword in RAW_EXIF:
        raise UnfitImageError("its EXIF is in a text, which is not read: save it anew, or without EXIF")
    if keyword == XMP:
        if flags[:2] != b"\0\0":
            raise UnfitImageError("its XMP is compressed, which is not read: save it without")
        chunks.texts.append(content[len(XMP) + 3 :])


def _check_colours(chunks: Chunks, *, adobe_rgb: bool, grey: bool) -> None:
    """Refuse colours that are not sRGB.

    The first chunk that the file has decides, in this order: cICP, iCCP, sRGB, and gAMA with cHRM (PNG, 4.3).
    """
    once = chunks.once
    if b"cICP" in once:
        if once[b"cICP"] != SRGB_CODES:
            raise UnfitImageError(NOT_SRGB.format("cICP"))
    elif b"iCCP" in once:
        if not is_srgb(_profile(once[b"iCCP"]), grey=grey):
            raise UnfitImageError(NOT_SRGB.format("its ICC profile"))
    elif b"sRGB" not in once:
        if b"gAMA" in once and not _near(once[b"gAMA"], (SRGB_GAMMA,), NEAR_GAMMA * SRGB_GAMMA):
            raise UnfitImageError(NOT_SRGB.format("gAMA"))
        if b"cHRM" in once and not grey and not _near(once[b"cHRM"], SRGB_CHROMATICITIES, NEAR_CHROMATICITY):
            raise UnfitImageError(NOT_SRGB.format("cHRM"))
        if adobe_rgb:
            raise UnfitImageError(NOT_SRGB.format("Adobe RGB by its EXIF"))


def _profile(chunk: memoryview) -> bytes:
    """Unpack a profile, but no more bytes than a profile may have; empty, and so not sRGB, if its chunk is too long."""
    name, _, _ = bytes(chunk[: LONGEST_KEYWORD + 1]).partition(b"\0")
    if len(chunk) > MAX_PROFILE + SLACK:
        return b""
    try:
        return zlib.decompressobj().decompress(chunk[len(name) + 2 :], MAX_PROFILE + 1)
    except zlib.error:
        raise UnfitImageError("it is damaged: its ICC profile cannot be unpacked") from None


def _near(content: memoryview, wanted: tuple[float, ...], tolerance: float) -> bool:
    if len(content) != 4 * len(wanted):
        return False
    found = struct.unpack(f">{len(wanted)}I", content)
    return all(abs(value / 100_000 - number) <= tolerance for value, number in zip(found, wanted, strict=True))


def _size_of_lines(width: int, height: int, bits: int, *, interlaced: bool) -> int:
    """Count the bytes of all lines; a byte for the filter begins each line, and a pixel has ``bits`` bits."""
    if not interlaced:
        return height * (1 + (width * bits + 7) // 8)
    passes = [((width - x + dx - 1) // dx, (height - y + dy - 1) // dy) for x, y, dx, dy in ADAM7]
    return sum(rows * (1 + (columns * bits + 7) // 8) for columns, rows in passes if columns and rows)


def _unpacked(chunks: Chunks, size: int) -> bytes:
    """Unpack as many bytes as the header promises, and no more.

    If lines are missing, the file is refused: Pillow would leave the missing lines black.
    """
    unpacker = zlib.decompressobj()
    try:
        lines = unpacker.decompress(b"".join(chunks.data), size)
        unpacker.decompress(unpacker.unconsumed_tail, 1)  # reads on to the checksum, if it comes next
    except zlib.error:
        raise UnfitImageError("it is damaged: its pixels cannot be unpacked") from None
    if len(lines) < size:
        raise UnfitImageError("it is cut off: it has fewer pixels than its header says")
    return lines


def _rebuilt(chunks: Chunks, lines: bytes) -> bytes:
    """Write a PNG of the header, the palette and the lines alone; the lines are not compressed again."""
    parts: list[tuple[bytes, bytes | memoryview]] = [(b"IHDR", chunks.once[b"IHDR"])]
    if chunks.once[b"IHDR"][9] == PALETTE:
        parts.append((b"PLTE", chunks.once[b"PLTE"]))
    parts += [(b"IDAT", zlib.compress(lines, 0)), (b"IEND", b"")]
    pieces: list[bytes | memoryview] = [PNG_SIGNATURE]
    for name, content in parts:
        pieces += [struct.pack(">I4s", len(content), name), content]
        pieces.append(zlib.crc32(content, zlib.crc32(name)).to_bytes(4))
    return b"".join(pieces)
