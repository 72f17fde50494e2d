"""The cache of answers is bounded in bytes, and drops the least recently used answer first."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from service.explain.cache import ENTRY_BYTES, Recent


def test_least_recently_used_goes_first() -> None:
    """An answer that was read stays longer than an answer that was not."""
    recent: Recent[np.ndarray] = Recent(3 * (100 + ENTRY_BYTES))
    for name in (b"a", b"b", b"c"):
        recent.put(name, np.zeros(100, dtype=np.uint8))
    assert recent.get(b"a") is not None
    recent.put(b"d", np.zeros(100, dtype=np.uint8))
    assert [recent.get(name) is not None for name in (b"a", b"b", b"c", b"d")] == [True, False, True, True]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3000)), max_size=80))
def test_never_beyond_its_bytes(puts: list[tuple[int, int]]) -> None:
    """The sum of bytes stays within the bound, and is the sum of what the cache holds."""
    recent: Recent[np.ndarray] = Recent(8000)
    for name, size in puts:
        recent.put(bytes([name]), np.zeros(size, dtype=np.uint8))
        held = sum(value.nbytes + ENTRY_BYTES for value in recent._entries.values())
        assert held == recent._bytes <= 8000


def test_too_large_is_not_kept() -> None:
    """An answer larger than the whole cache is not kept, and displaces no other."""
    recent: Recent[np.ndarray] = Recent(2000)
    recent.put(b"a", np.zeros(10, dtype=np.uint8))
    recent.put(b"b", np.zeros(5000, dtype=np.uint8))
    assert recent.get(b"b") is None
    assert recent.get(b"a") is not None
