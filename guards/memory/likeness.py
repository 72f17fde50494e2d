"""How alike a client's queries are: how near the nearest of the last ones are, and whether they drift."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["Likeness", "likeness", "likenesses"]

Floats = npt.NDArray[np.floating]
LAST = 2
"""How many of a client's last queries are compared, as a multiple of k."""
REACH = 1.25
"""The way goes through queries that are at most this much farther away than the k-th nearest query."""
STRAIGHT = 0.5
"""By how much a straight line must explain a way better than an angle does to count as the same drift."""
TINY = float(np.finfo(np.float32).tiny)


class Likeness(NamedTuple):
    """What a query has in common with its client's last queries.

    ``distance`` is the Euclidean distance to the k-th nearest of the last 2 k queries, as a multiple of the query's
    sparseness, infinite if there are fewer than k. ``drift`` says how much the last k queries at about this distance are a way that leads to this query: 1 if the
    way is straight, and about -1/3 if the queries are scattered around one point.
    """

    distance: float
    drift: float


def likeness(code: Floats, earlier: Floats, neighbours: int) -> Likeness:
    """Compare the code (w,) of a query with those (m, w) of earlier queries, oldest first; ``neighbours`` is k.

    The drift is the larger of two figures. The first is the mean cosine of the angle between consecutive steps ("GWAD",
    arXiv 2503.02986): it is high on a way with corners. The second is the share of the way's variance that a straight
    line in time explains, less 1/2: it is high on a way with noise. Only queries that are near count, so that two films
    which one client sends in turns are two ways.
    """
    if len(earlier) < neighbours:
        return Likeness(np.inf, -1.0)
    way = (earlier[-LAST * neighbours :] - code)[:, :-1]
    squares = np.einsum("ij,ij->i", way, way)
    farthest = float(np.partition(squares, neighbours - 1)[neighbours - 1])
    way = way[np.flatnonzero(squares <= farthest * REACH**2)[-neighbours:]]
    return Likeness(farthest**0.5 / float(code[-1]), _drift(np.concatenate([way, np.zeros_like(way[:1])])))


def _drift(way: Floats) -> float:
    """Say how much the points (n, w) of a way drift."""
    steps = way[1:] - way[:-1]
    lengths = np.sqrt(np.einsum("ij,ij->i", steps, steps))
    turns = np.einsum("ij,ij->i", steps[1:], steps[:-1])
    cosine = (turns / np.maximum(lengths[1:] * lengths[:-1], TINY)).mean()
    centred = way - way.mean(0)
    times = np.arange(len(way), dtype=way.dtype) - (len(way) - 1) / 2
    slope = times @ centred
    explained = slope @ slope / max(float(times @ times) * float(np.vdot(centred, centred)), TINY)
    return float(max(cosine, explained - STRAIGHT))


def likenesses(codes: Floats, window: int, neighbours: int) -> npt.NDArray[np.float64]:
    """Compare each of one client's queries (n, w) with the queries before it: (n, 2), each row a :class:`Likeness`.

    An exact repeat of one of the last ``window`` queries, which the watch leaves out, has NaN, and is not remembered.
    """
    found = np.full((len(codes), 2), np.nan)
    known = np.empty((0, codes.shape[1]), codes.dtype)
    for place, code in enumerate(codes):
        if not (known == code).all(1).any():
            found[place] = likeness(code, known, neighbours)
            known = np.concatenate([known[-window + 1 :], code[None]])
    return found
