"""The models that benchmarks serve: how a config names them, and the rows that they take."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from benchmarks.stacks import cnn, linear

__all__ = ["CNN", "LINEAR", "ServedModel"]


@dataclass(frozen=True)
class ServedModel:
    """A model: its builder, the config's section ``input``, and a function that makes rows (count, seed)."""

    build: Callable[[], nn.Module]
    input: dict[str, Any]
    rows: Callable[[int, int], Tensor]

    @property
    def builder(self) -> str:
        """The builder as a config names it."""
        return f"{self.build.__module__}:{self.build.__name__}"


CNN = ServedModel(cnn.build, {"kind": "image", "shape": [1, cnn.ROWS, cnn.ROWS]}, cnn.images)
LINEAR = ServedModel(linear.build, {"kind": "tensor", "shape": [linear.COLUMNS]}, linear.rows)
"""A model that costs next to nothing: what is measured is the server."""
