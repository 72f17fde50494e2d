"""How alike a client's queries are: how near the nearest of the last ones are, and whether they drift."""

from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["Likeness", "likeness", "likenesses"]

Floats = npt.NDArray[np.floating]
REACH = 1.25
"""The way goes through queries that are at most this much farther away than the k-th nearest query."""
STRAIGHT = 0.5
"""By how much a straight line must explain a way better than an angle does to count as the same drift."""
NOWHERE = -1.0
"""The drift of a way without length."""
TINY = float(np.finfo(np.float64).tiny)


class Likeness(NamedTuple):
    """What a query has in common with its client's last queries.

    ``distance`` is the Euclidean distance to the k-th nearest of the last 2 k queries, as a multiple of the query's
    sparseness, infinite if there are fewer than k. ``drift`` says how much the last k queries at about this distance
    are a way that leads to this query: 1 if the way is straight, and about -1/3 if the queries are scattered around one
    point.
    """

    distance: float
    drift: float


def likeness(code: Floats, earlier: Floats, neighbours: int, enough: float = np.inf, last: int = 2) -> Likeness:
    """Compare the code (w,) of a query with those (m, w) of earlier queries, oldest first; ``neighbours`` is k.

    The drift is the larger of two figures. The first is the mean cosine of the angle between consecutive steps ("GWAD",
    arXiv 2503.02986): it is high on a way with corners. The second is the share of the way's variance that a straight
    line in time explains, less 1/2: it is high on a way with noise. Only queries that are near count, so that two films
    which one client sends in turns are two ways. At a distance above ``enough`` the drift is not computed, and is 1.
    """
    if len(earlier) < neighbours:
        return Likeness(np.inf, 1.0)
    way = (earlier[-last * neighbours :] - code)[:, :-1]
    squares = np.einsum("ij,ij->i", way, way)
    farthest = float(np.partition(squares, neighbours - 1)[neighbours - 1])
    distance = farthest**0.5 / float(code[-1])
    if distance > enough:
        return Likeness(distance, 1.0)
    return Likeness(distance, float(_drifts(way[(squares <= farthest * REACH**2).nonzero()[0][-neighbours:]])))


def _drifts(ways: Floats) -> npt.NDArray[np.float64]:
    """Say how much the points (..., n, w) of ways that end at zero drift: (...,).

    All lengths and angles of a way follow from the dot products of its points.
    """
    count = ways.shape[-2]
    steps, times = _steps_and_times(count)
    points = ways.astype(np.float64)
    dots = points @ points.swapaxes(-1, -2)
    of_steps = steps @ dots @ steps.T
    lengths = np.sqrt(np.maximum(of_steps.diagonal(0, -2, -1), TINY))
    cosines = of_steps.diagonal(1, -2, -1) / (lengths[..., 1:] * lengths[..., :-1])
    variance = dots.trace(0, -2, -1) - dots.sum((-2, -1)) / (count + 1)
    explained = ((dots @ times) * times).sum(-1) / np.maximum(variance, TINY)
    drifts: npt.NDArray[np.float64] = np.maximum(cosines.sum(-1) / (count - 1), explained - STRAIGHT)
    # Points that are all the same lead nowhere.
    return np.where(lengths.max(-1) > TINY**0.5, drifts, NOWHERE)


@cache
def _steps_and_times(count: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Give the matrix (n, n) that turns n points before zero into n steps, and centred times (n,) of unit length."""
    times = np.arange(count + 1) - count / 2
    unit: npt.NDArray[np.float64] = (times[:-1] / float(np.linalg.norm(times))).astype(np.float64)
    return np.eye(count, k=1) - np.eye(count), unit


def likenesses(codes: Floats, window: int, neighbours: int, last: int = 2) -> npt.NDArray[np.float64]:
    """Compare each of one client's queries (n, w) with the queries before it: (n, 2), each row a :class:`Likeness`.

    The first 2 k queries have NaN. An exact repeat of one of the last ``window`` queries, which the watch leaves out,
    has NaN, too, and is not remembered.
    """
    found = np.full((len(codes), 2), np.nan)
    new = _new(codes, window)
    last *= neighbours
    if len(new) <= last:
        return found
    codes = codes[new]
    earlier = np.lib.stride_tricks.sliding_window_view(codes[:-1], last, axis=0).swapaxes(1, 2)
    ways = (earlier - codes[last:, None])[..., :-1].astype(np.float64)
    squares = np.einsum("nij,nij->ni", ways, ways)
    farthest = np.partition(squares, neighbours - 1)[:, neighbours - 1]
    # The last k places within reach come last if each place out of reach sorts as the place -1.
    places = np.where(squares <= farthest[:, None] * REACH**2, np.arange(last), -1)
    chosen = np.sort(places, axis=1)[:, -neighbours:, None]
    found[new[last:], 0] = np.sqrt(farthest) / codes[last:, -1]
    found[new[last:], 1] = _drifts(np.take_along_axis(ways, chosen, axis=1))
    return found


def _new(codes: Floats, window: int) -> npt.NDArray[np.int64]:
    """Give the places of the queries (n, w) that repeat none of the last ``window`` queries."""
    places: list[int] = []
    last: dict[bytes, int] = {}
    for place, code in enumerate(codes):
        name = code.tobytes()
        if name not in last or len(places) - last[name] > window:
            last[name] = len(places)
            places.append(place)
    return np.array(places, np.int64)
