"""Images in JSON: PNG or JPEG in base64, or nested lists."""

import base64
import io
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from guards.faults import Fault
from guards.schema import Floats, InputSchema

__all__ = ["stack_images"]

MODES = {"1": 1, "L": 1, "P": 3, "RGB": 3, "RGBA": 4}


def stack_images(instances: Sequence[object], schema: InputSchema) -> tuple[Floats, list[Fault]]:
    """Decode images one by one, and nested lists in the same request like any other."""
    x = np.zeros((len(instances), *schema.shape), dtype=np.float32)
    faults: list[Fault] = []
    for index, instance in enumerate(instances):
        if isinstance(instance, dict):
            fault = _image(instance, schema.shape, x[index])
            if fault is not None:
                faults.append(Fault(index, *fault))
        else:
            row, found = schema.stack([instance])
            x[index] = row[0]
            faults += [Fault(index, f.place, f.message) for f in found]
    return x, faults


def _image(instance: Mapping[str, object], shape: tuple[int, ...], out: Floats) -> tuple[tuple[str, ...], str] | None:
    encoded = instance.get("b64")
    if set(instance) != {"b64"} or not isinstance(encoded, str):
        return (), 'expected {"b64": "..."} with a PNG or JPEG'
    channels, height, width = shape
    try:
        file = base64.b64decode(encoded, validate=True)
    except ValueError:
        return ("b64",), "not base64"
    try:
        with Image.open(io.BytesIO(file), formats=("PNG", "JPEG")) as image:
            # Told by the header, before a decompression bomb could go off.
            if image.size != (width, height) or MODES.get(image.mode) != channels:
                found = f"{image.width} x {image.height} pixels in mode {image.mode}"
                return ("b64",), f"expected {width} x {height} pixels with {channels} channels, got {found}"
            pixels = np.asarray(image.convert({1: "L", 3: "RGB", 4: "RGBA"}[channels]))
    except Exception:  # noqa: BLE001 - of a made-up file Pillow also raises struct.error, and who knows what else
        return ("b64",), "no PNG or JPEG can be decoded from it"
    out[:] = pixels.reshape(height, width, channels).transpose(2, 0, 1).astype(np.float32) / np.float32(255)
    return None
