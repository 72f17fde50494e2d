"""Evidence that queries of several clients are one attack: queries that are alike, one after another."""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from guards.memory.crowd import Crowd, Queries
from guards.memory.evidence import E_VALUES, LEVELS

__all__ = ["CROWD_LEVELS", "Among", "CrowdRule", "fitted_rule", "judged_among"]

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.float32]
Owners = npt.NDArray[np.uint64]
CROWD_LEVELS = LEVELS[LEVELS <= 0.1]  # noqa: PLR2004 - a p-value above this is taken for 1
LAST = 2048
"""The most queries of all clients that are compared."""
TIMES = 4
"""How many queries are compared for each calibration row, at most."""
TURNS = 10
"""How many queries the made clients ask together, as a multiple of the queries that are compared."""
AT_ONCE = 256
CLIENTS = 4
"""From at least so many clients the queries that are alike must come: one client's film is no attack of several."""
STRICTER = 0.05
"""By how much the distances become smaller until the calibration rows raise no more evidence than they may."""
MOST_ROWS = 2000
MOST_NEAR = 256
"""So many near queries of other clients are looked at, at most, the latest ones: an attack may not make this slow."""
MOST_EVIDENCE = 1e300
"""Evidence grows no further than this, so that it stays finite."""


class Among(NamedTuple):
    """What the queries of other clients say of n queries.

    ``evidence`` (n,) is the evidence that a query belongs to an attack of several clients; ``before`` (n,) is the
    evidence of the last query of another client that is alike.
    """

    evidence: Floats
    before: Floats


class CrowdRule(NamedTuple):
    """``neighbours`` queries of other clients at less than ``distances`` (l,), as multiples of a query's sparseness.

    A distance belongs to each of :data:`CROWD_LEVELS`. ``size`` is how many last queries of all clients are compared.
    """

    neighbours: int
    distances: Floats
    size: int

    def among(
        self,
        codes: npt.NDArray[np.float32],
        owners: npt.NDArray[np.uint64],
        repeats: npt.NDArray[np.bool_],
        crowd: Crowd,
    ) -> Among:
        """Weigh queries (n, w) of clients ``owners`` (n,), in order, by the queries of other clients before them.

        If enough queries of other clients are near to a query, the query adds to the evidence of the latest of those.
        So the evidence follows an attack from account to account. ``repeats`` are exact repeats: no query is near to
        a repeat.
        """
        n, most = len(codes), max(1, self.neighbours // CLIENTS)
        evidence, before = np.full(n, E_VALUES[-1]), np.zeros(n)
        if len(crowd) + n <= self.neighbours:
            return Among(evidence, before)
        points = codes.copy()
        points[:, -1] = 1.0
        points[:, :-1] *= -2.0
        squares = np.einsum("ij,ij->i", codes[:, :-1], codes[:, :-1])
        reach = ((self.distances[-1] * codes[:, -1]) ** 2).astype(np.float32)
        # The squared distance is |a|^2 + |b|^2 - 2 a b; |a|^2 stands on the other side of the comparison.
        limits = (reach - squares)[:, None]
        held = points @ crowd.points.T
        asked = points[:, :-1] @ codes[:, :-1].T + squares
        near_held, near_asked = held < limits, (asked < limits) & np.tri(n, k=-1, dtype=np.bool_) & ~repeats
        enough = np.count_nonzero(near_held, axis=1) + np.count_nonzero(near_asked, axis=1) >= self.neighbours
        for row in (enough & ~repeats).nonzero()[0]:
            there, here = near_held[row].nonzero()[0], near_asked[row].nonzero()[0]
            there, here = there[crowd.owners[there] != owners[row]], here[owners[here] != owners[row]]
            if len(there) + len(here) < self.neighbours:
                continue
            if len(there) > MOST_NEAR:
                there = there[np.argpartition(crowd.times[there], -MOST_NEAR)[-MOST_NEAR:]]
            near = np.concatenate([held[row, there], asked[row, here]])
            near = near[_first_of_each(np.concatenate([crowd.owners[there], owners[here]]), near, most)]
            if len(near) < self.neighbours:
                continue
            nearest = np.partition(near, self.neighbours - 1)[self.neighbours - 1] + squares[row]
            farthest = max(float(nearest), 0.0) ** 0.5
            place = int(self.distances.searchsorted(farthest / codes[row, -1], side="right"))
            if place == len(self.distances):
                continue
            before[row] = evidence[here[-1]] if len(here) else crowd.evidence[there[crowd.times[there].argmax()]]
            evidence[row] = min((before[row] + 1) * E_VALUES[place], MOST_EVIDENCE)
        return Among(evidence, before)


def judged_among(
    among: Callable[[Codes, Owners, npt.NDArray[np.bool_], Crowd], Among], queries: Queries, crowd: Crowd
) -> Among:
    """Weigh queries by ``among``; an exact repeat of a query in the crowd, or here, has that query's evidence."""
    held = [crowd.place(digest) for digest in queries.digests]
    first: dict[int, int] = {}
    here = [first.setdefault(digest, row) for row, digest in enumerate(queries.digests)]
    repeats = np.array([place is not None or here[row] < row for row, place in enumerate(held)])
    found = among(queries.codes, queries.owners, repeats, crowd)
    evidence, before = found.evidence.copy(), found.before.copy()
    for row in repeats.nonzero()[0]:
        place = held[row]
        evidence[row] = before[row] = evidence[here[row]] if place is None else crowd.evidence[place]
    return Among(evidence, before)


def _first_of_each(
    owners: npt.NDArray[np.uint64], distances: npt.NDArray[np.float32], most: int
) -> npt.NDArray[np.intp]:
    """Give the places of the nearest queries (n,), at most so many of each owner."""
    order = np.lexsort((distances, owners))
    grouped = owners[order]
    first = np.flatnonzero(np.append(True, grouped[1:] != grouped[:-1]))
    rank = np.arange(len(order)) - np.repeat(first, np.diff(np.append(first, len(order))))
    return order[rank < most]


def fitted_rule(rows: Codes, clients: Codes, neighbours: int) -> CrowdRule:
    """Learn how near queries are that clients ask independently of one another.

    ``rows`` (n, w) are the codes of calibration rows, and ``clients`` (c, q, w) those of the queries of honest clients.
    The k-th nearest of m independent rows is about as far away as the (k n / m)-th nearest of n. Distances then shrink
    until the clients, who ask in turns, raise no more evidence than so many queries may. With fewer rows, fewer queries
    are compared, so that the clients ask about each row a few times only.
    """
    rows = np.unique(rows[:MOST_ROWS], axis=0)
    n = len(rows)
    size = min(LAST, TIMES * n)
    k = max(1, neighbours * n // size)
    points = rows[:, :-1].astype(np.float64)
    squares = np.einsum("ij,ij->i", points, points)
    apart = np.maximum(squares[:, None] + squares - 2 * points @ points.T, 0.0)
    np.fill_diagonal(apart, np.inf)
    nearest = np.partition(apart, k - 1, axis=1)[:, k - 1] ** 0.5 / rows[:, -1]
    rule = CrowdRule(neighbours, np.quantile(nearest, CROWD_LEVELS, method="lower"), size)
    asked = clients[:, : TURNS * size // len(clients)]
    while _most_evidence(rule, asked) >= asked.shape[0] * asked.shape[1]:
        rule = rule._replace(distances=rule.distances * (1 - STRICTER))
    return rule


def _most_evidence(rule: CrowdRule, clients: Codes) -> float:
    """Let clients (c, q, w) ask in turns, and give the most evidence that the rule finds."""
    codes = clients.swapaxes(0, 1).reshape(-1, clients.shape[2])
    owners = np.tile(np.arange(len(clients), dtype=np.uint64), clients.shape[1])
    first = dict.fromkeys(code.tobytes() for code in codes)
    numbers = {name: number for number, name in enumerate(first)}
    digests = [numbers[code.tobytes()] for code in codes]
    crowd, most = Crowd(codes.shape[1], rule.size), 0.0
    for start in range(0, len(codes), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        queries = Queries(codes[part], digests[part], owners[part], np.zeros(len(codes[part])))
        evidence, _ = judged_among(rule.among, queries, crowd)
        crowd.add(replace(queries, evidence=evidence))
        most = max(most, float(evidence.max()))
    return most
