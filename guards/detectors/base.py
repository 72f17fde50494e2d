"""The base class of detectors, which the author of a new detector subclasses."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, Self

from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from guards.types import Batch, Finding, Reference

if TYPE_CHECKING:
    from guards.input.schema import InputSchema

__all__ = ["Detector", "Params"]


class Params(BaseModel):
    """A detector's, monitor's or explainer's parameters: a closed model with its own ``kind`` literal."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Detector(nn.Module, ABC):
    """Turns a batch into one score per row, larger meaning stranger.

    Fitted state lives in buffers, so that a bundle can keep it as tensors and ``.to(device)`` moves it. The constructor
    registers every buffer, with the dtype that the fitted buffer has: a bundle with other buffers is refused. A row's
    score depends on this row alone: never on other rows of the batch, and never on their number.
    """

    Params: ClassVar[type[Params]]
    needs_output: ClassVar[bool] = False
    """Whether ``score`` reads ``batch.output``, and so has to wait for the model."""
    reads_early: ClassVar[bool] = False
    """Whether ``score`` reads ``batch.output.early``, which is computed only if a guard reads it, and may be None."""
    reads_views: ClassVar[bool] = False
    """Whether ``score`` reads ``batch.output.views``, the model's answers to what :meth:`views` makes of the rows."""
    differentiable: ClassVar[bool] = False
    """Whether gradients of ``score`` explain the score: it has no jumps, and is not flat where inputs matter."""
    blind_spots: ClassVar[str] = ""
    """What the detector cannot see, in sentences for the reader of a report; empty if its author does not say."""

    def check_schema(self, schema: "InputSchema") -> None:
        """Refuse an input that the detector cannot judge, before anything is fitted.

        Raises:
            ValueError: the input is of another kind, or lacks what a parameter names; the message says the way out.
        """

    @abstractmethod
    def fit(self, reference: Reference) -> Self:
        """Learn from rows the model may have been trained on, never from calibration rows.

        Raises:
            ValueError: the reference cannot support this detector; the message says what would.
        """

    @abstractmethod
    def score(self, batch: Batch) -> Tensor:
        """Score each row: (n,) float32, larger is stranger, NaN if the row cannot be judged."""

    def views(self, x: Tensor) -> Tensor:
        """Make views of rows (n, ...), the model's input: (v, n, ...). They do not depend on what was fitted.

        The views ride in the model's pass over a batch, so that an exception here fails the batch, as one of the model
        does. A row's views depend on this row alone. At most one guard of a config may read views.
        """
        raise NotImplementedError("reads_views is true, and views() is not there")

    def examine(self, batch: Batch, *, causes: bool) -> Finding:
        """Score rows, and mark their violations and, if ``causes`` is true, their causes.

        A detector may override this method if its score, causes and violations share work.
        """
        return Finding(self.score(batch), self.violations(batch), self.causes(batch) if causes else None)

    def causes(self, batch: Batch) -> Tensor | None:  # noqa: ARG002
        """Mark what made each row strange: (n, c) bool, columns named by :meth:`cause_names`."""
        return None

    def cause_names(self) -> tuple[str, ...]:
        """Name the columns of :meth:`causes`; fixed once fitted."""
        return ()

    def violations(self, batch: Batch) -> Tensor | None:  # noqa: ARG002
        """Mark rows (n,) bool that break a bound declared by the user; such a row is flagged whatever its p-value."""
        return None
