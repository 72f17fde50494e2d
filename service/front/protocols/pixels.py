"""Finds pixels outside [0, 1], the likeliest mistake of a client that sends images, so that the answer can name it."""

from collections.abc import Mapping

import numpy as np

from guards.input.schema import Floats, InputSchema

__all__ = ["LIKE_BYTES", "OUTSIDE", "odd_pixels", "sentence"]

LIKE_BYTES = "pixels outside [0, 1]: they look like 0 to 255; divide them by 255, or send UINT8 or a PNG"
OUTSIDE = "pixels outside [0, 1]"
CLEARLY_MORE, LARGEST_BYTE = 2, 255
MOST_ROWS = 20


def odd_pixels(x: Floats, schema: InputSchema) -> Mapping[int, str]:
    """Give a sentence for each row of x (n, channels, height, width) that has pixels outside [0, 1], by its number."""
    if schema.kind != "image":
        return {}
    flat = x.reshape(-1)
    if np.minimum.reduce(flat) >= 0 and np.maximum.reduce(flat) <= 1:  # for one row half of the time of min() and max()
        return {}
    low, high = x.min((1, 2, 3)), x.max((1, 2, 3))
    return {
        int(row): LIKE_BYTES if low[row] >= 0 and CLEARLY_MORE < high[row] <= LARGEST_BYTE else OUTSIDE
        for row in np.flatnonzero((low < 0) | (high > 1))
    }


def sentence(odd: Mapping[int, str]) -> str:
    """Join the sentences of all odd rows into one line, for protocols whose answers have no place beside a row."""
    parts = []
    for message in (LIKE_BYTES, OUTSIDE):
        rows = [str(row) for row, said in odd.items() if said == message]
        if rows:
            listed = ", ".join(rows[:MOST_ROWS]) + (", ..." if len(rows) > MOST_ROWS else "")
            parts.append(f"rows {listed}: {message}")
    return "; ".join(parts)
