"""Finds sound rows with numpy: on a few rows numpy takes less than half of torch's time."""

import numpy as np
import numpy.typing as npt

__all__ = ["SoundBounds"]

Floats = npt.NDArray[np.float32]


class SoundBounds:
    """Checks whether every value of every row lies within the bounds (d,) of its column: only then is a row sound."""

    def __init__(self, low: Floats, high: Floats, *, image: bool) -> None:
        self._low, self._high, self._image = low, high, image

    def hold(self, x: Floats) -> bool:
        """Return whether no value of the rows x (n, ...) is missing or out of bounds."""
        if not x.size:
            return False
        if self._image:
            flat = x.reshape(*x.shape[:2], -1)
            x = np.concatenate((np.minimum.reduce(flat, axis=2), np.maximum.reduce(flat, axis=2)), axis=1)
        else:
            x = x.reshape(len(x), -1)
        inside = (x >= self._low) & (x <= self._high)  # a missing value is NaN, and compares false
        return bool(np.logical_and.reduce(inside, axis=None))
