"""Writes image files of every kind, with Pillow, or byte by byte if Pillow cannot write them."""

import base64
import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from guards.input.schema import InputSchema
from service.front.protocols.images import stack_images

WIDTH, HEIGHT = 8, 6
RGB = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
GREY = RGB[..., 0]
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
LAB = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
SHAPES = {"L": (1, 6, 8), "RGB": (3, 6, 8), "RGBA": (4, 6, 8)}


def file_of(mode: str, kind: str, seed: int = 0, **options: Any) -> bytes:
    """Write random pixels as an image file."""
    pixels = np.random.default_rng(seed).bytes(48 * SHAPES[mode][0])
    file = io.BytesIO()
    Image.frombytes(mode, (8, 6), pixels).save(file, kind, **options)
    return file.getvalue()


def stack(file: bytes, mode: str = "RGB", shape: tuple[int, ...] | None = None) -> tuple[Any, list[Any]]:
    """Decode one file as a request does; gives rows and faults."""
    instance = {"b64": base64.b64encode(file).decode()}
    return stack_images([instance], InputSchema(kind="image", shape=shape or SHAPES[mode]))


def chunk(name: bytes, content: bytes) -> bytes:
    """Write a PNG chunk with its correct checksum."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(*extra: bytes, pixels: Any = RGB, behind: bytes = b"", **options: Any) -> bytes:
    """Write a PNG with ``extra`` chunks after its header, and the bytes ``behind`` after its end."""
    file = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(file, "PNG", **options)
    whole = file.getvalue()
    return whole[:33] + b"".join(extra) + whole[33:] + behind


def jpeg(*extra: bytes, pixels: Any = RGB, **options: Any) -> bytes:
    """Write a JPEG with ``extra`` segments at its start."""
    file = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(file, "JPEG", **{"quality": 95, **options})
    whole = file.getvalue()
    return whole[:2] + b"".join(extra) + whole[2:]


def made_png(depth: int, colour: int, lines: bytes, *, interlaced: bool = False, more: bytes = b"") -> bytes:
    """Write a PNG of any kind from its lines, each of which begins with the byte of its filter."""
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, depth, colour, 0, 0, interlaced)
    parts = [chunk(b"IHDR", header), more, chunk(b"IDAT", zlib.compress(lines)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def segment(marker: int, content: bytes) -> bytes:
    """Write a segment of a JPEG."""
    return bytes([0xFF, marker]) + (len(content) + 2).to_bytes(2) + content


def tiff(orientation: int, order: str = "<", kind: int = 3, inner: bytes = b"") -> bytes:
    """Write EXIF that names an orientation, and perhaps has an inner folder."""
    head = b"II*\0" if order == "<" else b"MM\0*"
    value = struct.pack(order + {3: "H2x", 4: "I"}[kind], orientation)
    entries = [struct.pack(f"{order}HHI", 0x0112, kind, 1) + value]
    if inner:
        entries.append(struct.pack(f"{order}HHII", 0x8769, 4, 1, 8 + 2 + 24 + 4))
    return head + struct.pack(f"{order}IH", 8, len(entries)) + b"".join(entries) + bytes(4) + inner


def exif(*arguments: Any, **options: Any) -> bytes:
    """Write EXIF as a segment of a JPEG."""
    return segment(0xE1, b"Exif\0\0" + tiff(*arguments, **options))


def adobe_rgb() -> bytes:
    """Write the inner folder of EXIF that names Adobe RGB."""
    return struct.pack("<HHHIH2xI", 1, 0xA001, 3, 1, 2, 0)


def lines_of(pixels: Any) -> bytes:
    """Write pixels as lines of a PNG without a filter."""
    return b"".join(b"\0" + row.tobytes() for row in pixels)


def profile(gamma: float = 2.2, *, primaries: Any = None, colours: bytes = b"RGB ", more: bytes = b"") -> bytes:
    """Write an ICC profile with a plain gamma."""
    primaries = primaries or [(0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410)]
    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)
    tags = [(name, curve) for name in ((b"kTRC",) if colours == b"GRAY" else (b"rTRC", b"gTRC", b"bTRC"))]
    for name, xyz in zip((b"rXYZ", b"gXYZ", b"bXYZ"), primaries, strict=True):
        tags.append((name, b"XYZ " + bytes(4) + struct.pack(">3i", *(round(65536 * number) for number in xyz))))
    if more:
        tags.append((more, bytes(32)))
    place, table, data = 128 + 4 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for name, content in tags:
        table += struct.pack(">4sII", name, place + len(data), len(content))
        data += content
    return bytes(16) + colours + b"XYZ " + bytes(104) + table + data


def icc_segments(content: bytes) -> bytes:
    """Write a profile as two segments of a JPEG, the second part first."""
    half = len(content) // 2
    parts = [b"ICC_PROFILE\0\x01\x02" + content[:half], b"ICC_PROFILE\0\x02\x02" + content[half:]]
    return segment(0xE2, parts[1]) + segment(0xE2, parts[0])


def iccp(content: bytes) -> bytes:
    """Write a profile as a chunk of a PNG."""
    return chunk(b"iCCP", b"name\0\0" + zlib.compress(content))
