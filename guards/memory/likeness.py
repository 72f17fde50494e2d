"""How alike a client's queries are: how near the nearest earlier ones are, and whether they drift."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["Likeness", "likeness", "likenesses"]

Floats = npt.NDArray[np.floating]


class Likeness(NamedTuple):
    """What a query has in common with its client's earlier queries.

    ``distance`` is the Euclidean distance to the k-th nearest of them, infinite if there are fewer. ``drift`` is the
    mean cosine of the angle between consecutive steps of the way through these k queries, in the order in which they
    were asked, to this query: 1 on a straight way, about -1/2 if the queries are scattered around one point.
    """

    distance: float
    drift: float


def likeness(code: Floats, earlier: Floats, neighbours: int) -> Likeness:
    """Compare the code (w,) of a query with those (m, w) of earlier queries, oldest first.

    The drift follows "GWAD" (arXiv 2503.02986), which takes the directions of all consecutive differences. Here only
    the nearest queries count, so that unrelated queries in between do not hide the direction.
    """
    if len(earlier) < neighbours:
        return Likeness(np.inf, 0.0)
    differences = earlier - code
    squares = np.einsum("ij,ij->i", differences, differences)
    nearest = squares.argpartition(neighbours - 1)[:neighbours]
    way = np.zeros((neighbours + 1, len(code)), differences.dtype)
    way[:-1] = differences[np.sort(nearest)]
    steps = way[1:] - way[:-1]
    lengths = np.sqrt(np.einsum("ij,ij->i", steps, steps))
    turns = np.einsum("ij,ij->i", steps[1:], steps[:-1])
    cosines = turns / np.maximum(lengths[1:] * lengths[:-1], np.finfo(np.float32).tiny)
    return Likeness(float(squares[nearest[-1]]) ** 0.5, float(cosines.mean()))


def likenesses(codes: Floats, window: int, neighbours: int) -> Iterator[Likeness]:
    """Compare each of one client's queries (n, w) with the ``window`` queries before it, once there are so many.

    An exact repeat is left out, as the watch leaves it out.
    """
    for place in range(window, len(codes)):
        earlier = codes[place - window : place]
        if not (earlier == codes[place]).all(1).any():
            yield likeness(codes[place], earlier, neighbours)
