"""The outputs of a model for some rows, together with the rows' labels."""

from dataclasses import dataclass

from torch import Tensor

__all__ = ["Labelled"]


@dataclass(frozen=True, slots=True, eq=False)
class Labelled:
    """The model's ``logits`` (n, k) or values (n, 1) for rows with the labels ``y`` (n,), None if there are none."""

    logits: Tensor
    y: Tensor | None
