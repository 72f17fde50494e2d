"""Confidence sequences: intervals that hold at all times at once, so that they may be read at any time.

Each interval is a function of sums alone (rows, hits, integer totals), so that neither the order of the rows nor the
process that counted them matters. An interval contains the values of a parameter against which the evidence stays
below 1 / alpha. Under the true value the evidence is a nonnegative (super)martingale, so by Ville's inequality the
probability that the interval ever misses the true value is at most alpha. All functions are vectorised: they take
arrays and return arrays (...,) of lower and upper bounds.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch

__all__ = ["asymptotic_mean_interval", "crossing", "log_beta", "mean_interval", "rate_interval"]

Floats = npt.NDArray[np.float64]
STEPS = 48
JEFFREYS = 0.5
BETS = 0.8 * 0.4 ** np.arange(10)
"""Stakes of bets on a mean, geometrically spaced: for up to about 1e8 rows one of them is near the best stake."""
TIGHTEST = 500
"""The number of rows for which the asymptotic interval is tuned: there it is nearest to a fixed-sample interval."""


def log_beta(a: Floats, b: Floats) -> Floats:
    """Compute the logarithm of the beta function."""
    x, y = torch.from_numpy(np.asarray(a, np.float64)), torch.from_numpy(np.asarray(b, np.float64))
    return np.asarray((torch.lgamma(x) + torch.lgamma(y) - torch.lgamma(x + y)).numpy(), np.float64)


def rate_interval(hits: npt.ArrayLike, n: npt.ArrayLike, alpha: npt.ArrayLike = 0.05) -> tuple[Floats, Floats]:
    """Bound a probability, given ``hits`` among ``n`` trials; without trials the bounds are 0 and 1.

    The evidence is the beta-binomial mixture with Jeffreys' prior. Robbins 1970, "Statistical methods related to the
    law of the iterated logarithm"; Howard et al. 2021, "Time-uniform, nonparametric, nonasymptotic confidence
    sequences"; Waudby-Smith & Ramdas 2023, "Estimating means of bounded random variables by betting".

    >>> low, high = rate_interval(30, 100)
    >>> f"{low:.3f} {high:.3f}"
    '0.166 0.463'
    """
    h, rows = np.broadcast_arrays(np.asarray(hits, np.float64), np.asarray(n, np.float64))
    rate = np.divide(h, rows, out=np.full(h.shape, 0.5), where=rows > 0)
    marginal = log_beta(JEFFREYS + h, JEFFREYS + rows - h) - log_beta(np.array(JEFFREYS), np.array(JEFFREYS))

    def evidence(p: Floats) -> Floats:
        with np.errstate(divide="ignore", invalid="ignore"):
            likelihood = np.where(h > 0, h * np.log(p), 0.0) + np.where(rows > h, (rows - h) * np.log1p(-p), 0.0)
        return np.asarray(marginal - likelihood, np.float64)

    bar = np.broadcast_to(-np.log(alpha), h.shape)
    return (
        crossing(evidence, bar, inside=rate, outside=np.zeros(h.shape)),
        crossing(evidence, bar, inside=rate, outside=np.ones(h.shape)),
    )


def mean_interval(
    total: npt.ArrayLike, squares: npt.ArrayLike, n: npt.ArrayLike, bounds: tuple[float, float], alpha: float = 0.05
) -> tuple[Floats, Floats]:
    """Bound the mean of values that lie within ``bounds``, given their ``total`` and the sum of their ``squares``.

    For x >= -1 and 0 <= b < 1, exp(b x + (b + log(1 - b)) x^2) <= 1 + b x (Fan, Grama & Liu 2015, "Exponential
    inequalities for martingales with applications"). So for each bet b the product over centred values is a
    supermartingale that adapts to the variance of the values. The evidence is the mean of these products over bets of
    both signs, as in Howard et al. 2021.
    """
    s, q, rows = (np.asarray(v, np.float64) for v in np.broadcast_arrays(total, squares, n))
    low, high = bounds
    mean = np.clip(np.divide(s, rows, out=np.full(s.shape, (low + high) / 2), where=rows > 0), low, high)
    penalty = BETS + np.log1p(-BETS)

    def evidence(mu: Floats) -> Floats:
        first = ((s - rows * mu) / (high - low))[..., None]
        second = np.maximum(0.0, (q - 2 * mu * s + rows * mu * mu) / (high - low) ** 2)[..., None]
        sides = np.concatenate([BETS * first + penalty * second, -BETS * first + penalty * second], axis=-1)
        return np.asarray(np.logaddexp.reduce(sides, axis=-1) - np.log(2 * len(BETS)), np.float64)

    bar = np.full(s.shape, -np.log(alpha))
    return (
        crossing(evidence, bar, inside=mean, outside=np.full(s.shape, low)),
        crossing(evidence, bar, inside=mean, outside=np.full(s.shape, high)),
    )


def asymptotic_mean_interval(
    mean: npt.ArrayLike, variance: npt.ArrayLike, n: npt.ArrayLike, alpha: float = 0.05
) -> tuple[Floats, Floats]:
    """Bound the mean of unbounded values, given their ``mean`` and ``variance``; valid only asymptotically in ``n``.

    Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas 2024, "Time-uniform central limit theory and asymptotic confidence
    sequences", theorem 2.2 and equation (10).
    """
    m, v, rows = (np.asarray(a, np.float64) for a in np.broadcast_arrays(mean, variance, n))
    rho2 = (-2 * np.log(alpha) + np.log(1 - 2 * np.log(alpha))) / TIGHTEST
    rows = np.maximum(rows, 1.0)
    scale = rows * rho2 + 1
    half = np.sqrt(v * 2 * scale / (rows * rows * rho2) * np.log(np.sqrt(scale) / alpha))
    return m - half, m + half


def crossing(
    evidence: Callable[[Floats], Floats], bar: Floats, *, inside: Floats, outside: Floats, steps: int = STEPS
) -> Floats:
    """Find by bisection where the evidence crosses ``bar`` between two ends, and give the outer side of the crossing.

    If the evidence at the ``outside`` end is below ``bar``, that end is the bound.
    """
    held, far = inside.astype(np.float64), outside.astype(np.float64)
    for _ in range(steps):
        middle = (held + far) / 2
        under = evidence(middle) < bar
        held, far = np.where(under, middle, held), np.where(under, far, middle)
    return np.where(evidence(outside) < bar, outside, far)
