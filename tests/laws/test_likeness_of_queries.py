"""Laws of how alike queries are: all at once as one by one, whatever the place, direction and unit; e-values."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from guards.memory.evidence import E_VALUES, LEVELS, detected
from guards.memory.likeness import likeness, likenesses

SEEDS = st.integers(0, 2**31)
KS = st.integers(3, 9)


def sequence(seed: int, n: int = 60, w: int = 4) -> np.ndarray:
    rng = np.random.default_rng(seed)
    drifting = np.cumsum(rng.normal(size=(n, w)), 0) * rng.uniform(0, 1) + rng.normal(size=(n, w))
    return np.column_stack([drifting, rng.uniform(0.5, 2, n)]).astype(np.float32)


@given(SEEDS, KS)
@settings(deadline=None, max_examples=50)
def test_all_queries_at_once_are_as_one_by_one(seed: int, k: int) -> None:
    """The likenesses of all queries of a client are those of each query with the queries before it, without repeats."""
    codes = sequence(seed)
    codes[30], codes[40] = codes[25], codes[25]
    found, known = likenesses(codes, 64, k), []
    for place, code in enumerate(codes):
        if place in (30, 40):
            assert np.isnan(found[place]).all()
            continue
        if len(known) >= 2 * k:
            one = likeness(code, np.stack(known), k)
            assert np.allclose(found[place], one, rtol=1e-4, atol=1e-4)
        known.append(code)


@given(SEEDS, KS, st.floats(0.01, 100))
@settings(deadline=None, max_examples=50)
def test_place_direction_and_unit_do_not_matter(seed: int, k: int, unit: float) -> None:
    """Moved, turned and scaled codes are as far apart, in their own unit, and drift as much."""
    codes = sequence(seed).astype(np.float64)
    turn, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(4, 4)))
    moved = np.column_stack([(codes[:, :4] @ turn + 3) * unit, codes[:, 4] * unit])
    one, other = likeness(codes[-1], codes[:-1], k), likeness(moved[-1], moved[:-1], k)
    assert np.allclose(one, other, rtol=1e-6, atol=1e-6)


@given(SEEDS, KS)
@settings(deadline=None, max_examples=50)
def test_a_drift_is_at_most_one(seed: int, k: int) -> None:
    """The drift lies between -1 and 1."""
    drifts = likenesses(sequence(seed), 64, k)[:, 1]
    assert np.nanmax(drifts) <= 1 + 1e-9
    assert np.nanmin(drifts) >= -1 - 1e-9


def test_e_values_expect_at_most_one() -> None:
    """Under uniform p-values, rounded up to a level, the e-value expects at most 1; smaller p-values are worth more."""
    assert np.diff(LEVELS, prepend=0.0) @ E_VALUES <= 1
    assert (np.diff(E_VALUES) <= 0).all()


@given(SEEDS)
@settings(deadline=None, max_examples=10)
def test_honest_evidence_seldom_becomes_large(seed: int) -> None:
    """With independent uniform p-values, evidence crosses a value at most once in so many queries, on average."""
    rng, queries, value = np.random.default_rng(seed), 20_000, 200.0
    e_values = E_VALUES[LEVELS.searchsorted(rng.uniform(size=(1, queries)))]
    evidence, crossings = detected(e_values)[0], 0
    now = 0.0
    for value_of_query in e_values[0]:
        now = (now + 1) * value_of_query
        if now >= value:
            crossings, now = crossings + 1, 0.0
    assert evidence.max() > 0
    expected = queries / value
    assert crossings <= expected + 6 * expected**0.5


@given(SEEDS)
@settings(deadline=None, max_examples=20)
def test_no_query_leaves_the_evidence_as_it_is(seed: int) -> None:
    """NaN, an exact repeat, changes no evidence."""
    rng = np.random.default_rng(seed)
    e_values = rng.choice(E_VALUES, size=(2, 30))
    e_values[0, 10] = np.nan
    evidence = detected(e_values)
    assert evidence[0, 10] == evidence[0, 9]
