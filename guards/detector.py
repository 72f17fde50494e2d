"""The one class that a third party subclasses to write a detector."""

from abc import ABC, abstractmethod
from typing import ClassVar, Self

from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from guards.types import Batch, Finding, Reference

__all__ = ["Detector", "Params"]


class Params(BaseModel):
    """A detector's, monitor's or explainer's parameters: a closed model with its own ``kind`` literal."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Detector(nn.Module, ABC):
    """Turns a batch into one score per row, larger meaning stranger.

    Fitted state lives in buffers, so that a bundle can keep it as tensors and ``.to(device)`` moves it. A score may
    depend on its own row alone: never on its neighbours, and never on how many there are.
    """

    Params: ClassVar[type[Params]]
    needs_output: ClassVar[bool] = False
    """Whether ``score`` reads ``batch.output``, and so has to wait for the model."""
    differentiable: ClassVar[bool] = False
    """Whether gradients of ``score`` say how it changes: without jumps, and nowhere flat where it matters."""

    @abstractmethod
    def fit(self, reference: Reference) -> Self:
        """Learn from rows the model may have been trained on, never from calibration rows.

        Raises:
            ValueError: the reference cannot support this detector; the message says what would.
        """

    @abstractmethod
    def score(self, batch: Batch) -> Tensor:
        """Score each row: (n,) float32, larger is stranger, NaN where it cannot be judged."""

    def examine(self, batch: Batch, *, causes: bool) -> Finding:
        """Score rows, and say what else there is to say of them; ``causes`` only where they are asked for.

        A detector whose score, causes and violations share their work may override this.
        """
        return Finding(self.score(batch), self.violations(batch), self.causes(batch) if causes else None)

    def causes(self, batch: Batch) -> Tensor | None:  # noqa: ARG002
        """Mark what made each row strange: (n, c) bool, columns named by :meth:`cause_names`."""
        return None

    def cause_names(self) -> tuple[str, ...]:
        """Name the columns of :meth:`causes`; fixed once fitted."""
        return ()

    def violations(self, batch: Batch) -> Tensor | None:  # noqa: ARG002
        """Mark rows (n,) bool that break a bound the user declared; they flag whatever the p-value is."""
        return None
