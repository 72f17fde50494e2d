"""Detects attacks by queries: many rows of one client that are alike, and that do not drift as a film's frames do."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor

from guards.memory.base import MemoryGuard, MemoryGuardParams, Step, Trace
from guards.memory.crowd import Crowd
from guards.memory.crowd_evidence import Among, CrowdRule, fitted_rule
from guards.memory.evidence import CAUTIOUS, E_VALUES, LEVELS, detected
from guards.memory.honest_clients import DRIFTING, KINDS, honest_queries
from guards.memory.likeness import likeness, likenesses
from guards.memory.row_codes import RowCodes
from guards.types import Batch, Reference

__all__ = ["QuerySimilarity", "QuerySimilarityParams"]

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.float32]
CLIENTS, QUERIES = 40, 400
"""How many honest clients of each kind are made of the calibration rows, and how many queries each asks."""
TOGETHER = 20
"""How many of these clients of each kind ask in turns, to see what the queries of several clients have in common."""
PLACES = len(LEVELS) - 1
BETS = ((2, E_VALUES, 1e6), (8, CAUTIOUS, 8.0))
"""Two e-detectors, whose mean is one.

A bold one compares the last 2 k queries. A cautious one compares the last 8 k, so that unrelated queries between those
of an attack do not hide the attack. The last number bounds the evidence, as a multiple of the average run length, so
that the evidence fades once an attack is over.
"""
STRICTER = 0.05
"""By how much the tables become stricter until no made client raises more evidence than it may."""

MARGIN = 0.1
"""By how much less than in the made films a way must drift to be no film: few films are made, others are noisier."""


class QuerySimilarityParams(MemoryGuardParams):
    """Parameters of the guard that compares a client's queries."""

    kind: Literal["query_similarity"] = "query_similarity"
    neighbours: int = Field(
        default=8, ge=3, le=64, description="how many earlier queries of a client must be alike to be evidence"
    )
    crowd: int = Field(
        default=16,
        ge=0,
        le=1024,
        description="how many queries of other clients, of the last 4,096 queries of all clients, must be alike to be "
        "evidence; more than clients ask about one popular row with small changes; 0: clients are not compared",
    )


class QuerySimilarity(MemoryGuard):
    """Weighs how near a row is to the nearest earlier queries of its client, and whether those queries drift.

    A row's code is a coarse look at the row (:class:`guards.memory.row_codes.RowCodes`). A p-value says how rare it is
    among honest clients that several of the last queries are so near. It is 1 if the queries drift, as a film's frames
    do. The p-values become e-values, and a Shiryaev-Roberts e-detector adds them up. Consecutive queries of an honest
    client are not independent. So the distances that count as near shrink, and what counts as a drift grows, until the
    evidence against honest clients, made of calibration rows, stays within what the average run length promises.

    The queries of all clients together are weighed by :class:`guards.memory.crowd_evidence.CrowdRule`.
    """

    Params: ClassVar[type[MemoryGuardParams]] = QuerySimilarityParams
    params: QuerySimilarityParams
    state_size: ClassVar[int] = len(BETS)
    blind_spots: ClassVar[str] = (
        "It sees attacks that need many queries about nearly the same row. It does not see an attack that was prepared "
        "on another model and needs one query, an attack over many accounts that is less than 1 % of all queries, or "
        "an attack that hides each query among many unrelated queries."
    )
    distances: Tensor
    drift: Tensor
    crowd_distances: Tensor
    compared: Tensor

    def __init__(self, params: QuerySimilarityParams) -> None:
        super().__init__(params)
        self.codes = RowCodes()
        self.register_buffer("distances", torch.empty((0, 0), dtype=torch.float64))
        self.register_buffer("drift", torch.ones(len(BETS), dtype=torch.float64))
        self.register_buffer("crowd_distances", torch.empty(0, dtype=torch.float64))
        self.register_buffer("compared", torch.tensor(0, dtype=torch.int64))
        self._tables: list[tuple[Floats, float]] | None = None
        self._rule: CrowdRule | None = None

    @property
    def crowd_size(self) -> int:
        """How many last queries of all clients are compared."""
        return self._crowd_rule.size

    @property
    def width(self) -> int:
        """How many numbers a code has."""
        return self.codes.width

    def fit(self, reference: Reference) -> Self:
        """Learn the principal components of a coarse look at the rows, from rows the model may have been trained on.

        Raises:
            ValueError: the rows are all alike, or fewer than two.
        """
        self.codes.fit(reference.batch.x, reference.schema)
        return self

    def calibrate(self, clean: Batch) -> Self:
        """Learn how near and how drifting the queries of honest clients are, of each kind.

        Raises:
            ValueError: there are fewer rows than twice the window.
        """
        if len(clean) < 2 * self.params.window:
            raise ValueError(
                f"query_similarity needs at least {2 * self.params.window} calibration rows, twice its window, but "
                f"there are {len(clean)}: give more rows, or a smaller `window`"
            )
        codes = {kind: self._honest_clients(kind, place, clean.x) for place, kind in enumerate(KINDS)}
        self._tables = [self._table(codes, last, e_values) for last, e_values, _ in BETS]
        self.distances = torch.from_numpy(np.stack([distances for distances, _ in self._tables])).to(clean.x.device)
        self.drift = torch.tensor([drift for _, drift in self._tables], dtype=torch.float64, device=clean.x.device)
        if self.params.crowd:
            together = np.concatenate([asked[:TOGETHER] for asked in codes.values()])
            self._rule = fitted_rule(self.codes(clean.x).cpu().numpy(), together, self.params.crowd)
            self.crowd_distances = torch.from_numpy(self._rule.distances).to(clean.x.device)
            self.compared = torch.tensor(self._rule.size, device=clean.x.device)
        return self

    def _table(self, codes: Mapping[str, Codes], last: int, e_values: Floats) -> tuple[Floats, float]:
        """Find the distances that count as near and the drift of a film, from codes (clients, n, w) of each kind."""
        seen = {kind: self._likenesses(asked, last) for kind, asked in codes.items()}
        apart = [each for kind, each in seen.items() if kind not in DRIFTING]
        distances = np.min([np.nanquantile(_finite(each[..., 0]), LEVELS) for each in apart], axis=0)
        while not all(_kept(each, distances, np.inf, e_values) for each in apart):
            distances *= 1 - STRICTER
        drift = 1.0
        while not all(_kept(seen[kind], distances, drift, e_values) for kind in DRIFTING):
            drift -= STRICTER
        return distances, drift - MARGIN

    def encode(self, batch: Batch) -> Tensor:
        """Give the code of each row: (n, w) float32."""
        codes: Tensor = self.codes(batch.x)
        return codes

    def step(self, code: npt.NDArray[np.float32], trace: Trace) -> Step:
        """Weigh one query by its likeness to the client's earlier queries."""
        if self._tables is None:
            self._tables = list(zip(self.distances.cpu().numpy(), self.drift.tolist(), strict=True))
        state, score = trace.state.copy(), 0.0
        for bet, ((last, e_values, most), (distances, drift)) in enumerate(zip(BETS, self._tables, strict=True)):
            enough = float(distances[-2])  # a p-value of 1, whatever the drift
            like = likeness(code, trace.codes, self.params.neighbours, enough, last)
            place = PLACES if like.drift > drift else min(int(distances.searchsorted(like.distance)), PLACES)
            state[bet] = min((state[bet] + 1) * e_values[place], most * self.params.average_run_length)
            score = max(score, -float(np.log(LEVELS[place])))
        return Step(score, state)

    def among(
        self,
        codes: npt.NDArray[np.float32],
        owners: npt.NDArray[np.uint64],
        repeats: npt.NDArray[np.bool_],
        crowd: Crowd,
    ) -> Among:
        """Weigh queries by their likeness to the queries of other clients."""
        return self._crowd_rule.among(codes, owners, repeats, crowd)

    @property
    def _crowd_rule(self) -> CrowdRule:
        if self._rule is None:
            self._rule = CrowdRule(self.params.crowd, self.crowd_distances.cpu().numpy(), int(self.compared))
        return self._rule

    def evidence(self, state: Floats) -> float:
        """Give the mean of the Shiryaev-Roberts sums of the client's e-values."""
        return float(state.mean())

    def _load_from_state_dict(self, *arguments: Any, **named: Any) -> None:  # noqa: ANN401 - torch's own
        super()._load_from_state_dict(*arguments, **named)
        self._tables = self._rule = None

    def _honest_clients(self, kind: str, seed: int, rows: Tensor) -> npt.NDArray[np.float32]:
        """Give the codes (clients, n, w) of the queries of made clients of a kind."""
        generator = torch.Generator().manual_seed(seed)
        made = [self.codes(honest_queries(kind, rows, self.codes, QUERIES, generator)) for _ in range(CLIENTS)]
        return torch.stack(made).cpu().numpy()

    def _likenesses(self, clients: Codes, last: int) -> Floats:
        """Give the likenesses (clients, n, 2) of queries (clients, n, w) to the last k times so many queries."""
        window, k = self.params.window, self.params.neighbours
        return np.stack([likenesses(codes, window, k, last) for codes in clients])


def _finite(distances: Floats) -> Floats:
    return np.where(np.isfinite(distances), distances, np.nan)


def _kept(seen: Floats, distances: Floats, drift: float, bets: Floats) -> bool:
    """Say whether evidence against honest clients with likenesses (clients, n, 2) stays below the number of queries.

    Evidence that an e-detector's honest clients raise exceeds a value once in so many queries on average, at most.
    """
    places = np.minimum(distances.searchsorted(seen[..., 0]), PLACES)
    e_values = np.where(np.isnan(seen[..., 0]), np.nan, bets[np.where(seen[..., 1] > drift, PLACES, places)])
    return bool(detected(e_values).max() < e_values.size)
