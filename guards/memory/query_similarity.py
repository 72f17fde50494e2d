"""Detects attacks by queries: many rows of one client that are alike, and that do not drift as a film's frames do."""

from typing import TYPE_CHECKING, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor

from guards.memory.base import MemoryGuard, MemoryGuardParams, Step, Trace
from guards.memory.honest_clients import DRIFTING, KINDS, honest_queries
from guards.memory.likeness import likeness, likenesses
from guards.memory.row_codes import RowCodes
from guards.types import Batch, Reference

if TYPE_CHECKING:
    pass

__all__ = ["QuerySimilarity", "QuerySimilarityParams"]

CLIENTS = 48
"""How many honest clients of each kind are made of the calibration rows."""
LEVELS = np.array([0.005, 0.01, 0.018, 0.03, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0])
"""The p-values that are told apart: a p-value is rounded up to one of them."""
MOST_EVIDENCE = 1e6
"""Evidence grows no further than this multiple of the average run length, so that it fades once an attack is over."""
LARGEST_E_VALUE = 4.0
"""One query is never more evidence than this: honest clients ask rows that are alike several times in a row."""


def e_values(p: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Turn p-values into e-values: min(largest, c / sqrt(p)), whose integral over p from 0 to 1 is 1.

    The constant c solves 2 c - c^2 / largest = 1. Source: calibrators of Vovk & Wang 2021, "E-values: calibration,
    combination and applications".
    """
    c = LARGEST_E_VALUE * (1 - (1 - 1 / LARGEST_E_VALUE) ** 0.5)
    return np.minimum(LARGEST_E_VALUE, c / np.sqrt(p))


E_VALUES = e_values(LEVELS)


class QuerySimilarityParams(MemoryGuardParams):
    """Parameters of the guard that compares a client's queries."""

    kind: Literal["query_similarity"] = "query_similarity"
    neighbours: int = Field(
        default=8, ge=2, le=64, description="how many earlier queries of a client must be alike to be evidence"
    )


class QuerySimilarity(MemoryGuard):
    """Weighs how near a row is to the nearest earlier queries of its client, and whether those queries drift.

    A row's code is a coarse look at the row (:class:`guards.memory.row_codes.RowCodes`). Two p-values say how rare it
    is among honest clients that so many earlier queries are so near, and that queries so near drift so little. A
    client is honest if either explains its queries, so the larger p-value counts. The p-values become e-values, and a
    Shiryaev-Roberts e-detector adds them up (Shin, Ramdas, Rinaldo 2024, "E-detectors").
    """

    Params: ClassVar[type[MemoryGuardParams]] = QuerySimilarityParams
    params: QuerySimilarityParams
    blind_spots: ClassVar[str] = (
        "It sees attacks that need many queries about nearly the same row. It does not see an attack that was prepared "
        "on another model and needs one query, an attack whose queries are spread over so many accounts that each asks "
        "only a few, or an attack that hides each query among dozens of unrelated queries."
    )
    distance: Tensor
    drift: Tensor

    def __init__(self, params: QuerySimilarityParams) -> None:
        super().__init__(params)
        self.codes = RowCodes()
        self.register_buffer("distance", torch.empty(0, dtype=torch.float64))
        self.register_buffer("drift", torch.empty(0, dtype=torch.float64))
        self._tables: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]] | None = None
        self.register_load_state_dict_post_hook(lambda *_: self._forget_tables())

    def _forget_tables(self) -> None:
        self._tables = None

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
        window = self.params.window
        if len(clean) < 2 * window:
            raise ValueError(
                f"query_similarity needs at least {2 * window} calibration rows, twice its window, but there are "
                f"{len(clean)}: give more rows, or a smaller `window`"
            )
        distance, drift = [], []
        for place, kind in enumerate(KINDS):
            generator = torch.Generator().manual_seed(place)
            clients = [
                self.codes(honest_queries(kind, clean.x, self.codes, 3 * window, generator)).cpu().numpy()
                for _ in range(CLIENTS)
            ]
            seen = np.array([each for codes in clients for each in likenesses(codes, window, self.params.neighbours)])
            if kind in DRIFTING:
                drift.append(np.quantile(seen[:, 1], LEVELS))
            else:
                distance.append(np.quantile(seen[:, 0], LEVELS))
        device = clean.x.device
        self.distance = torch.from_numpy(np.min(distance, 0)).to(device)
        self.drift = torch.from_numpy(np.min(drift, 0)).to(device)
        self._forget_tables()
        return self

    def encode(self, batch: Batch) -> Tensor:
        """Give the code of each row: (n, w) float32."""
        codes: Tensor = self.codes(batch.x)
        return codes

    def step(self, code: npt.NDArray[np.float32], trace: Trace, elsewhere: float) -> Step:  # noqa: ARG002
        """Weigh one query by its likeness to the client's earlier queries."""
        if self._tables is None:
            self._tables = (self.distance.cpu().numpy(), self.drift.cpu().numpy())
        distances, drifts = self._tables
        like = likeness(code, trace.codes, self.params.neighbours)
        last = len(LEVELS) - 1
        place = min(max(distances.searchsorted(like.distance), drifts.searchsorted(like.drift)), last)
        most = MOST_EVIDENCE * self.params.average_run_length
        return Step(-float(np.log(LEVELS[place])), np.minimum((trace.state + 1) * E_VALUES[place], most))

    def evidence(self, state: npt.NDArray[np.float64]) -> float:
        """Give the Shiryaev-Roberts sum of the client's e-values."""
        return float(state[0])
