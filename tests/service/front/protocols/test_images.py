"""Images in JSON: each gives pixels or a fault, whatever the file holds."""

import base64
import io
import json
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from image_files import SHAPES, chunk, file_of, stack
from PIL import Image, ImageFile

from guards.input.schema import InputSchema
from service.front.client_threads import NobodyWaitsError
from service.front.memory_room import PIXELS
from service.front.protocols import images as images_module
from service.front.protocols import v1
from service.front.protocols.base64_text import decode_base64
from service.front.protocols.images import stack_images
from service.front.protocols.problem import Problem
from service.messages.refused import Refused


@pytest.mark.parametrize(
    ("mode", "kind"), [("L", "PNG"), ("RGB", "PNG"), ("RGBA", "PNG"), ("L", "JPEG"), ("RGB", "JPEG")]
)
def test_pixels_are_divided_by_255(mode: str, kind: str) -> None:
    """A byte b becomes exactly float32(b) / 255, channels first."""
    file = file_of(mode, kind)
    x, faults = stack(file, mode)
    assert not faults
    with Image.open(io.BytesIO(file)) as image:
        pixels = np.asarray(image).reshape(6, 8, -1)
    assert np.array_equal(x[0], pixels.transpose(2, 0, 1).astype(np.float32) / np.float32(255))
    assert x.dtype == np.float32


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_damaged_files_are_faults(kind: str) -> None:
    """A file with bytes changed, cut or inserted is decoded or refused as a fault, and nothing else happens."""
    whole = file_of("RGB", kind)

    @given(st.integers(0, len(whole) - 1), st.binary(max_size=6), st.integers(0, 40))
    def check(place: int, damage: bytes, skipped: int) -> None:
        x, faults = stack(whole[:place] + damage + whole[place + skipped :])
        assert x.shape == (1, 3, 6, 8)
        assert ((x >= 0) & (x <= 1)).all()
        assert all(fault.place == ("b64",) for fault in faults)

    check()


CHUNKS = (b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"gAMA", b"sRGB", b"pHYs", b"tEXt", b"zTXt", b"iTXt", b"iCCP",
          b"eXIf", b"acTL", b"fcTL", b"fdAT", b"cHRM")  # fmt: skip


@given(st.lists(st.tuples(st.sampled_from(CHUNKS), st.binary(max_size=30)), max_size=4), st.booleans())
def test_chunks_of_any_kind_are_faults(chunks: list[tuple[bytes, bytes]], first: bool) -> None:
    """A PNG with made-up chunks of known names and right checksums is decoded or refused as a fault."""
    whole = file_of("RGB", "PNG")
    odd = b"".join(chunk(name, content) for name, content in chunks)
    head, rest = (8, whole[8:]) if first else (33, whole[33:])
    _, faults = stack(whole[:head] + odd + rest)
    assert all("base64" not in fault.message for fault in faults)


@pytest.mark.parametrize("side", [8000, 30000, 2**31 - 1])
def test_a_bomb_is_told_by_its_header(side: int) -> None:
    """A small file that claims to be huge is refused by its size, before a pixel of it is unpacked."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    file = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(10**6))) + chunk(b"IEND", b"")
    _, (fault,) = stack(file)
    assert fault.place == ("b64",)


@pytest.mark.parametrize(
    ("mode", "kind"), [("RGB", "PNG"), ("RGB", "JPEG"), ("L", "PNG"), ("P", "PNG"), ("RGBA", "PNG")]
)
@pytest.mark.parametrize("size", [(7, 6), (6, 8), (16, 12), (4000, 4000)], ids=str)
def test_no_other_size_is_unpacked(
    monkeypatch: pytest.MonkeyPatch, mode: str, kind: str, size: tuple[int, int]
) -> None:
    """A sound file of another size than the config's is refused before any of its pixels is unpacked."""
    file = io.BytesIO()
    Image.new(mode, size).save(file, kind)

    def never(*_: object) -> None:
        raise AssertionError("unpacked")

    monkeypatch.setattr(ImageFile.ImageFile, "load", never)
    _, (fault,) = stack(file.getvalue(), {"P": "RGB"}.get(mode, mode))
    assert f"got {size[0]} x {size[1]} pixels" in fault.message


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_more_pixels_than_the_header_says_are_not_unpacked(mode: str) -> None:
    """A file of the right size, with data for a thousand times as many pixels behind it, makes its own pixels."""
    channels = SHAPES[mode][0]
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 6, 8, {1: 0, 3: 2}[channels], 0, 0, 0))
    lines = (b"\0" + bytes([51] * 8 * channels)) * 6
    data = zlib.compress(lines + bytes(50_000_000), 9)
    x, faults = stack(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", data) + chunk(b"IEND", b""), mode)
    assert not faults
    assert (x == np.float32(0.2)).all()


def test_more_images_than_rows_are_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A body of more images than a request may have rows is refused before any is looked at."""
    monkeypatch.setattr(v1, "stack_images", lambda *_: pytest.fail("unpacked"))
    body = json.dumps({"instances": [{"b64": ""}] * 5}).encode()
    described = InputSchema(kind="image", shape=SHAPES["RGB"])
    with pytest.raises(Problem) as told:
        v1.decode(body, schema=described, max_rows=4, parameters={})
    assert told.value.errors == [(("instances",), "5 rows, where 4 are the most in one request")]


def test_a_compressed_text_bomb_is_a_fault_or_an_image() -> None:
    """Text chunks that unpack to much more than they are do no harm."""
    whole = file_of("RGB", "PNG")
    bomb = chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(200 * 1024 * 1024 // 8)))
    _, faults = stack(whole[:33] + bomb + whole[33:])
    assert all("base64" not in fault.message for fault in faults)


@pytest.mark.parametrize(
    "text", ["!", "A", "A" * 5, "é", "A=AA", "ab-_+/", "data:image/png,QUJD", "data:;base64", "QU=JD"]
)
def test_what_is_no_base64_is_told(text: str) -> None:
    """Text that is no base64 and a file that is no image have different faults."""
    _, (fault,) = stack_images([{"b64": text}], InputSchema(kind="image", shape=(3, 6, 8)))
    assert fault.message == "not base64"


@pytest.mark.parametrize("text", ["", "QUJD", "QUI="])
def test_what_is_no_image_is_told(text: str) -> None:
    """Bytes that are neither PNG nor JPEG are refused as such."""
    _, (fault,) = stack_images([{"b64": text}], InputSchema(kind="image", shape=(3, 6, 8)))
    assert fault.message == "no PNG or JPEG"


@pytest.mark.parametrize(
    "written",
    [
        lambda file: base64.encodebytes(file).decode(),
        lambda file: base64.encodebytes(file).decode().replace("\n", "\r\n"),
        lambda file: base64.urlsafe_b64encode(file).decode(),
        lambda file: base64.urlsafe_b64encode(file).decode().rstrip("="),
        lambda file: base64.b64encode(file).decode().rstrip("="),
        lambda file: f"data:image/png;base64,{base64.b64encode(file).decode()}",
        lambda file: f"data:;base64,{base64.encodebytes(file).decode()}",
    ],
    ids=["lines", "lines of Windows", "urlsafe", "urlsafe without padding", "without padding", "data URL", "both"],
)
def test_base64_as_clients_write_it(written: Any) -> None:
    """Line breaks, the alphabet for URLs, missing padding and a `data:` prefix change nothing."""
    for seed in range(3):  # files of different lengths, and so with and without padding
        file = file_of("RGB", "PNG", seed, compress_level=seed)
        x, faults = stack_images([{"b64": written(file)}], InputSchema(kind="image", shape=SHAPES["RGB"]))
        assert not faults
        assert np.array_equal(x, stack(file)[0])


@given(st.binary(min_size=1, max_size=200))
def test_any_base64_is_the_bytes(content: bytes) -> None:
    """Every way to write base64 gives the bytes back."""
    for text in (base64.b64encode(content), base64.urlsafe_b64encode(content), base64.encodebytes(content)):
        assert decode_base64(text.decode()) == content
        assert decode_base64(text.decode().rstrip("=\n")) == content


def _request(*files: bytes) -> list[object]:
    return [{"b64": base64.b64encode(file).decode()} for file in files]


def test_headers_are_judged_before_anything_is_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the last of many images does not fit, no image is unpacked."""
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("an image was unpacked"))
    sound, other = file_of("RGB", "PNG"), file_of("L", "PNG")
    _, faults = stack_images(_request(sound, sound, other), InputSchema(kind="image", shape=SHAPES["RGB"]))
    assert [(fault.row, fault.place) for fault in faults] == [(2, ("b64",))]


def test_the_pixels_of_a_request_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images beyond the bound on all pixels of a request are faults, with their places."""
    monkeypatch.setattr(images_module, "MOST_PIXELS", 2 * 48 + 47)
    sound = file_of("RGB", "PNG")
    schema = InputSchema(kind="image", shape=SHAPES["RGB"])
    assert not stack_images(_request(sound, sound), schema)[1]
    _, faults = stack_images(_request(sound, sound, sound, sound), schema)
    assert [fault.row for fault in faults] == [2, 3]
    assert "2 images of 8 x 6 pixels are the most" in faults[0].message


def test_others_have_their_turn_between_two_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work of many images asks before each image whether to go on, and ends there if nobody waits for it."""
    asked: list[int] = []
    unpacked: list[int] = []
    opened = Image.open
    monkeypatch.setattr(Image, "open", lambda *given, **named: unpacked.append(1) or opened(*given, **named))

    def leave() -> None:
        asked.append(1)
        if len(unpacked) == 3:
            raise NobodyWaitsError

    monkeypatch.setattr(images_module, "take_turns", leave)
    with pytest.raises(NobodyWaitsError):
        stack_images(_request(*[file_of("RGB", "PNG")] * 10), InputSchema(kind="image", shape=SHAPES["RGB"]))
    assert len(unpacked) == 3
    assert len(asked) == 10 + 10 + 4


def test_unpacked_pixels_have_one_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request whose pixels do not fit beside those of other requests is refused; all pixels are given back."""
    monkeypatch.setattr(PIXELS, "size", 4 << 20)
    schema = InputSchema(kind="image", shape=(3, 600, 600))
    with PIXELS.held(3 << 20), pytest.raises(Refused) as refused:
        stack_images(_request(file_of("RGB", "PNG")), schema)
    assert refused.value.reason == "memory"
    stack_images(_request(file_of("RGB", "PNG")), schema)
    assert not PIXELS.lent
