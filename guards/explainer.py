"""What answers, on demand, why the model said what it said."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from guards import detector
from guards.model import TorchModel
from guards.schema import InputSchema

__all__ = ["Attribution", "Explainer", "NotExplainableError"]


class NotExplainableError(Exception):
    """This method cannot explain this row; the message says which could, or what is missing."""


@dataclass(frozen=True, slots=True, eq=False)
class Attribution:
    """What each input contributed to an output, row by row.

    ``values`` has the input's shape; ``baseline_value`` and ``output_value`` (n,) are the explained logit (or value) at
    the baseline and at the row, ``convergence_delta`` (n,) what the contributions lack of their difference.
    """

    values: Tensor
    baseline_value: Tensor
    output_value: Tensor
    convergence_delta: Tensor


class Explainer(ABC):
    """Explains rows of a model; stateless, and so safe to call from any thread."""

    Params: ClassVar[type[detector.Params]]

    @abstractmethod
    def __init__(self, params: detector.Params, *, model: TorchModel, schema: InputSchema) -> None:
        """Keep the model and its parameters."""

    @abstractmethod
    def explain(self, x: Tensor, target: Tensor) -> Attribution:
        """Explain rows (n, ...) with regard to the output ``target`` (n,): a class index, or 0 for regression.

        Raises:
            NotExplainableError: the method does not apply to these rows.
        """
