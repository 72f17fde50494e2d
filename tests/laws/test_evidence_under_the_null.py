"""E-values under every distribution that the reference allows, and evidence for rows in any batches and replicas."""

from itertools import pairwise, product

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from guards.monitors.sequential import Sequential, SequentialParams
from guards.statistics.bets import Bets
from guards.statistics.e_values import discoveries, e_bh_statistic, log_e_values, null_weights
from guards.testing import example
from guards.testing.example import KINDS

MASSES = st.lists(st.floats(0.01, 1), min_size=2, max_size=6)
SEEDS = st.integers(0, 2**31)


def distribution(masses: list[float]) -> np.ndarray:
    return np.array(masses) / sum(masses)


@given(MASSES, SEEDS, st.floats(1e-4, 1), st.integers(0, 1))
@settings(deadline=None, max_examples=100)
def test_expectation_is_at_most_one_in_the_whole_ball(masses: list[float], seed: int, bound: float, empty: int) -> None:
    """Whatever the bet, no distribution on the ball's surface gains on it: at random places, in corners, towards q."""
    rng = np.random.default_rng(seed)
    f = np.append(distribution(masses), np.zeros(empty))
    q = rng.dirichlet(np.ones(len(f)))
    weight = null_weights(f, np.divide(q, f, out=np.ones_like(q), where=f > 0), np.array(bound))
    values = np.exp(log_e_values(np.divide(q, f, out=np.full_like(q, np.inf), where=f > 0), weight))
    assume(weight < 1)
    for target in (*rng.dirichlet(np.full(len(f), 0.3), 20), *np.eye(len(f)), q):
        edge = null_weights(f, np.divide(target, f, out=np.ones_like(q), where=f > 0), np.array(bound * (1 - 1e-9)))
        p = (1 - float(edge)) * f + float(edge) * target
        assert p @ values <= 1 + 1e-9


@given(st.integers(0, 30), st.integers(1, 30), st.integers(1, 4), st.floats(0, 1))
@settings(deadline=None, max_examples=60)
def test_expectation_of_an_epoch_by_enumeration(some: int, others: int, rows: int, place: float) -> None:
    """Over all sequences of an epoch's rows, bets on two categories expect at most 1 anywhere in their null."""
    bets = Bets([2], ordered=0)
    bets.calibrate(np.array([some, others]), 0.0)
    one = np.exp([bets.log_e_values(row) for row in np.eye(2, dtype=np.int64)])
    for bet in np.flatnonzero(bets.alive):
        first, second = one[:, bet]
        assume(first != second)
        boundary = min(1.0, max(0.0, (1 - second) / (first - second)))  # the share at which a row is worth 1
        share = boundary * place if first > second else boundary + (1 - boundary) * place
        total = 0.0
        for sequence in product((0, 1), repeat=rows):
            counts = np.bincount(sequence, minlength=2)
            probability = share ** counts[0] * (1 - share) ** counts[1]
            total += probability * float(np.exp(bets.log_e_values(counts)[bet]))
        assert total <= 1 + 1e-9


@given(st.lists(st.floats(0, 1e9), min_size=1, max_size=20), st.floats(1e-3, 1e6))
def test_e_bh_discovers_where_its_statistic_says_so(values: list[float], level: float) -> None:
    """There is a discovery exactly if the statistic reaches the level, and the largest e-value is among them."""
    e = np.array(values)
    assume(abs(e_bh_statistic(e) - level) > 1e-9 * level)
    found = discoveries(e, level)
    assert found.any() == (e_bh_statistic(e) >= level)
    assert not found.any() or found[e.argmax()]


def watching(kind: str) -> tuple[Sequential, object]:
    made = example(kind)  # type: ignore[arg-type]
    params = SequentialParams(name="drift", epoch=7, average_run_length=100, bins=4)
    return Sequential(params, made.context).fit(made.reference, made.outcome(made.reference.batch)), made


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=10)
@given(st.sets(st.integers(1, 239), max_size=12))
def test_cuts_do_not_change_a_bit(kind: str, cuts: set[int]) -> None:
    """However the same rows are cut into batches, all live state comes out the same to the bit."""
    (whole, made), (pieces, _) = watching(kind), watching(kind)
    with torch.inference_mode():
        whole.observe(made.rows, made.outcome(made.rows))
        edges = [0, *sorted(cuts), len(made.rows)]
        for start, end in pairwise(edges):
            pieces.observe(made.rows[start:end], made.outcome(made.rows[start:end]))
    assert whole.clock["counted"] > 0
    one, other = whole.snapshot(), pieces.snapshot()
    assert all(np.array_equal(one[name], other[name]) for name in one)


@settings(deadline=None, max_examples=25)
@given(SEEDS)
def test_replicas_add_up_to_the_bit(seed: int) -> None:
    """An epoch's counts summed from three replicas, in any order, move the evidence as the counts of one do."""
    rng = np.random.default_rng(seed)
    (one, _), (three, _) = watching("tabular"), watching("tabular")
    sizes = [len(bins) for bins in one.streams.bins.values()]
    for _ in range(20):
        rows = np.stack([np.concatenate([np.eye(n, dtype=np.int64)[rng.integers(n)] for n in sizes]) for _ in range(7)])
        one.judge(rows.sum(0))
        parts = np.split(rng.permutation(rows), sorted(rng.integers(0, 8, 2)))
        three.judge(sum((part.sum(0) for part in reversed(parts)), np.zeros(sum(sizes), dtype=np.int64)))
    assert one.evidence.max() > 0
    a, b = one.snapshot(), three.snapshot()
    assert all(np.array_equal(a[name], b[name]) for name in a)
