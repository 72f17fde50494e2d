"""Decodes images (PNG or JPEG files, base64 of such files, or nested lists) into pixels on the model's scale."""

import io
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from guards.input.cell_faults import Fault
from guards.input.schema import Floats, InputSchema
from service.front.protocols.base64_text import decode_base64
from service.front.protocols.image_file import ImageFile, UnfitImageError
from service.front.protocols.jpeg_file import JPEG_SIGNATURE, read_jpeg
from service.front.protocols.png_file import PNG_SIGNATURE, read_png

__all__ = ["may_hold_files", "stack_files", "stack_images"]

CHANNELS = {"1": 1, "L": 1, "P": 3, "RGB": 3, "RGBA": 4}
NOT_BASE64 = "not base64"
FLIPS = {1: (1, 1), 2: (1, -1), 3: (-1, -1), 4: (-1, 1), 5: (1, 1), 6: (1, -1), 7: (-1, -1), 8: (-1, 1)}
"""The steps through rows and columns by EXIF's orientation, after the axes are swapped if they must be."""
Bytes = npt.NDArray[np.uint8]


def may_hold_files(text: bytes, schema: InputSchema) -> bool:
    """Tell, without parsing, whether a request may hold image files: a small file may take long to unpack."""
    if schema.kind != "image":
        return False
    # One character is found, or not found, many times faster than a word. A backslash counts, since escapes may hide a
    # key or a datatype.
    return (b"b" in text and b"b64" in text) or (b"Y" in text and b"BYTES" in text) or b"\\" in text


def stack_images(instances: Sequence[object], schema: InputSchema) -> tuple[Floats, list[Fault]]:
    """Decode the n instances of a v1 body: objects with a file in ``b64``, or nested lists of numbers in [0, 1].

    Gives the rows (n, channels, height, width) in [0, 1], and the faults; a row with a fault must not be used.
    """
    x = np.zeros((len(instances), *schema.shape), dtype=np.float32)
    faults: list[Fault] = []
    for index, instance in enumerate(instances):
        if isinstance(instance, dict):
            place, message = _instance(instance, x[index])
            if message is not None:
                faults.append(Fault(index, place, message))
        else:
            row, found = schema.stack([instance])
            x[index] = row[0]
            faults += [Fault(index, f.place, f.message) for f in found]
    return x, faults


def _instance(instance: Mapping[str, object], out: Floats) -> tuple[tuple[str, ...], str | None]:
    encoded = instance.get("b64")
    if set(instance) != {"b64"} or not isinstance(encoded, str):
        return (), 'expected {"b64": "..."} with a PNG or JPEG'
    try:
        file = decode_base64(encoded)
    except ValueError:
        return ("b64",), NOT_BASE64
    return ("b64",), _decode(file, out)


def stack_files(files: Iterable[bytes | None], rows: int, schema: InputSchema) -> tuple[Floats, list[Fault]]:
    """Decode n = ``rows`` files, None for a text that was no base64.

    Gives the rows (n, channels, height, width) in [0, 1], and the faults; a row with a fault must not be used.
    """
    x = np.zeros((rows, *schema.shape), dtype=np.float32)
    faults: list[Fault] = []
    for index, file in enumerate(files):
        message = NOT_BASE64 if file is None else _decode(file, x[index])
        if message is not None:
            faults.append(Fault(index, (), message))
    return x, faults


def _decode(file: bytes, out: Floats) -> str | None:
    """Write a file's pixels, divided by 255, into ``out`` (channels, height, width), or say why this is impossible."""
    try:
        if file.startswith(PNG_SIGNATURE):
            found = read_png(file)
        elif file.startswith(JPEG_SIGNATURE):
            found = read_jpeg(file)
        else:
            return "no PNG or JPEG"
        pixels = _pixels(found, *out.shape)
    except UnfitImageError as unfit:
        return str(unfit)
    except Exception:  # noqa: BLE001 - for a forged file Pillow may raise anything, such as struct.error
        return "it is damaged: no pixels can be decoded from it"
    out[:] = pixels.transpose(2, 0, 1).astype(np.float32) / np.float32(255)
    return None


def _pixels(file: ImageFile, channels: int, height: int, width: int) -> Bytes:
    """Decode a file into bytes (height, width, channels), the right way up.

    Raises:
        UnfitImageError: the model takes another size or another mode, or the file is damaged.
    """
    if file.size != (width, height) or CHANNELS.get(file.mode) != channels:  # checked before anything is unpacked
        turned = ", turned as its metadata say," if file.orientation > 1 else ""
        found = f"{file.size[0]} x {file.size[1]} pixels{turned} in mode {file.mode}"
        raise UnfitImageError(f"expected {width} x {height} pixels with {channels} channels, got {found}")
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
