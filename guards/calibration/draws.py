"""Uniform draws for randomised prediction sets: a row's draw depends on the row's id and the bundle alone."""

from collections.abc import Iterable
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

__all__ = ["uniform_draws"]

WORD, UNUSED_BITS, SCALE = 4, 8, np.float32(2.0**-24)
"""A digest of 32 bits gives its upper 24: float32 represents each multiple of 1 / 2^24 below 1 exactly."""


def uniform_draws(ids: Iterable[str], bundle: str) -> npt.NDArray[np.float32]:
    """Hash each row's id with the bundle's id to a number in [0, 1): (n,) float32.

    The same id in the same bundle gives the same number in every process and by every door. The hash is BLAKE2b,
    whose key is the hash of the bundle's id. A draw is no secret: whoever knows the bundle's id can compute the draw.

    >>> [f"{draw:.4f}" for draw in uniform_draws(["order-17", "order-18", "order-17"], "sha256:0")]
    ['0.9556', '0.9313', '0.9556']
    """
    keyed = blake2b(digest_size=WORD, key=blake2b(bundle.encode()).digest())
    digests = bytearray()
    for name in ids:
        row = keyed.copy()
        row.update(name.encode())
        digests += row.digest()
    words = np.frombuffer(digests, dtype="<u4") >> UNUSED_BITS
    return words.astype(np.float32) * SCALE
