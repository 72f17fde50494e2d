"""The metadata of image files: one test for each row of the table in docs/images.md."""

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from image_files import (
    GREY,
    HEIGHT,
    LAB,
    RGB,
    SRGB,
    WIDTH,
    adobe_rgb,
    chunk,
    exif,
    icc_segments,
    iccp,
    jpeg,
    lines_of,
    made_png,
    png,
    profile,
    segment,
    stack,
    tiff,
)  # fmt: skip
from PIL import Image, ImageOps

XMP = b'<x:xmpmeta><rdf:Description tiff:Orientation="%d"/></x:xmpmeta>'
P3 = [(0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407)]


def itxt(text: bytes, *, compressed: bool = False) -> bytes:
    """Write XMP as a chunk."""
    body = zlib.compress(text) if compressed else text
    return chunk(b"iTXt", b"XML:com.adobe.xmp\0" + bytes([compressed, 0]) + b"\0\0" + body)


def pixels_of(x: Any) -> Any:
    """Turn rows of the model back into bytes (height, width, channels)."""
    return np.rint(x[0].transpose(1, 2, 0) * 255).astype(np.uint8)


def decoded(file: bytes) -> Any:
    """Decode with Pillow alone, whatever the metadata say."""
    with Image.open(io.BytesIO(file)) as image:
        return np.asarray(image.convert("RGB"))


PLAIN_JPEG, PLAIN_GREY_JPEG = jpeg(), jpeg(pixels=GREY)
SIDEWAYS = [5, 6, 7, 8]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    "write",
    [
        lambda o: jpeg(exif(o)),
        lambda o: jpeg(exif(o, ">", 4)),
        lambda o: png(chunk(b"eXIf", tiff(o))),
        lambda o: png(chunk(b"eXIf", b"Exif\0\0" + tiff(o, ">"))),
        lambda o: jpeg(segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP % o)),
        lambda o: png(itxt(XMP % o)),
    ],
    ids=["JPEG", "JPEG, big-endian", "PNG", "PNG with a prefix", "JPEG's XMP", "PNG's XMP"],
)
def test_pixels_are_turned_as_the_metadata_say(write: Callable[[int], bytes], orientation: int) -> None:
    """Each of the eight orientations gives the pixels that Pillow's own `exif_transpose` gives."""
    file = write(orientation)
    image = Image.fromarray(decoded(file))
    block = Image.Exif()
    block[0x0112] = orientation
    image.info["exif"] = block.tobytes()
    wanted = np.asarray(ImageOps.exif_transpose(image))
    shape = (3, *wanted.shape[:2])
    x, faults = stack(file, shape=shape)
    assert not faults
    assert np.array_equal(pixels_of(x), wanted)
    if orientation in SIDEWAYS:
        _, (fault,) = stack(file)
        assert "expected 8 x 6 pixels with 3 channels, got 6 x 8 pixels, turned as its metadata say" in fault.message


def test_exif_goes_before_xmp() -> None:
    """If EXIF and XMP name different orientations, EXIF's counts; XMP's counts if EXIF names none."""
    packet = segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP % 3)
    for first, flipped in ((1, False), (0, True)):
        file = jpeg(exif(first), packet)
        wanted = decoded(PLAIN_JPEG)[::-1, ::-1] if flipped else decoded(PLAIN_JPEG)
        assert np.array_equal(pixels_of(stack(file)[0]), wanted)


HALF_PNG = made_png(8, 2, lines_of(RGB[:3]))
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
INTERLACED = made_png(
    8, 2, b"".join(lines_of(RGB[y::dy, x::dx]) for x, y, dx, dy in ADAM7 if y < HEIGHT and x < WIDTH), interlaced=True
)
PALETTE = chunk(b"PLTE", bytes(range(48)))
INDICES = (GREY % 16).astype(np.uint8)
SCANS = PLAIN_JPEG.index(b"\xff\xda")

SAME_PIXELS: dict[str, tuple[bytes, Any]] = {
    "sRGB chunk": (png(chunk(b"sRGB", b"\0")), RGB),
    "gAMA of sRGB": (png(chunk(b"gAMA", struct.pack(">I", 45455))), RGB),
    "gAMA of a linear image that is overruled by sRGB": (
        png(chunk(b"sRGB", b"\0"), chunk(b"gAMA", struct.pack(">I", 100000))), RGB,
    ),
    "cHRM of sRGB": (
        png(chunk(b"cHRM", struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000))), RGB,
    ),
    "cICP of sRGB": (png(chunk(b"cICP", bytes([1, 13, 0, 1]))), RGB),
    "sRGB's ICC profile in a PNG": (png(icc_profile=SRGB), RGB),
    "sRGB's ICC profile in a JPEG": (jpeg(icc_profile=SRGB), decoded(PLAIN_JPEG)),
    "an ICC profile in parts": (jpeg(icc_segments(profile())), decoded(PLAIN_JPEG)),
    "an ICC profile of a plain gamma": (png(iccp(profile(2.2))), RGB),
    "density": (png(chunk(b"pHYs", struct.pack(">IIB", 1, 5, 0))), RGB),
    "density of a JPEG": (jpeg(dpi=(10, 70)), decoded(PLAIN_JPEG)),
    "texts, times, significant bits, a background": (
        png(chunk(b"tEXt", b"Title\0a"), chunk(b"tIME", bytes(7)), chunk(b"sBIT", b"\5\5\5"), chunk(b"bKGD", bytes(6))),
        RGB,
    ),
    "a chunk that nobody knows and that may be passed over": (png(chunk(b"voId", b"x")), RGB),
    "a palette that is only proposed": (png(chunk(b"PLTE", bytes(30))), RGB),
    "interlaced": (INTERLACED, RGB),
    "data behind the end of a PNG": (png(behind=b"PK\3\4 and more"), RGB),
    "data behind the end of a JPEG": (PLAIN_JPEG + PLAIN_GREY_JPEG, decoded(PLAIN_JPEG)),
    "1 bit": (made_png(1, 0, b"".join(b"\0" + bytes([row]) for row in (0, 255, 170, 1, 128, 15))),
              np.unpackbits(np.array([[0], [255], [170], [1], [128], [15]], dtype=np.uint8), axis=1)[..., None] * 255),
    "2 bits": (made_png(2, 0, (b"\0" + bytes([0b00011011, 0])) * HEIGHT),
               np.array([[0, 85, 170, 255, 0, 0, 0, 0]] * HEIGHT, dtype=np.uint8)[..., None]),
    "4 bits": (made_png(4, 0, (b"\0" + bytes([0x01, 0xEF, 0, 0])) * HEIGHT),
               np.array([[0, 17, 238, 255, 0, 0, 0, 0]] * HEIGHT, dtype=np.uint8)[..., None]),
    "a palette": (made_png(8, 3, lines_of(INDICES), more=PALETTE),
                  np.arange(48, dtype=np.uint8).reshape(16, 3)[INDICES]),
    "a progressive JPEG": (jpeg(progressive=True), decoded(jpeg(progressive=True))),
    "a grey JPEG": (PLAIN_GREY_JPEG, None),
    "restart markers": (jpeg(restart_marker_blocks=1), decoded(PLAIN_JPEG)),
    "a thumbnail and a comment in a JPEG": (
        jpeg(segment(0xE0, b"JFXX\0\x10" + PLAIN_GREY_JPEG), segment(0xFE, b"hello")), decoded(PLAIN_JPEG),
    ),
    "filling between segments": (PLAIN_JPEG[:2] + b"\xff\xff" + PLAIN_JPEG[2:], decoded(PLAIN_JPEG)),
    "RGB in a JPEG, as Adobe marks it": (jpeg(keep_rgb=True), decoded(jpeg(keep_rgb=True))),
}  # fmt: skip


@pytest.mark.parametrize("name", SAME_PIXELS)
def test_pixels_are_what_they_were(name: str) -> None:
    """The chunks that the table in docs/images.md calls harmless leave the pixels unchanged."""
    file, wanted = SAME_PIXELS[name]
    if wanted is None:
        wanted = decoded(file)[..., :1]
    x, faults = stack(file, shape=(wanted.shape[2], HEIGHT, WIDTH))
    assert not faults, faults
    assert np.array_equal(pixels_of(x), wanted)


def with_transparency(mode: str) -> bytes:
    """Write an opaque mode with transparency beside it."""
    content = {"L": bytes(2), "RGB": bytes(6), "P": bytes([0, 255])}[mode]
    if mode == "P":
        return made_png(8, 3, lines_of(INDICES), more=PALETTE + chunk(b"tRNS", content))
    return png(chunk(b"tRNS", content), pixels=GREY if mode == "L" else RGB)


def animated(kind: str) -> bytes:
    """Write two frames."""
    file = io.BytesIO()
    first, second = Image.fromarray(RGB), Image.fromarray(RGB[::-1].copy())
    first.save(file, kind, save_all=True, append_images=[second])
    return file.getvalue()


REFUSED: dict[str, tuple[bytes, str, str]] = {
    "EXIF without an end": (jpeg(segment(0xE1, b"Exif\0\0II*\0\xff\xff")), "RGB", "EXIF or XMP cannot be read"),
    "an orientation that is none": (png(chunk(b"eXIf", tiff(9))), "RGB", "EXIF or XMP cannot be read"),
    "an orientation of XMP that is none": (png(itxt(XMP % 12)), "RGB", "EXIF or XMP cannot be read"),
    "XMP that is compressed": (png(itxt(XMP % 6, compressed=True)), "RGB", "XMP is compressed"),
    "EXIF in a text": (png(chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(b"\n"))), "RGB", "in a text"),
    "two blocks of EXIF in a PNG": (png(chunk(b"eXIf", tiff(1)) * 2), "RGB", "twice"),
    "an ICC profile of other primaries": (png(iccp(profile(primaries=P3))), "RGB", "not sRGB (its ICC profile)"),
    "an ICC profile of another gamma": (png(iccp(profile(1.8))), "RGB", "not sRGB (its ICC profile)"),
    "an ICC profile with tables": (png(iccp(profile(more=b"A2B0"))), "RGB", "not sRGB (its ICC profile)"),
    "an ICC profile of another gamma in a JPEG": (jpeg(icc_segments(profile(1.8))), "RGB", "its ICC profile"),
    "half of an ICC profile": (jpeg(segment(0xE2, b"ICC_PROFILE\0\x01\x02" + profile())), "RGB", "its ICC profile"),
    "an ICC profile of other colours": (jpeg(icc_profile=LAB), "RGB", "its ICC profile"),
    "an ICC profile of RGB on grey": (png(iccp(profile()), pixels=GREY), "L", "its ICC profile"),
    "an ICC profile of a grey dot gain": (
        png(iccp(profile(1.75, colours=b"GRAY")), pixels=GREY), "L", "its ICC profile",
    ),
    "an ICC profile that unpacks without end": (png(iccp(bytes(10**8))), "RGB", "its ICC profile"),
    "an ICC profile that cannot be unpacked": (png(chunk(b"iCCP", b"n\0\0abc")), "RGB", "cannot be unpacked"),
    "Adobe RGB by EXIF": (jpeg(exif(1, inner=adobe_rgb())), "RGB", "Adobe RGB"),
    "Adobe RGB by EXIF in a PNG": (png(chunk(b"eXIf", tiff(1, inner=adobe_rgb()))), "RGB", "Adobe RGB"),
    "linear light": (png(chunk(b"gAMA", struct.pack(">I", 100000))), "RGB", "not sRGB (gAMA)"),
    "other chromaticities": (
        png(chunk(b"cHRM", struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000))), "RGB", "(cHRM)",
    ),
    "HDR": (png(chunk(b"cICP", bytes([9, 16, 0, 1])), chunk(b"sRGB", b"\0")), "RGB", "not sRGB (cICP)"),
    "transparency in RGB": (with_transparency("RGB"), "RGB", "transparency (tRNS)"),
    "transparency in grey": (with_transparency("L"), "L", "transparency (tRNS)"),
    "transparency in a palette": (with_transparency("P"), "RGB", "transparency (tRNS)"),
    "transparency in a palette, for RGBA": (with_transparency("P"), "RGBA", "transparency (tRNS)"),
    "RGBA for RGB": (png(pixels=np.dstack([RGB, GREY])), "RGB", "in mode RGBA"),
    "grey and alpha": (png(pixels=Image.fromarray(GREY).convert("LA")), "L", "in mode LA"),
    "16 bits of grey": (made_png(16, 0, bytes((1 + 2 * WIDTH) * HEIGHT)), "L", "16 bits"),
    "16 bits of RGB": (made_png(16, 2, bytes((1 + 6 * WIDTH) * HEIGHT)), "RGB", "16 bits"),
    "an animation": (animated("PNG"), "RGB", "animation (APNG)"),
    "several images in a JPEG": (animated("MPO"), "RGB", "several images (MPF)"),
    "CMYK": (jpeg(pixels=Image.fromarray(RGB).convert("CMYK")), "RGB", "in mode CMYK"),
    "arithmetic coding": (PLAIN_JPEG.replace(b"\xff\xc0", b"\xff\xc9"), "RGB", "arithmetic coding"),
    "12 bits": (PLAIN_JPEG.replace(b"\xff\xc0\0\x11\x08", b"\xff\xc1\0\x11\x0c"), "RGB", "12 bits"),
    "a PNG with fewer lines than its header says": (HALF_PNG, "RGB", "fewer pixels"),
    "a PNG without its end": (png()[:-12], "RGB", "cut off"),
    "a JPEG without its end": (PLAIN_JPEG[:-2], "RGB", "cut off"),
    "a JPEG that ends in its tables": (PLAIN_JPEG[:100], "RGB", "cut off"),
    "a PNG whose data have another checksum": (
        png().replace(b"IDAT", b"IDAT", 1)[:-16] + b"\0\0\0\0" + png()[-12:], "RGB", "checksum",
    ),
    "a palette without colours": (made_png(8, 3, lines_of(INDICES)), "RGB", "palette is missing"),
    "a colour beyond the palette": (
        made_png(8, 3, lines_of(INDICES), more=chunk(b"PLTE", bytes(9))), "RGB", "its palette does not have",
    ),
    "a chunk that has to be known": (png(chunk(b"CgBI", bytes(4))), "RGB", "has to be known"),
    "chunks without end": (png(chunk(b"voId", b"") * 5000), "RGB", "too many chunks"),
    "segments without end": (jpeg(segment(0xFE, b"") * 3000), "RGB", "too many segments"),
    "segments without end between scans": (
        PLAIN_JPEG[:-2] + segment(0xFE, b"") * 3000 + b"\xff\xd9",
        "RGB",
        "too many segments",
    ),
    "scans without end": (
        PLAIN_JPEG[:-2] + PLAIN_JPEG[SCANS:-2] * 200 + b"\xff\xd9", "RGB", "more than 32 scans",
    ),
    "more metadata than anybody needs": (png(chunk(b"voId", bytes(5 << 20))), "RGB", "4 MiB of metadata"),
    "more metadata than anybody needs in a JPEG": (jpeg(segment(0xED, bytes(65000)) * 70), "RGB", "4 MiB of metadata"),
    "more data than the pixels need": (
        made_png(8, 2, lines_of(RGB), more=chunk(b"IDAT", bytes(70_000))), "RGB", "far more data",
    ),
    "EXIF without end": (
        jpeg(segment(0xE1, b"Exif\0\0II*\0\x08\0\0\0" + (600).to_bytes(2, "little") + bytes(7300))),
        "RGB",
        "EXIF or XMP cannot be read",
    ),
    "a profile in a chunk that is too long": (
        png(chunk(b"iCCP", b"x\0\0" + zlib.compress(profile()) + bytes(200_000))), "RGB", "its ICC profile",
    ),
    "an orientation of many digits in XMP": (
        jpeg(segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + b'tiff:Orientation="0010"')),
        "RGB",
        "EXIF or XMP cannot be read",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_change_pixels_is_refused(name: str) -> None:
    """The chunks that the table in docs/images.md refuses are refused, with a sentence that names them."""
    file, mode, sentence = REFUSED[name]
    _, faults = stack(file, mode)
    assert [fault.place for fault in faults] == [("b64",)]
    assert sentence in faults[0].message


def test_nothing_but_pixels_is_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts and profiles are not given to the decoder: it sees header, palette and data alone."""
    seen: list[bytes] = []
    opened = Image.open
    monkeypatch.setattr(Image, "open", lambda file, **options: seen.append(file.getvalue()) or opened(file, **options))
    bomb = chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(10**7)))
    assert not stack(png(bomb, iccp(profile()), chunk(b"eXIf", tiff(1))))[1]
    assert not stack(jpeg(exif(1), segment(0xED, b"Photoshop 3.0\0"), icc_segments(profile())))[1]
    assert len(seen) == 2
    for name in (b"zTXt", b"iCCP", b"eXIf", b"Exif", b"Photoshop", b"ICC_PROFILE"):
        assert all(name not in file for file in seen)


def test_grey_profiles_of_srgb_are_taken() -> None:
    """A grey image may have a grey profile with the curve of sRGB."""
    x, faults = stack(png(iccp(profile(2.2, colours=b"GRAY")), pixels=GREY), "L")
    assert not faults
    assert np.array_equal(pixels_of(x)[..., 0], GREY)
