"""Tells whether an ICC profile (ICC.1:2022) is sRGB, by its primaries and its curves: its name proves nothing."""

import struct
from collections.abc import Callable
from functools import partial

__all__ = ["MAX_PROFILE", "is_srgb"]

MAX_PROFILE = 65536
"""Bytes. Profiles of sRGB have 500 to 3,200 bytes; larger profiles hold tables, which sRGB does not need."""
MAX_TAGS = 100
PRIMARIES = {
    b"rXYZ": (0.43607, 0.22249, 0.01392),
    b"gXYZ": (0.38515, 0.71687, 0.09708),
    b"bXYZ": (0.14307, 0.06061, 0.71410),
}
"""The primaries of sRGB, adapted to the white D50 that all profiles share."""
NEAR, NEAR_CURVE = 0.004, 0.01
"""Tolerances. A plain gamma of 2.2, which many programs write for sRGB, is within 0.01 of the curve of sRGB."""
HEADER = 128
Tags = dict[bytes, memoryview]
Curve = Callable[[float], float]


def is_srgb(profile: bytes, *, grey: bool) -> bool:
    """Tell whether pixels mean the same with this profile as without one; for ``grey`` pixels only the curve counts."""
    if len(profile) > MAX_PROFILE or profile[16:20] != (b"GRAY" if grey else b"RGB "):
        return False
    try:
        tags = _tags(profile)
        if any(name.startswith((b"A2B", b"D2B")) for name in tags):
            return False
        names = (b"kTRC",) if grey else (b"rTRC", b"gTRC", b"bTRC")
        return (grey or _primaries(tags)) and all(_is_srgb_curve(_curve(tags[name])) for name in names)
    except (KeyError, ArithmeticError, struct.error):
        return False


def _tags(profile: bytes) -> Tags:
    (count,) = struct.unpack_from(">I", profile, HEADER)
    entries = [struct.unpack_from(">4sII", profile, HEADER + 4 + 12 * i) for i in range(min(count, MAX_TAGS))]
    view = memoryview(profile)
    return {name: view[start : start + size] for name, start, size in entries}


def _primaries(tags: Tags) -> bool:
    for name, wanted in PRIMARIES.items():
        found = struct.unpack_from(">3i", tags[name], 8)
        if any(abs(value / 65536 - number) > NEAR for value, number in zip(found, wanted, strict=True)):
            return False
    return True


def _is_srgb_curve(curve: Curve) -> bool:
    points = [step / 16 for step in range(17)]
    return all(abs(curve(x) - (x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4)) < NEAR_CURVE  # noqa: PLR2004
               for x in points)  # fmt: skip


def _curve(tag: memoryview) -> Curve:
    """Read the curve from stored values to linear light; of a table only the points that are asked for are read.

    Raises:
        KeyError: the curve is of a kind that no profile of sRGB has.
    """
    kind_of_curve = bytes(tag[:4])
    if kind_of_curve == b"curv":
        (count,) = struct.unpack_from(">I", tag, 8)
        if count > 1:
            return partial(_interpolated, tag[12:], count)
        power = struct.unpack_from(">H", tag, 12)[0] / 256 if count else 1.0
        return lambda x: float(x**power)
    if kind_of_curve != b"para":
        raise KeyError(kind_of_curve)
    (kind,) = struct.unpack_from(">H", tag, 8)
    count = {0: 1, 3: 5, 4: 7}[kind]
    numbers = [number / 65536 for number in struct.unpack_from(f">{count}i", tag, 12)]
    g, a, b, c, d, e, f = numbers + [0.0] * (7 - count)
    if kind == 0:
        return lambda x: float(x**g)
    return lambda x: float(max(a * x + b, 0.0) ** g + e) if x >= d else c * x + f


def _interpolated(table: memoryview, count: int, x: float) -> float:
    place = x * (count - 1)
    low = min(int(place), count - 2)
    before, after = struct.unpack_from(">2H", table, 2 * low)
    return float(before + (after - before) * (place - low)) / 65535
