"""The base class of guards with memory, which judge a row by the rows that its client asked before.

A detector sees one row alone. Attackers without the model's weights need hundreds of queries about nearly the same row,
and only the sequence of a client's queries shows them. So a guard with memory has a role of its own: it sees the rows
that clients really asked, in order, never padding and never a row that is computed again.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field
from torch import Tensor, nn

from guards.actions import Action
from guards.detectors.base import Params
from guards.memory.crowd import Crowd
from guards.memory.crowd_evidence import Among
from guards.types import Batch, Reference

if TYPE_CHECKING:
    from guards.input.schema import InputSchema

__all__ = ["WIDEST", "MemoryGuard", "MemoryGuardParams", "Step", "Trace"]

WIDEST = 14
"""The most numbers in a code: with the row's digest, a remembered query takes 64 bytes."""
Floats = npt.NDArray[np.floating]


class MemoryGuardParams(Params):
    """The parameters of every guard with memory; a subclass narrows ``kind`` to a literal."""

    name: str = Field(pattern=r"^[A-Za-z0-9_-]+$", description="the guard's name in answers, metrics and logs")
    kind: str
    action: Literal["flag", "abstain", "reject"] = Field(
        default="flag",
        description="what a row gets while the evidence against its client stands: flag: an answer with the reason; "
        "abstain, reject: no label",
    )
    visible: bool = Field(
        default=False,
        description="true: answers show the guard's flags; an attacker who sees them learns how to stay below them",
    )
    on_evidence: Literal["nothing", "blur"] = Field(
        default="nothing",
        description="blur: while the evidence against a client stands, this client gets probabilities in coarse steps, "
        "with the same label; nothing: probabilities stay as they are",
    )
    average_run_length: float = Field(
        default=1e5, ge=100, description="queries of an honest client, on average, until its first false alarm"
    )
    window: int = Field(default=64, ge=8, le=1024, description="how many of a client's last queries are remembered")

    @property
    def flag_action(self) -> Action:
        """What a flag does."""
        return Action[self.action.upper()]


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """What is remembered of a client: its last queries, oldest first, and the guard's ``state`` (s,) after them.

    ``codes`` is (m, w) float32. ``digests`` are hashes of the rows' bytes, by which an exact repeat is known.
    """

    codes: npt.NDArray[np.float32]
    digests: tuple[int, ...]
    state: npt.NDArray[np.float64]

    def after(self, code: npt.NDArray[np.float32], digest: int, state: npt.NDArray[np.float64], most: int) -> "Trace":
        """Return the trace after one more query, without its oldest query if there are more than ``most``."""
        codes = np.concatenate([self.codes[-most + 1 :], code[None]])
        return Trace(codes, (*self.digests[-most + 1 :], digest), state)


class Step(NamedTuple):
    """What one query adds: its ``score``, larger is stranger, and the state of its client's trace after the query."""

    score: float
    state: npt.NDArray[np.float64]


class MemoryGuard(nn.Module, ABC):
    """Weighs the evidence that a client's queries are an attack. Fitted state lives in buffers, as a detector's does.

    The guard itself remembers nothing: :class:`guards.memory.history.History` does, so that a batch may be judged again
    and several servers may share what they remember.
    """

    Params: ClassVar[type[MemoryGuardParams]]
    needs_output: ClassVar[bool] = False
    """Whether ``encode`` reads ``batch.output``."""
    state_size: ClassVar[int] = 1
    """How many numbers the state of a trace has; a client's first query finds zeros."""
    blind_spots: ClassVar[str] = ""
    """What the guard cannot see, in sentences for the reader of a report; empty if its author does not say."""

    def __init__(self, params: MemoryGuardParams) -> None:
        """Take the parameters; the constructor registers every buffer with the fitted buffer's shape and dtype."""
        super().__init__()
        self.name, self.params = params.name, params

    def check_schema(self, schema: "InputSchema") -> None:
        """Refuse an input that the guard cannot judge, before anything is fitted.

        Raises:
            ValueError: the input is of another kind; the message says the way out.
        """

    @abstractmethod
    def fit(self, reference: Reference) -> Self:
        """Learn how rows become codes, from rows the model may have been trained on.

        Raises:
            ValueError: the reference cannot support this guard; the message says what would.
        """

    @abstractmethod
    def calibrate(self, clean: Batch) -> Self:
        """Learn what sequences of honest queries look like, from calibration rows with the model's output.

        Raises:
            ValueError: there are too few rows; the message says how many are needed.
        """

    @property
    @abstractmethod
    def width(self) -> int:
        """How many numbers a code has, at most :data:`WIDEST`."""

    @abstractmethod
    def encode(self, batch: Batch) -> Tensor:
        """Give the code of each row: (n, w) float32. A row's code depends on this row alone."""

    @abstractmethod
    def step(self, code: npt.NDArray[np.float32], trace: Trace) -> Step:
        """Weigh one query of a client whose earlier queries are ``trace``. Nothing is remembered here."""

    @property
    def crowd_size(self) -> int:
        """How many of the last different queries of all clients ``among`` compares; 0 if there is no ``among``."""
        return 0

    def among(
        self,
        codes: npt.NDArray[np.float32],
        owners: npt.NDArray[np.uint64],
        repeats: npt.NDArray[np.bool_],
        crowd: Crowd,
    ) -> Among:
        """Weigh queries (n, w) of several clients by the queries of other clients before them.

        ``owners`` (n,) tell the clients apart, and ``repeats`` (n,) marks exact repeats of any client's query. Nothing
        is remembered here. The evidence of a guard with a crowd is the mean of this evidence and of the evidence
        against the client, so that an honest client crosses the average run length as seldom as before.
        """
        raise NotImplementedError

    @abstractmethod
    def evidence(self, state: npt.NDArray[np.float64]) -> float:
        """Give the evidence against a client in a state (s,): an e-detector, which an honest client's queries raise.

        The evidence stands while it is at least ``average_run_length``; then honest clients cross it once in so many
        queries, on average, at most (Shin, Ramdas, Rinaldo 2024, "E-detectors").
        """
