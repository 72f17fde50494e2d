"""The mathematics of the evidence against scipy, brute force and figures worked out by hand."""

import math
from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import beta

from guards.statistics.bets import Bets
from guards.statistics.e_values import (
    GRID,
    Floats,
    discoveries,
    e_bh_statistic,
    log_e_values,
    neighbour_share,
    null_weights,
    population_stability,
    tilted,
)

DECILES = np.array([1, *[100] * 10, 1]) / 1002


def projected(f: np.ndarray, q: np.ndarray, bound: float) -> np.ndarray:
    weight = null_weights(f, q / f, np.array(bound))
    return (1 - weight) * f + weight * q


@pytest.mark.parametrize("bound", [0.001, 0.01, 0.1])
@pytest.mark.parametrize("seed", range(4))
def test_projection_is_the_closest_point_of_the_ball(seed: int, bound: float) -> None:
    """The mixture lies on the ball's surface, and scipy's optimiser finds no distribution in it that is closer to q."""
    rng = np.random.default_rng(seed)
    f, q = rng.dirichlet(np.full(5, 3.0)), rng.dirichlet(np.full(5, 1.0))
    p = projected(f, q, bound)
    assert (f * np.log(f / p)).sum() == pytest.approx(bound, abs=1e-9)
    found = minimize(
        lambda x: (q * np.log(q / x)).sum(),
        f,
        bounds=[(1e-9, 1)] * 5,
        constraints=[
            {"type": "eq", "fun": lambda x: x.sum() - 1},
            {"type": "ineq", "fun": lambda x: bound - (f * np.log(f / x)).sum()},
        ],
        options={"ftol": 1e-12, "maxiter": 500},
    )
    assert (q * np.log(q / p)).sum() == pytest.approx(found.fun, abs=1e-5)
    assert p == pytest.approx(found.x, abs=2e-3)


def test_alternative_inside_of_the_ball_is_no_bet() -> None:
    """A q that the reference cannot rule out is its own projection, and every row leaves the wealth as it is."""
    f, q = np.array([0.5, 0.5]), np.array([0.52, 0.48])
    weight = null_weights(f, q / f, np.array(0.01))
    assert float(weight) == 1.0
    assert log_e_values(np.array([0.0, 2.0]), np.array(1.0)).tolist() == [0.0, 0.0]


def test_log_e_values_lie_on_the_grid_and_are_rounded_down() -> None:
    """Each is a multiple of the grid, below what it is without rounding, by less than a step and the floor's share."""
    rng = np.random.default_rng(0)
    tilts, weight = rng.gamma(1.0, size=(50, 8)), rng.random(50) * 0.9
    logs = log_e_values(tilts, weight)
    exact = np.log(tilts / (1 + weight[:, None] * (tilts - 1)))
    assert np.array_equal(logs / GRID, np.round(logs / GRID))
    above = exact >= 0
    assert (logs[above] <= exact[above]).all()
    assert logs == pytest.approx(exact, abs=1e-4)


def test_what_the_reference_never_had_is_paid_by_the_weight() -> None:
    """A bin without reference rows is worth 1 / w, which no bin can exceed."""
    logs = log_e_values(np.array([np.inf, 0.9, 1e9]), np.array(0.02))
    assert np.exp(logs) == pytest.approx([50, 0.9 / 0.998, 50], rel=1e-5)


@pytest.mark.parametrize("distance", [0.1, 0.5, 1.0])
def test_tilts_lie_at_their_distance(distance: float) -> None:
    """A tilt is a distribution, and the root of twice its divergence is the distance asked for."""
    scores = np.linspace(-1, 1, 12)
    tilt = tilted(DECILES, scores, np.array(distance))
    q = tilt * DECILES
    assert q.sum() == pytest.approx(1)
    assert math.sqrt(2 * (q * np.log(tilt)).sum()) == pytest.approx(distance, abs=1e-6)
    assert (np.diff(tilt) > 0).all()


def test_tilt_without_room_goes_to_the_end() -> None:
    """If no tilt reaches the distance, all mass is on the highest score of the reference."""
    f = np.array([0.4, 0.6, 0.0])
    tilt = tilted(f, np.array([-1.0, 1.0, 5.0]), np.array(9.0))
    assert tilt * f == pytest.approx([0, 1, 0], abs=1e-9)


def test_neighbour_share_is_a_distance() -> None:
    """A share moved up and down again is itself; it stays a probability however far it is moved."""
    share = np.array([0.0, 0.1, 0.5, 1.0])
    assert neighbour_share(neighbour_share(share, np.array(0.0)), np.array(0.0)) == pytest.approx(share)
    assert neighbour_share(neighbour_share(share[1:3], np.array(0.3)), np.array(-0.3)) == pytest.approx(share[1:3])
    assert neighbour_share(share, np.array(9.0)) == pytest.approx(1)
    assert neighbour_share(share, np.array(-9.0)) == pytest.approx(0)


def test_e_bh_by_definition() -> None:
    """The rejected hypotheses are the largest set of j with e-values of at least K x level / j."""
    rng = np.random.default_rng(3)
    for _ in range(200):
        e, level = rng.gamma(0.3, 10, size=6).round(1), 3.0
        sizes = [j for j in range(1, 7) if (e >= 6 * level / j).sum() >= j]
        expected = e >= 6 * level / max(sizes) if sizes else np.zeros(6, dtype=bool)
        found = discoveries(e, level)
        assert np.array_equal(found, expected)
        assert found.any() == (e_bh_statistic(e) >= level)
        assert e_bh_statistic(e) <= e.mean() + 1e-9


def stability(reference: Sequence[int], counts: Sequence[int], **more: Any) -> tuple[float, tuple[float, float]]:
    """Give the index of samples that are large enough to have one."""
    found = population_stability(np.array(reference), np.array(counts), **more)
    assert found is not None
    return found


def test_stability_index_by_hand() -> None:
    """The index is the symmetrised divergence of smoothed shares, less its bias; its interval holds it."""
    index, (low, high) = stability([500, 500], [600, 400])
    p, q = 600.5 / 1001, 400.5 / 1001
    assert index == pytest.approx((p - 0.5) * math.log(p / 0.5) + (q - 0.5) * math.log(q / 0.5) - 1 / 1000 - 1 / 1000)
    assert low < index < high
    assert all(map(math.isfinite, stability([0, 90, 0], [50, 50, 0])[1]))


def test_rare_bins_are_pooled() -> None:
    """Bins that expect fewer than five rows are one bin; full bins and special ones are their own."""
    reference, counts = [500, 400, 3, 2, 5, 0], [480, 420, 1, 6, 2, 9]
    assert stability(reference, counts) == stability([500, 400, 10], [480, 420, 18])
    own = np.array([False] * 5 + [True])
    assert stability(reference, counts, always=own) == stability([500, 400, 10, 0], [480, 420, 9, 9], always=own[2:])
    assert stability([5, 995], [5, 995]) == stability([5, 995], [5, 995], always=np.array([True, True]))


@pytest.mark.parametrize("shares", [np.ones(5000), 1 / np.arange(1, 5001)], ids=["even", "few are common"])
@pytest.mark.parametrize(("n", "m"), [(5000, 500), (5000, 5000), (500, 50_000), (50_000, 50_000)])
def test_clean_rows_of_5000_levels_are_no_drift(shares: Floats, n: int, m: int) -> None:
    """The index is near 0 or absent: only the bias of well-filled bins is taken off."""
    rng, share = np.random.default_rng(0), shares / shares.sum()
    for _ in range(20):
        found = population_stability(rng.multinomial(n, share), rng.multinomial(m, share))
        assert found is None or -0.03 < found[0] < 0.06


def test_drift_of_5000_levels_is_found() -> None:
    """A level that takes a fifth of the rows, and levels of which nine tenths are gone, have a large index."""
    rng, even = np.random.default_rng(0), np.full(5000, 1 / 5000)
    reference = rng.multinomial(5000, even)
    spike = 0.8 * even
    spike[7] += 0.2
    tenth = np.repeat([10.0, 0.0], [500, 4500]) / 5000
    for share in (spike, tenth):
        index, (low, _) = stability(reference, rng.multinomial(5000, share))
        assert index > 0.25 < low


@pytest.mark.parametrize(("reference", "counts"), [([0, 0], [5, 5]), ([5, 5], [0, 0]), ([1] * 500, [1] * 500)])
def test_too_little_to_compare_is_no_index(reference: list[int], counts: list[int]) -> None:
    """Without rows, or with a handful in every bin, there is no index, and not one of 0."""
    assert population_stability(np.array(reference), np.array(counts)) is None


@pytest.mark.parametrize("moved", [0.0, 0.03])
def test_stability_index_is_unbiased_and_its_interval_covers(moved: float) -> None:
    """Over many samples the mean is the true index, and 95 of 100 intervals hold it, or more if nothing moved."""
    rng = np.random.default_rng(8)
    was = np.full(10, 0.1)
    now = was + moved * np.resize([1, -1], 10)
    true = float(((now - was) * np.log(now / was)).sum())
    found = [stability(rng.multinomial(5000, was), rng.multinomial(2000, now)) for _ in range(500)]
    assert np.mean([index for index, _ in found]) == pytest.approx(true, abs=0.001)
    covered = np.mean([low <= true <= high for _, (low, high) in found])
    assert 0.92 < covered < (0.98 if moved else 1.01)


@pytest.mark.parametrize(("count", "rows"), [(0, 1000), (3, 1000), (100, 1000), (700, 1000), (40, 100)])
def test_bound_of_one_share_is_just_above_clopper_pearson(count: int, rows: int) -> None:
    """The null of a bet on one bin's larger share is an upper confidence bound: the exact one, or a little more."""
    level = 0.001
    bound = math.log(1 / level) / rows
    f = np.array([count / rows, 1 - count / rows])
    q = 0.9
    tilts = np.array([q / f[0] if count else 1.0, (1 - q) / f[1]])
    weight = null_weights(f, tilts, np.array(bound))
    upper = (1 - weight) * f[0] + weight * q
    exact = beta.ppf(1 - level, count + 1, rows - count)
    assert exact <= upper + 1e-12
    assert upper - f[0] <= 1.35 * (exact - f[0])


@pytest.mark.parametrize("rows", [100, 2000])
@pytest.mark.parametrize("law", ["normal", "lattice", "half constant"])
def test_all_bets_hold_for_nineteen_references_in_twenty(law: str, rows: int) -> None:
    """Over references, the share for which any bet on a numeric stream gains under the truth is below 5 %."""
    from scipy import stats

    rng = np.random.default_rng(0)
    draw, below = {
        "normal": (lambda: rng.normal(size=rows), stats.norm.cdf),
        "lattice": (lambda: rng.poisson(2.5, rows).astype(float), lambda x: stats.poisson.cdf(np.ceil(x) - 1, 2.5)),
        "half constant": (
            lambda: np.where(rng.random(rows) < 0.5, 0.0, rng.normal(size=rows)),
            lambda x: 0.5 * (x > 0) + 0.5 * stats.norm.cdf(x),
        ),
    }[law]
    bets, wrong, references = Bets([13], ordered=1), 0, 150
    for _ in range(references):
        sample = draw()
        edges = np.quantile(sample, np.linspace(0, 1, 11))
        edges[-1] = np.nextafter(edges[-1], np.inf)
        counts = np.append(np.bincount(np.searchsorted(edges, sample, side="right"), minlength=12), 0)
        bets.calibrate(counts, 0.0)
        truth = np.append(np.diff([0, *below(edges), 1]), 0.0)
        wrong += (truth @ e_values(bets))[bets.alive].max() > 1
    assert wrong / references <= 0.05


@pytest.mark.parametrize("truth", [(0.5, 0.3, 0.19, 0.01, 0.0), (0.96, 0.01, 0.01, 0.01, 0.01)])
def test_all_bets_on_categories_hold_for_nineteen_references_in_twenty(truth: tuple[float, ...]) -> None:
    """The same for a categorical stream, one category of which is not there or rare."""
    rng, wrong, bets = np.random.default_rng(0), 0, Bets([5], ordered=0)
    for _ in range(300):
        bets.calibrate(rng.multinomial(400, truth), 0.0)
        wrong += (np.asarray(truth) @ e_values(bets))[bets.alive].max() > 1
    assert wrong / 300 <= 0.05


def e_values(bets: Bets) -> np.ndarray:
    """Give every bet's e-value of one row in each bin of the first stream: (bins, bets)."""
    return np.exp([bets.log_e_values(row) for row in np.eye(bets.size, dtype=np.int64)[: bets.sizes[0]]])


def test_tolerance_makes_everything_within_it_null() -> None:
    """No distribution within the tolerance of the reference gains on any bet; one beyond it does."""
    bets = Bets([13], ordered=1)
    counts = np.array([0, *[10_000] * 10, 0, 0])
    bets.calibrate(counts, 0.3)
    f, values = np.array([*DECILES, 0.0]), e_values(bets)[:, bets.alive]
    rng = np.random.default_rng(0)
    for _ in range(200):
        direction = np.append(rng.normal(size=12), 0)
        near = f * np.append(tilted(f[:12], direction[:12], np.array(0.28)), 1)
        assert (near @ values).max() <= 1 + 1e-6
    far = f * np.append(tilted(f[:12], np.arange(12.0), np.array(0.8)), 1)
    assert (far @ values).max() > 1.1


@pytest.mark.parametrize(
    "counts", [(0,) * 13, (0,) * 12 + (500,), (0, *[0] * 9, 500, 0, 0), (0, 3, *[0] * 8, 2, 0, 0), (0, 1, *[0] * 11)]
)
def test_degenerate_references_give_finite_bets(counts: tuple[int, ...]) -> None:
    """Streams that are empty, constant, always missing or of a handful of rows have finite e-values, or no bets."""
    bets = Bets([13, 4], ordered=1)
    bets.calibrate(np.array([*counts, sum(counts), 0, 0, 0]), 0.0)
    assert np.isfinite(bets.log_e_values(np.array([*np.eye(13, dtype=int)[11], 0, 1, 0, 0]))).all()
    if sum(counts) == 0:
        assert not bets.alive.any()


def test_streams_without_numbers_have_bets_too() -> None:
    """A deployment may have categories alone."""
    bets = Bets([3, 4], ordered=0)
    bets.calibrate(np.array([50, 40, 0, 10, 20, 60, 0]), 0.0)
    assert bets.count == 3 * 7
    for first, second in product(range(3), range(4)):
        counts = np.concatenate([np.eye(3, dtype=int)[first], np.eye(4, dtype=int)[second]])
        assert np.isfinite(bets.log_e_values(counts)).all()
