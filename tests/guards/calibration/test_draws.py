"""The draws of randomised prediction sets: a pure function of a row's id and the bundle's id."""

from hashlib import blake2b

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest

from guards.calibration.draws import uniform_draws


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=20), st.text("0123456789abcdef"))
def test_a_draw_depends_on_the_id_and_the_bundle_alone(ids: list[str], bundle: str) -> None:
    """Each id draws in [0, 1) what it draws alone, whatever ids stand beside it."""
    draws = uniform_draws(ids, bundle)
    assert draws.dtype == np.float32
    assert ((draws >= 0) & (draws < 1)).all()
    assert draws.tolist() == [uniform_draws([name], bundle)[0] for name in ids]


def test_a_draw_is_the_documented_hash() -> None:
    """A draw is the upper 24 bits of keyed BLAKE2b, so that any program can compute the draw."""
    key = blake2b(b"sha256:0").digest()
    word = int.from_bytes(blake2b(b"order-17", digest_size=4, key=key).digest(), "little")
    assert uniform_draws(["order-17"], "sha256:0").tolist() == [(word >> 8) / 2**24]


def test_draws_are_uniform_and_bundles_are_independent() -> None:
    """Draws of consecutive ids are uniform, and the draws of two bundles are uncorrelated."""
    ids = [f"request-{index}" for index in range(20_000)]
    one, two = uniform_draws(ids, "sha256:1"), uniform_draws(ids, "sha256:2")
    assert kstest(one, "uniform").pvalue > 1e-4
    assert abs(np.corrcoef(one, two)[0, 1]) < 4 / len(ids) ** 0.5
    assert abs(np.corrcoef(one[1:], one[:-1])[0, 1]) < 4 / len(ids) ** 0.5
