"""Records the operations of one forward pass on a few rows."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any, Self

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from guards.model.torch_model import TorchModel, taken_at_once

__all__ = ["Operation", "Trace"]

SAME_VALUES = frozenset(
    (
        *("view", "_unsafe_view", "reshape", "squeeze", "unsqueeze", "clone", "_to_copy", "contiguous", "alias"),
        *("detach", "slice", "t", "transpose", "permute", "expand", "lift_fresh", "clamp", "clamp_min", "clamp_max"),
    )
)
"""Operations that do not change a probability."""


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    """One operation of torch: its name without the overload, its arguments, and the tensors that it returned."""

    name: str
    args: tuple[Any, ...]
    gave: tuple[Tensor, ...]

    @property
    def tensor(self) -> Tensor | None:
        """Give the first argument, if it is a tensor."""
        return self.args[0] if self.args and isinstance(self.args[0], Tensor) else None


@dataclass(slots=True, eq=False)
class Trace:
    """The operations of one forward pass, in order, and the tensor of outputs."""

    rows: int
    outputs: Tensor = field(default_factory=lambda: torch.empty(0))
    operations: list[Operation] = field(default_factory=list)

    @classmethod
    @torch.inference_mode(mode=False)  # inference mode does not split operations such as linear
    @torch.no_grad()
    def of(cls, model: TorchModel, prepared: Tensor) -> Self:
        """Run prepared rows (n, ...) and record the operations."""
        prepared = taken_at_once(prepared, model.least_rows, model.most_rows)
        trace = cls(len(prepared))
        with _Recording(trace.operations):
            trace.outputs = model.raw(prepared.clone())
        return trace

    def last(self) -> Operation | None:
        """Give the operation that computed the outputs' values; later operations only move or shape the values."""
        return next((each for each in self._backwards() if each.name not in SAME_VALUES or each.tensor is None), None)

    @property
    def clamps(self) -> bool:
        """Whether the outputs are clamped after the operation that computed them."""
        last = self.last()
        return any(
            each.name.startswith("clamp") for each in takewhile(lambda each: each is not last, self._backwards())
        )

    def _backwards(self) -> Iterator[Operation]:
        """Go back from the outputs, through the first argument of each operation."""
        wanted: Tensor | None = self.outputs
        for operation in reversed(self.operations):
            if any(tensor is wanted for tensor in operation.gave):
                yield operation
                wanted = operation.tensor

    @property
    def softmax_over_rows(self) -> bool:
        """Whether the outputs come from a softmax over axis 0, which is the rows: then they mean nothing."""
        last = self.last()
        over = last is not None and last.name.endswith("softmax") and last.args[1:2] == (0,)
        return over and self.outputs.ndim > 1

    @property
    def squeezes(self) -> bool:
        """Whether a squeeze() names no axis or the first axis, and so drops the axis of the rows of a single row."""
        return any(len(each.args) == 1 or each.args[1] in (0, [0]) for each in self.named("squeeze"))

    def named(self, *names: str) -> Iterator[Operation]:
        """Go through the operations that have one of these names."""
        return (operation for operation in self.operations if operation.name in names)


class _Recording(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, into: list[Operation]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.into = into

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Keep torch from importing its compiler for the recording: the import takes more than a second."""
        return False

    def __torch_dispatch__(
        self,
        func: Any,  # noqa: ANN401 - torch's own signature
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> object:
        gave: object = func(*args, **(kwargs or {}))
        tensors = tuple(leaf for leaf in tree_leaves(gave) if isinstance(leaf, Tensor))
        self.into.append(Operation(func.overloadpacket.__name__, args, tensors))
        return gave
