"""Pixels outside [0, 1]: the likeliest mistake of an image's client, and one that deserves its name in the answer."""

from collections.abc import Mapping

import numpy as np

from guards.schema import Floats, InputSchema

__all__ = ["LIKE_BYTES", "OUTSIDE", "odd_pixels", "sentence"]

LIKE_BYTES = "pixels outside [0, 1]: they look like 0 to 255; divide them by 255, or send UINT8 or a PNG"
OUTSIDE = "pixels outside [0, 1]"
CLEARLY_MORE, LARGEST_BYTE = 2, 255
MOST_ROWS = 20


def odd_pixels(x: Floats, schema: InputSchema) -> Mapping[int, str]:
    """Say which rows (n, channels, height, width) of an image input are outside [0, 1], and what they look like."""
    if schema.kind != "image" or (x.min() >= 0 and x.max() <= 1):
        return {}
    low, high = x.min((1, 2, 3)), x.max((1, 2, 3))
    return {
        int(row): LIKE_BYTES if low[row] >= 0 and CLEARLY_MORE < high[row] <= LARGEST_BYTE else OUTSIDE
        for row in np.flatnonzero((low < 0) | (high > 1))
    }


def sentence(odd: Mapping[int, str]) -> str:
    """Say it in one line, for protocols that have no room beside a row."""
    parts = []
    for message in (LIKE_BYTES, OUTSIDE):
        rows = [str(row) for row, said in odd.items() if said == message]
        if rows:
            listed = ", ".join(rows[:MOST_ROWS]) + (", ..." if len(rows) > MOST_ROWS else "")
            parts.append(f"rows {listed}: {message}")
    return "; ".join(parts)
