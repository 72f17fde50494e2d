"""Decodes images (PNG or JPEG files, base64 of such files, or nested lists) into pixels on the model's scale."""

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
from PIL import Image

from guards.input.cell_faults import Fault
from guards.input.schema import Floats, InputSchema
from service.front.client_threads import take_turns
from service.front.memory_room import PIXELS
from service.front.protocols.base64_text import decode_base64
from service.front.protocols.image_file import ImageFile, UnfitImageError
from service.front.protocols.jpeg_file import JPEG_SIGNATURE, read_jpeg
from service.front.protocols.png_file import PNG_SIGNATURE, read_png

__all__ = ["may_hold_files", "stack_files", "stack_images"]

CHANNELS = {"1": 1, "L": 1, "P": 3, "RGB": 3, "RGBA": 4}
NOT_BASE64 = "not base64"
FLIPS = {1: (1, 1), 2: (1, -1), 3: (-1, -1), 4: (-1, 1), 5: (1, 1), 6: (1, -1), 7: (-1, -1), 8: (-1, 1)}
"""The steps through rows and columns by EXIF's orientation, after the axes are swapped if they must be."""
MOST_PIXELS = 1 << 26
"""The most pixels that the files of one request unpack to: about a second of work."""
Bytes = npt.NDArray[np.uint8]
Place = tuple[str, ...]
Sent = tuple[int, Place, bytes | str]
"""What a client sent for a row: the row's index, the place of the file in the row, and the file or what is wrong."""


def may_hold_files(text: bytes, schema: InputSchema) -> bool:
    """Tell, without parsing, whether a request may hold image files: a small file may take long to unpack."""
    if schema.kind != "image":
        return False
    # One character is found, or not found, many times faster than a word. A backslash counts, since escapes may hide a
    # key or a datatype.
    return (b"b" in text and b"b64" in text) or (b"Y" in text and b"BYTES" in text) or b"\\" in text


@contextmanager
def _damage() -> Iterator[None]:
    """Turn every exception into a sentence: for a forged file Pillow may raise anything, such as struct.error."""
    try:
        yield
    except UnfitImageError:
        raise
    except Exception:  # noqa: BLE001
        raise UnfitImageError("it is damaged: no pixels can be decoded from it") from None


def stack_images(instances: Sequence[object], schema: InputSchema) -> tuple[Floats, list[Fault]]:
    """Decode the n instances of a v1 body: objects with a file in ``b64``, or nested lists of numbers in [0, 1].

    Gives the rows (n, channels, height, width) in [0, 1], and the faults; a row with a fault must not be used.

    Raises:
        Refused: the rows of all requests would take too much memory.
    """
    with _rows(len(instances), schema) as x:
        faults: list[Fault] = []
        files: list[Sent] = []
        for index, instance in enumerate(instances):
            take_turns()
            if isinstance(instance, dict):
                files.append(_sent(index, instance))
            else:
                row, found = schema.stack([instance])
                x[index] = row[0]
                faults += [Fault(index, f.place, f.message) for f in found]
        return x, sorted(faults + _unpack(files, x), key=lambda fault: fault.row)


def _sent(index: int, instance: Mapping[str, object]) -> Sent:
    encoded = instance.get("b64")
    if set(instance) != {"b64"} or not isinstance(encoded, str):
        return index, (), 'expected {"b64": "..."} with a PNG or JPEG'
    try:
        return index, ("b64",), decode_base64(encoded)
    except ValueError:
        return index, ("b64",), NOT_BASE64


def stack_files(files: Iterable[bytes | None], rows: int, schema: InputSchema) -> tuple[Floats, list[Fault]]:
    """Decode n = ``rows`` files, None for a text that was no base64.

    Gives the rows (n, channels, height, width) in [0, 1], and the faults; a row with a fault must not be used.

    Raises:
        Refused: the rows of all requests would take too much memory.
    """
    with _rows(rows, schema) as x:
        sent = ((index, (), NOT_BASE64 if file is None else file) for index, file in enumerate(files))
        return x, _unpack(sent, x)


@contextmanager
def _rows(n: int, schema: InputSchema) -> Iterator[Floats]:
    """Make room for n rows (n, channels, height, width): few bytes of files may unpack to many."""
    x = np.zeros((n, *schema.shape), dtype=np.float32)  # takes memory only where something is written
    with PIXELS.held(x.nbytes):
        yield x


def _unpack(sent: Iterable[Sent], x: Floats) -> list[Fault]:
    """Write the pixels of files, divided by 255, into their rows of x (n, channels, height, width); give the faults.

    The headers of all files are judged before the first file is unpacked. Between two files other requests have their
    turn, and the work ends if nobody waits for it any more.
    """
    channels, height, width = x.shape[1:]
    most = max(1, MOST_PIXELS // (height * width))
    faults: list[Fault] = []
    files: list[tuple[int, Place, ImageFile]] = []
    for index, place, file in sent:
        take_turns()
        if len(files) == most:
            file = f"{most} images of {width} x {height} pixels are the most in one request"  # noqa: PLW2901
        try:
            files.append((index, place, _judged(file, channels, height, width)))
        except UnfitImageError as unfit:
            faults.append(Fault(index, place, str(unfit)))
    for index, place, judged in () if faults else files:
        take_turns()
        try:
            x[index] = _pixels(judged, channels).transpose(2, 0, 1).astype(np.float32) / np.float32(255)
        except UnfitImageError as unfit:
            faults.append(Fault(index, place, str(unfit)))
    return faults


@_damage()
def _judged(sent: bytes | str, channels: int, height: int, width: int) -> ImageFile:
    """Read a file's header, and check it against the shape that the model takes; a string is what is wrong already.

    Raises:
        UnfitImageError: the model takes another size or another mode, or the file is none that can be used.
    """
    if isinstance(sent, str):
        raise UnfitImageError(sent)
    file = memoryview(sent)
    if file[: len(PNG_SIGNATURE)] == PNG_SIGNATURE:
        found = read_png(file)
    elif file[: len(JPEG_SIGNATURE)] == JPEG_SIGNATURE:
        found = read_jpeg(file)
    else:
        raise UnfitImageError("no PNG or JPEG")
    if found.size != (width, height) or CHANNELS.get(found.mode) != channels:
        turned = ", turned as its metadata say," if found.orientation > 1 else ""
        what = f"{found.size[0]} x {found.size[1]} pixels{turned} in mode {found.mode}"
        raise UnfitImageError(f"expected {width} x {height} pixels with {channels} channels, got {what}")
    return found


@_damage()
def _pixels(file: ImageFile, channels: int) -> Bytes:
    """Decode a file into bytes (height, width, channels), the right way up.

    Raises:
        UnfitImageError: the file is damaged, or its colours are not sRGB.
    """
    with Image.open(io.BytesIO(file.strip()), formats=(file.kind,)) as image:
        if image.size != (file.width, file.height) or image.mode != file.mode:
            raise UnfitImageError("it is damaged: its header and its data disagree")
        if file.colours is not None and int(np.asarray(image).max()) >= file.colours:
            raise UnfitImageError("it is damaged: a pixel has a colour that its palette does not have")
        pixels = np.asarray(image.convert({1: "L", 3: "RGB", 4: "RGBA"}[channels]))
    return _upright(pixels.reshape(file.height, file.width, channels), file.orientation)


def _upright(pixels: Bytes, orientation: int) -> Bytes:
    """Turn pixels (height, width, channels) the right way up; EXIF's orientations 5 to 8 swap the axes first."""
    if orientation > 4:  # noqa: PLR2004
        pixels = pixels.transpose(1, 0, 2)
    down, across = FLIPS[orientation]
    return pixels[::down, ::across]
